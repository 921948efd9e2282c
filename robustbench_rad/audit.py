"""The main job: a plan in, a result out.

prepare (load model and cases, check every file) → preflight → fit → pass (chunk by chunk, resumable) → judge → assemble.
Everything after the pass is a pure function of the scores on disk, so a finished run is judged again in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robustbench_rad import __version__
from robustbench_rad.assembly import code_sha256, data_summary, model_summary, shareable_plan, versions
from robustbench_rad.cases import CaseTable, read_cases, require_readable
from robustbench_rad.classifier import Classifier, untouched
from robustbench_rad.conditions import Batch, Condition, Space
from robustbench_rad.data.training import training_table
from robustbench_rad.defences.chain import DefendedClassifier
from robustbench_rad.defences.comparison import UNDEFENDED, beside
from robustbench_rad.defences.sections import passes as defence_passes
from robustbench_rad.errors import DataError
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.gallery import pictures
from robustbench_rad.judging import JudgingRecord, policy_of
from robustbench_rad.loader import in_chunks, load_in_order
from robustbench_rad.loading import load_classifier, source_sha256
from robustbench_rad.measured import Measured, make_conditions
from robustbench_rad.misfits import misfit_message
from robustbench_rad.pairing import CaseSet
from robustbench_rad.plan import Plan, digest, make_plan
from robustbench_rad.preflight import choose_sample, preflight
from robustbench_rad.preflight_items import left_out_item, sentinel_items
from robustbench_rad.pricing import Price, prices, sentence
from robustbench_rad.profile import Profile, ProfileFile, effective_profile, read_profile
from robustbench_rad.progress import Progress
from robustbench_rad.query import CountingQuery
from robustbench_rad.result import AuditResult, PreflightItem, Provenance
from robustbench_rad.runs import Identity, RunFolder, default_folder
from robustbench_rad.scores import Chunk, ScoreTable
from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from robustbench_rad.conditions import State

PREFLIGHT_CASES = 16


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A finished audit: the result and where its run lies."""

    result: AuditResult
    folder: Path


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


def run_audit(plan: Plan, *, folder: Path | None = None, progress: Progress | None = None) -> Audit:
    """Run an audit, or continue it where it was stopped.

    Args:
        plan: What to audit.
        folder: Run folder; default: ``runs/<plan>-<hash>``, the same for the same plan, model and data.
        progress: Is told what happens.

    Raises:
        RobustbenchRadError: Anything the user can put right; nothing that was finished is lost.
    """
    progress = progress or Progress()
    try:
        prepared = prepare(plan, progress=progress)
        progress.message(sentence(prepared.prices))
        declared = plan.path(plan.run.folder) if plan.run.folder else None
        place = folder or declared or default_folder(Path(plan.source).stem, prepared.identity)
        with (
            RunFolder.open(place, prepared.identity, chunk_size=plan.run.chunk_size) as run,
            untouched(prepared.classifier.module),
            _full_float32(),
        ):
            if prepared.undefended is not None:
                with _timed(prepared.timings_s, "without defences"):
                    _run_undefended(prepared.undefended, place, progress)
            return Audit(result=beside(_run(prepared, run, progress), place), folder=place)
    finally:
        progress.close()


def _run_undefended(prepared: Prepared, place: Path, progress: Progress) -> None:
    """Run the model without its defences first, in a folder inside the run folder; continued like any other run."""
    progress.message("first the model without its defences, to compare with")
    chunk_size = prepared.plan.run.chunk_size
    with RunFolder.open(place / UNDEFENDED, prepared.identity, chunk_size=chunk_size, within=place) as run:
        _run(prepared, run, progress)
    progress.message("now the model behind its defences")


