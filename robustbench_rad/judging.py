"""What a judgement needs and the chunks do not hold, kept beside them: a finished run is judged without model or images.

``judging.npz`` in the run folder holds, in case order, salted hashes of the case ids and their ranks, patient codes, labels and
the declared metadata columns; and the plan, the profile, what was measured, and the summaries of model and data. An audit
judges through this record too, so judging again gives the same result by construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.assembly import certifiable, finding_summaries, range_in, with_physical_units
from robustbench_rad.checks.adversarial_evidence import WHOLE_PLANE
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.errors import RunFolderError
from robustbench_rad.judgement import judge_audit
from robustbench_rad.loading import head_spec
from robustbench_rad.measured import Coverage, Measured, coverage, make_conditions
from robustbench_rad.pairing import CaseSet
from robustbench_rad.plan import ModelSection, Plan, digest, make_plan
from robustbench_rad.preflight_items import unsolved
from robustbench_rad.profile import Profile, ProfileFile, effective_profile, read_profile
from robustbench_rad.result import AuditResult, DataSummary, ModelSummary, PreflightItem, Provenance
from robustbench_rad.scores import Chunk, ScoreTable, read_sealed, write_sealed
from robustbench_rad.seeds import derive_seed

FILE = "judging.npz"
FORMAT = 2  # 2: ranks of the cases, so that runs of any folder can be paired
AGAIN = "Run its audit again with this version: finished chunks are kept, so it takes seconds."


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgingRecord:
    """Everything of a run but its scores.

    Attributes:
        cases: N salted hashes of case ids.
        case_set: Which cases they are, to pair them with those of another run.
        patients: ``(N,)`` patient codes.
        labels: ``(N, K)``: 1, 0 or NaN.
        metadata: Declared column → N values.
        measured: What was run, by condition id.
        plan: The plan; absolute paths shortened.
        profile: The profile file it was run under.
        preflight: Items of the preflight.
        model: Summary of the model.
        data: Summary of the cases.
        provenance: As of the end of the pass.
    """

    cases: tuple[str, ...]
    case_set: CaseSet
    patients: NDArray[np.int64]
    labels: NDArray[np.float64]
    metadata: Mapping[str, Sequence[str]]
    measured: Mapping[str, Measured]
    plan: Plan
    profile: ProfileFile
    preflight: tuple[PreflightItem, ...]
    model: ModelSummary
    data: DataSummary
    provenance: Provenance

    def write(self, folder: Path) -> None:
        """Write the record into a run folder, whole or not at all."""
        header = {
            "format": FORMAT,
            "cases": self.cases,
            "case_set": self.case_set.sha256,
            "metadata": {column: list(values) for column, values in self.metadata.items()},
            "measured": [condition.to_plain() for condition in self.measured.values()],
            "plan": self.plan.effective(),
            "profile": self.profile.model_dump(mode="json"),
            "preflight": [item.model_dump(mode="json") for item in self.preflight],
            "model": self.model.model_dump(mode="json"),
            "data": self.data.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json"),
        }
        arrays = {"ranks": self.case_set.ranks, "patients": self.patients, "labels": self.labels}
        write_sealed(folder / FILE, header, arrays)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a run folder.

        Raises:
            RunFolderError: There is none, it is damaged, or of another version.
        """
        path = folder / FILE
        if not path.is_file():
            raise RunFolderError(f"{folder}: no finished run: it holds no {FILE}", hint=AGAIN)
        try:
            header, arrays = read_sealed(path)
            if header["format"] != FORMAT:
                raise ValueError(f"expected format {FORMAT}, got {header['format']!r}")
            return cls._made(header, arrays, str(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{path}: not a record that can be judged: {error}", hint=AGAIN) from error

    @classmethod
    def _made(cls, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], source: str) -> Self:
        conditions = [Measured.from_plain(plain) for plain in header["measured"]]
        return cls(
            cases=tuple(header["cases"]),
            case_set=CaseSet(sha256=header["case_set"], ranks=arrays["ranks"]).check(len(header["cases"])),
            patients=arrays["patients"],
            labels=arrays["labels"],
            metadata=header["metadata"],
            measured={condition.id: condition for condition in conditions},
            plan=make_plan(header["plan"], base=Path(), source=source),
            profile=ProfileFile.model_validate(header["profile"]),
            preflight=tuple(PreflightItem.model_validate(item) for item in header["preflight"]),
            model=ModelSummary.model_validate(header["model"]),
            data=DataSummary.model_validate(header["data"]),
            provenance=Provenance.model_validate(header["provenance"]),
        )

    def context(self, scores: ScoreTable, profile: Profile, served: Coverage) -> JudgeContext:
        """Everything a judgement may look at."""
        return JudgeContext(
            scores=scores,
            findings=self.plan.model.names,
            labels=self.labels,
            patients=self.patients,
            metadata=self.metadata,
            roles=dict(self.plan.data.metadata),
            claims=self.plan.claims,
            readers=self.plan.data.readers,
            uncertain=self.plan.data.uncertain,
            legitimate=self.plan.data.anatomy.legitimate if self.plan.data.anatomy else {},
            prevalence=self.plan.data.prevalence,
            costs=self.plan.data.cost,
            thresholds=operating_points(self.plan.model),
            minimum_auroc=profile.minimum_auroc,
            levels=with_physical_units(self.plan, served.levels),
            reach={id: _reach(condition.options) for id, condition in self.measured.items()},
            range_in=range_in(self.plan),
            preflight=self.preflight,
            checks=profile.checks,
            seed=derive_seed(self.plan.seed, "judge") % 2**32,
        )

    def judge(self, scores: ScoreTable, profile: Profile, wanted: Sequence[Measured]) -> AuditResult:
        """Judge the scores under a profile that asks for ``wanted``. Pure, and fast."""
        served = coverage(wanted, self.measured)
        context = self.context(scores, profile, served)
        judgement = judge_audit(
            context,
            profile,
            errors=served.missing,
            partial={**served.partial, **unsolved(self.preflight)},
            preflight=list(self.preflight),
        )
        findings = finding_summaries(self.plan, context)
        return AuditResult(
            title=self.plan.title,
            verdict=judgement.verdict,
            complete=served.complete,
            model=self.model,
            data=self.data,
            preflight=list(self.preflight),
            findings=findings,
            criteria=[item.criterion for item in judgement.judged],
            curves=judgement.curves,
            tables=judgement.tables,
            certifiable=certifiable(profile, context, findings),
            score=judgement.score,
            notices=judgement.notices,
            plan=self.plan.effective(),
            provenance=self.provenance.model_copy(update=policy_of(profile)),
        )


def operating_points(section: ModelSection) -> dict[str, float]:
    """Finding → operating point as a probability; none where the largest of three classes or more decides."""
    declared = dict(zip(section.names, head_spec(section).thresholds, strict=True))
    if len(section.classes) == 2:  # the larger of two classes has a probability of one half or more
        declared = {name: 0.5 if math.isnan(point) else point for name, point in declared.items()}
    return {name: point for name, point in declared.items() if not math.isnan(point)}


def policy_of(profile: Profile) -> dict[str, str]:
    """What the provenance says of how it was judged."""
    return {
        "policy_sha256": digest(profile.policy),
        "profile": profile.label,
        "profile_sha256": profile.sha256,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedRun:
    """A finished run read from its folder."""

    folder: Path
    record: JudgingRecord
    scores: ScoreTable

    @classmethod
    def read(cls, place: Path) -> Self:
        """Read a run folder, or the one that a ``result.json`` lies in.

        Raises:
            RunFolderError: Not the folder of a finished run, or chunks are missing or damaged.
        """
        if not place.exists():
            raise RunFolderError(f"{place}: no such run folder or result file")
        folder = place if place.is_dir() else place.parent
        record = JudgingRecord.read(folder)
        chunks = [Chunk.read(path) for path in sorted((folder / "chunks").glob("*.npz"))]
        found = [case for chunk in chunks for case in chunk.cases]
        if sorted(found) != sorted(record.cases):
            raise RunFolderError(
                f"{folder}: its chunks do not hold the {len(record.cases)} cases of its record, but {len(found)}",
                hint=AGAIN,
            )
        return cls(folder=folder, record=record, scores=ScoreTable.join(chunks, record.cases))

    @property
    def profile(self) -> Profile:
        """The effective profile of its record: the file plus what the plan overrides."""
        return effective_profile(self.record.plan, self.record.profile)

    def under(self, profile: Path | str | None) -> Self:
        """The same run with another profile in its record.

        Args:
            profile: Built-in profile or TOML file; None: the one it was run under.

        Raises:
            PlanError: No such profile, or it asks for what there is not.
        """
        if profile is None:
            return self
        return replace(self, record=replace(self.record, profile=read_profile(str(profile))))

    def judge(self, profile: Path | str | None = None) -> AuditResult:
        """Judge the run again, without model and images.

        Args:
            profile: Built-in profile or TOML file; None: the one it was run under. What the plan overrides in
                ``[checks]`` stays overridden.

        Raises:
            PlanError: No such profile, or it asks for what there is not.
        """
        effective = self.under(profile).profile
        wanted = [Measured.of(condition) for condition in make_conditions(self.record.plan, effective)]
        result = self.record.judge(self.scores, effective, wanted)
        notice = (
            f"Judged again under {result.provenance.profile} from the scores of a finished run: nothing was measured."
        )
        plan = result.plan if profile is None else {**result.plan, "profile": Path(profile).name}
        return result.model_copy(update={"notices": [notice, *result.notices], "plan": plan})


def _reach(options: Mapping[str, Any]) -> tuple[str, str]:
    """Space and pixels of an attack, by its options; of other conditions nobody asks."""
    return str(options.get("attack_space", WHOLE_PLANE[0])), str(options.get("mask", WHOLE_PLANE[1]))
