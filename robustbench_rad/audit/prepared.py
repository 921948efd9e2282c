"""What is known before the first image is altered: model, cases, conditions, and that every file can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from robustbench_rad.cases import CaseTable, read_cases, require_readable
from robustbench_rad.classifier import Classifier
from robustbench_rad.conditions import Condition
from robustbench_rad.data.training import training_table
from robustbench_rad.defences.chain import DefendedClassifier
from robustbench_rad.defences.sections import passes as defence_passes
from robustbench_rad.errors import DataError
from robustbench_rad.loading import load_classifier, source_sha256
from robustbench_rad.measured import make_conditions
from robustbench_rad.misfits import misfit_message
from robustbench_rad.plan import Plan, digest
from robustbench_rad.pricing import Price, prices
from robustbench_rad.profile import Profile, ProfileFile, effective_profile, read_profile
from robustbench_rad.progress import Progress
from robustbench_rad.result import PreflightItem
from robustbench_rad.runs import Identity


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that is known before the first image is altered."""

    plan: Plan
    file: ProfileFile
    profile: Profile
    classifier: Classifier
    table: CaseTable
    conditions: tuple[Condition, ...]
    preflight: tuple[PreflightItem, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """What the run is a run of."""
        data = self.plan.data.model_dump(mode="json", include={"modality", "stored_bits", "uncertain", "anatomy"})
        measured = {
            "profile": self.profile.measurement,
            "versions": {condition.id: condition.version for condition in self.conditions},
            "seed": self.plan.seed,
            "model": self.plan.model.measured(),
            "data": data,
            "device": self.classifier.device.type,
        }
        files = {condition.id: sha256 for condition in self.conditions if (sha256 := condition.reads_sha256)}
        if files:
            measured["files"] = files
        if isinstance(self.classifier, DefendedClassifier):
            measured["defences"] = [defence.version for defence in self.classifier.defences]
        model_sha256 = digest([self.classifier.weights_sha256, source_sha256(self.plan, self.classifier.module)])
        return Identity(plan=digest(measured), model=model_sha256, data=self.table.digest)

    @property
    def prices(self) -> tuple[Price, ...]:
        """Price of every condition in passes of the network, the run without defences included."""
        return prices(
            self.conditions,
            findings=len(self.classifier.findings),
            cases=len(self.table.records),
            factor=float(defence_passes(self.plan.model.defences) + (self.undefended is not None)),
            masks=self.plan.data.anatomy is not None or self.plan.data.source == "factory",  # items may bring theirs
        )

    @property
    def passes_per_case(self) -> float:
        """Price: forward-equivalents of the network per case, clean passes and the run without defences included."""
        return sum(price.total for price in self.prices) / max(1, len(self.table.records))

    @property
    def undefended(self) -> Prepared | None:
        """The same audit of the model without its defences; None when it has none, or the plan asks for no comparison."""
        if not isinstance(self.classifier, DefendedClassifier) or not self.plan.model.compare_undefended:
            return None
        model = self.plan.model.model_copy(update={"defences": []})
        report = self.plan.report.model_copy(update={"images": False})
        plan = self.plan.model_copy(update={"model": model, "report": report})
        return replace(self, plan=plan, classifier=self.classifier.undefended, timings_s={})


def prepare(plan: Plan, *, progress: Progress | None = None) -> Prepared:
    """Load the model and the cases, and read every file once, so that nothing breaks hours later.

    Raises:
        PlanError: An unknown check or option.
        ModelError: The model cannot be loaded.
        DataError: A manifest is wrong, or files are unreadable (all of them are listed).
    """
    progress = progress or Progress()
    timings: dict[str, float] = {}
    with timed(timings, "load"):
        file = read_profile(plan.profile, base=plan.profile_folder)
        profile = effective_profile(plan, file)
        conditions = make_conditions(plan, profile)
        classifier = load_classifier(plan, device=plan.device, allow_pickle=plan.run.allow_pickle)
        table = read_cases(plan, volumes=len(plan.model.input.size) == 3)
        training_table(plan)  # read by clean.data-leaks only; a wrong one is told of under any profile
    if plan.data.max_cases:
        table = table.subset(plan.data.max_cases, seed=plan.seed)
    with timed(timings, "verify files"):
        progress.stage("reading files", len(table.records))
        table = require_readable(
            table, plan.data.on_unreadable, workers=plan.run.workers, progress=lambda _done, _of: progress.advance(1)
        )
    if not table.records:
        raise DataError("no case is left to audit", hint="See the exclusions above.")
    if misfit := misfit_message(table):
        progress.message(misfit)
    return Prepared(
        plan=plan,
        file=file,
        profile=profile,
        classifier=classifier,
        table=table,
        conditions=conditions,
        timings_s=timings,
    )


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that the block takes."""
    start = time.perf_counter()
    yield
    timings[name] = round(timings.get(name, 0.0) + time.perf_counter() - start, 3)