@contextmanager
def _full_float32() -> Iterator[None]:
    """Compute in full float32: the shortened mantissa of TF32 would make margins depend on the device's mood."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def prepare(plan: Plan, *, progress: Progress | None = None) -> Prepared:
    """Load the model and the cases, and read every file once, so that nothing breaks hours later.

    Raises:
        PlanError: An unknown check or option.
        ModelError: The model cannot be loaded.
        DataError: A manifest is wrong, or files are unreadable (all of them are listed).
    """
    progress = progress or Progress()
    timings: dict[str, float] = {}
    with _timed(timings, "load"):
        file = read_profile(plan.profile, base=plan.profile_folder)
        profile = effective_profile(plan, file)
        conditions = make_conditions(plan, profile)
        classifier = load_classifier(plan, device=plan.device, allow_pickle=plan.run.allow_pickle)
        table = read_cases(plan, volumes=len(plan.model.input.size) == 3)
        training_table(plan)  # read by clean.data-leaks only; a wrong one is told of under any profile
    if plan.data.max_cases:
        table = table.subset(plan.data.max_cases, seed=plan.seed)
    with _timed(timings, "verify files"):
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
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = round(timings.get(name, 0.0) + time.perf_counter() - start, 3)


def _run(prepared: Prepared, run: RunFolder, progress: Progress) -> AuditResult:
    timings = prepared.timings_s
    evaluator = Evaluator(
        classifier=prepared.classifier,
        conditions=prepared.conditions,
        states={},
        modality=prepared.plan.data.modality,
        seed=prepared.plan.seed,
        batch_size=prepared.plan.run.batch_size,
        query=CountingQuery(prepared.classifier),
        progress=progress,
        name=run.hashed,
    )
    with _timed(timings, "preflight"):
        items = _preflight(prepared, evaluator)
    with _timed(timings, "fit"):
        needed = _pending(prepared, run) or prepared.plan.report.images
        states = _fit(prepared, run, evaluator, progress) if needed else {}
    evaluator = replace(evaluator, states=states)
    with _timed(timings, "pass"):
        chunks = _pass(prepared, run, evaluator, progress)
    record = _record(prepared, run, items, chunks)
    record.write(run.path)
    with _timed(timings, "judge"):
        scores = ScoreTable.join(chunks, prepared.table.case_ids)
        result = record.judge(scores, prepared.profile, tuple(record.measured.values()))
    images = pictures(prepared, evaluator, scores) if prepared.plan.report.images else []
    run.finish()
    ended = {"timings_s": timings, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    provenance = result.provenance.model_copy(update=ended)
    return result.model_copy(update={"pictures": images, "provenance": provenance})


def _preflight(prepared: Prepared, evaluator: Evaluator) -> list[PreflightItem]:
    """Look at a small sample, the same one for any order of the cases."""
    table, seed = prepared.table, prepared.plan.seed
    ranked = sorted(range(len(table.records)), key=lambda i: derive_seed(seed, "preflight", table.records[i].case_id))
    chosen = choose_sample(table.labels, ranked, size=PREFLIGHT_CASES)
    cases = list(load_in_order(table, sorted(chosen), workers=0))
    items = preflight(prepared.classifier, [evaluator.display_batch(cases)], table=table, plan=prepared.plan)
    left_out = left_out_item(prepared.profile)
    return [*items, *sentinel_items(prepared.conditions), *([] if left_out is None else [left_out])]


def _fit(prepared: Prepared, run: RunFolder, evaluator: Evaluator, progress: Progress) -> dict[str, State | None]:
    """Let every condition that needs it learn from the whole set; what an earlier attempt learned is read back."""
    states: dict[str, State | None] = {}
    device = prepared.classifier.device
    for condition in prepared.conditions:
        if not condition.needs_fit:
            continue
        state = run.read_state(condition.id)
        if state is None:
            progress.stage(f"fitting {condition.id}", len(prepared.table.records))
            state = condition.fit(prepared.classifier, _fit_batches(prepared, evaluator, condition.works_in, progress))
            if state is not None:
                run.write_state(condition.id, state)
        states[condition.id] = state and {name: tensor.to(device) for name, tensor in state.items()}
    return states


def _fit_batches(prepared: Prepared, evaluator: Evaluator, space: Space, progress: Progress) -> Iterator[Batch]:
    table, run = prepared.table, prepared.plan.run
    loaded = load_in_order(table, range(len(table.records)), workers=run.workers)
    for cases in in_chunks(loaded, run.batch_size):
        yield from evaluator.batches(space, cases)
        progress.advance(len(cases))


def _pass(prepared: Prepared, run: RunFolder, evaluator: Evaluator, progress: Progress) -> list[Chunk]:
    """Evaluate the chunks that are not yet on disk, and read all of them."""
    members = _members(prepared.table.case_ids, run.chunk_size)
    pending = _pending(prepared, run)
    done = len(members) - len(pending)
    progress.stage("audit", len(prepared.table.records))
    if done:
        progress.message(f"continuing: {done} of {len(members)} chunks are already on disk")
        progress.advance(sum(len(m) for n, m in enumerate(members) if n not in set(pending)))
    order = [n * run.chunk_size + i for n in pending for i in range(len(members[n]))]
    cases = load_in_order(prepared.table, order, workers=prepared.plan.run.workers)
    for number in pending:
        chunk = evaluator.chunk([next(cases) for _ in members[number]])
        run.write_chunk(number, chunk)
        progress.advance(len(members[number]))
        done += 1
        progress.chunk(done, len(members))
    return list(run.chunks(members))


def _pending(prepared: Prepared, run: RunFolder) -> list[int]:
    """Numbers of the chunks that are not yet on disk."""
    count = len(_members(prepared.table.case_ids, run.chunk_size))
    return [number for number in range(count) if not run.chunk_path(number).is_file()]


def _members(case_ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(case_ids[start : start + size]) for start in range(0, len(case_ids), size)]


def _record(
    prepared: Prepared, run: RunFolder, items: Sequence[PreflightItem], chunks: Sequence[Chunk]
) -> JudgingRecord:
    """Everything that judging needs beside the chunks; no identifier in the clear."""
    plan, table = prepared.plan, prepared.table
    return JudgingRecord(
        cases=tuple(run.hashed(case) for case in table.case_ids),
        case_set=CaseSet.of(table),
        patients=table.patient_codes,
        labels=table.labels.astype("float64"),
        metadata={column: table.metadata(column) for column in plan.data.columns},
        measured={condition.id: Measured.of(condition) for condition in prepared.conditions},
        plan=make_plan(shareable_plan(plan), base=Path(), source=plan.source),
        profile=prepared.file,
        preflight=tuple(items),
        model=model_summary(plan, prepared.classifier),
        data=data_summary(plan, table),
        provenance=_provenance(prepared, run, chunks),
    )


def _provenance(prepared: Prepared, run: RunFolder, chunks: Sequence[Chunk]) -> Provenance:
    passes: dict[str, float] = {}
    for chunk in chunks:
        for condition, (forwards, backwards) in chunk.passes.items():
            passes[condition] = passes.get(condition, 0.0) + forwards + 2 * backwards
    per_case = defence_passes(prepared.plan.model.defences) / len(prepared.table.records)
    return Provenance(
        tool_version=__version__,
        code_sha256=code_sha256(),
        measurement_sha256=prepared.identity.sha256,
        **policy_of(prepared.profile),
        seed=prepared.plan.seed,
        device=str(prepared.classifier.device),
        versions=versions(),
        started=run.started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        timings_s=prepared.timings_s,
        passes={condition: round(total * per_case, 2) for condition, total in passes.items()},
    )
