"""The result of an audit: one versioned, self-describing JSON object; every report is a pure function of it.

Nothing here holds a patient's name, a path of a file or an identifier in the clear: cases and patients appear as salted
hashes. The schema file beside this module is made anew by
``python -m robustbench_rad.result > robustbench_rad/result.schema.json``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NOT_RUN = "not run"
"""Quantity of the criterion that stands for a check which did not run at all."""

DEFENCES = "model.defences"
"""Check of the tables that set a defended model beside the same model without its defences."""

SCHEMA_VERSION = "1.0"


class Verdict(StrEnum):
    """The three judgements, and what was only shown."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INFORMATIONAL = "informational"


class Domain(StrEnum):
    """Families of checks, in the order of a report."""

    CLEAN = "clean"
    ADVERSARIAL = "adversarial"
    ACQUISITION_SHIFT = "acquisition-shift"
    SHORTCUT = "shortcut"
    SALIENCY = "saliency"
    SUBGROUP = "subgroup"


class Record(BaseModel):
    """Base of all parts: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Interval(Record):
    """An estimate with its confidence interval; None where it is not defined."""

    estimate: float | None
    lower: float | None
    upper: float | None
    confidence: float = 0.95
    method: str = Field(default="", description="Name of the interval, e.g. 'clustered DeLong, logit scale'")


class LevelRecord(Record):
    """One level of a condition."""

    name: str
    value: float
    unit: str


class Criterion(Record):
    """One check on one finding, with its harm, margin and verdict."""

    id: str = Field(description="check/finding/quantity, unique in a result")
    check: str = Field(description="Id of the check, e.g. 'shift.ct.dose'")
    domain: Domain
    finding: str = ""
    subgroup: str = ""
    quantity: str = Field(description="What harm is measured, e.g. 'AUROC drop'")
    level: LevelRecord | None = Field(default=None, description="The level that decided (the worst one)")
    harm: Interval
    tolerance: float | None = Field(description="δ: pass when the upper bound is at most this")
    critical_harm: float | None = Field(description="Δ: no points from here on")
    verdict: Verdict
    reason: str = Field(description="One sentence: why this verdict")
    points: float | None = Field(default=None, description="0–100 from the pessimistic bound")
    critical: bool = False
    needed_positives: int | None = Field(default=None, description="Positives needed to decide, when inconclusive")
    needed_counted: str = Field(
        default="positives", description="What needed_positives counts: positives, negatives or patients"
    )
    positives: int = 0
    negatives: int = 0
    patients: int = 0

    @property
    def available(self) -> int:
        """How many there are of what ``needed_positives`` counts."""
        return {"negatives": self.negatives, "patients": self.patients}.get(self.needed_counted, self.positives)


class CurvePoint(Record):
    """One level of a robustness curve."""

    level: LevelRecord
    value: Interval
    n: int = 0


class Curve(Record):
    """A metric of one finding against the strength of a condition."""

    check: str
    domain: Domain
    finding: str
    metric: str = Field(description="e.g. 'AUROC', 'robust sensitivity'")
    clean: Interval
    points: list[CurvePoint]


class Certifiable(Record):
    """What the cases of one finding and subgroup could show before any score is known; None: nothing, not even chance."""

    finding: str
    subgroup: str = Field(default="", description="Metadata column and value; empty for the whole set")
    positives: int
    negatives: int
    patients: int
    comparisons: int = Field(description="Comparisons judged together; the joint drops carry Bonferroni's level")
    auroc: float = Field(description="AUROC that was supposed")
    sensitivity: float = Field(description="Sensitivity that was supposed")
    correlation: float = Field(default=0.8, description="Supposed, of the AUROC of the same cases under two conditions")
    gained: float = Field(default=0.02, description="Supposed share of positives turned from missed to found by chance")
    alpha: float = Field(default=0.05, description="Two-sided level of one comparison")
    power: float = Field(default=0.8, description="Chance of finding the drop")
    icc: float = Field(default=0.3, description="Supposed intraclass correlation of images of one patient")
    auroc_tolerance: float | None = None
    sensitivity_tolerance: float | None = None
    auroc_drop: float | None = Field(description="Smallest drop that the same cases would show under one condition")
    auroc_drop_joint: float | None = Field(description="The same, judged together with the other comparisons")
    auroc_gap: float | None = Field(description="Smallest gap to the rest, or of the whole to another set of its size")
    auroc_needed: int | None = Field(default=None, description="Positives at which the joint drop is the tolerance")
    sensitivity_drop: float | None
    sensitivity_drop_joint: float | None
    sensitivity_gap: float | None
    sensitivity_needed: int | None = None


class Table(Record):
    """Any other table a check wants shown: rows of plain cells with a caption."""

    check: str
    domain: Domain
    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]
    note: str = ""


class PanelLine(Record):
    """What is written under a panel of one finding: its score before and after."""

    name: str = Field(default="", description="The finding; empty where the text speaks for itself")
    text: str
    flips: bool = Field(default=False, description="Whether the call is another than that of the first panel")


class Panel(Record):
    """One image of a picture, with what is written under it."""

    name: str
    jpeg_base64: str
    difference_base64: str = Field(default="", description="Difference from the first panel, a JPEG; empty: none")
    lines: list[PanelLine] = Field(default_factory=list)
    group: str = Field(default="", description="Panels of one group stand together: an object and its placebo")


class Picture(Record):
    """A small picture for the report, only when the plan allows images: one image, or panels side by side."""

    check: str
    domain: Domain
    caption: str
    png_base64: str = ""
    panels: list[Panel] = Field(default_factory=list)
    field: bool = Field(default=False, description="A mean image, to be shown behind positions and not by itself")


class PreflightItem(Record):
    """One thing checked before the run."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str


class FindingSummary(Record):
    """Labels and clean performance of a finding."""

    name: str
    threshold: float | None
    positives: int
    negatives: int
    unknown: int
    auroc: Interval
    sensitivity: Interval
    specificity: Interval
    claim_auroc: float | None = None
    claim_sensitivity: float | None = None
    claim_specificity: float | None = None


class DataSummary(Record):
    """What was audited."""

    cases: int
    patients: int
    modality: str
    role: str = Field(description="internal | external | temporal")
    metadata: dict[str, dict[str, int]] = Field(description="column → value → number of cases")
    excluded: dict[str, int] = Field(default_factory=dict, description="reason → number of cases left out")
    digest: str = Field(description="SHA-256 over case ids, labels and image files")


class ModelSummary(Record):
    """What was tested."""

    source: str = Field(description="Factory or file name, without its folder")
    head: str
    findings: list[str]
    parameters: int
    weights_sha256: str
    input: dict[str, Any]


class DomainScore(Record):
    """Points of one domain."""

    domain: Domain
    points: float | None = Field(description="0–100; None: nothing in the profile belongs to it")
    weight: float
    checks: int = Field(description="Number of checks of the profile")
    judged: int = Field(description="Number of checks the data could decide")
    verdict: Verdict


class Cost(Record):
    """One of the checks that cost most points."""

    check: str
    finding: str
    points_lost: float


class Score(Record):
    """The score with its interval and what it rests on."""

    total: float | None = Field(description="0–100, or None: no score")
    lower: float | None
    upper: float | None
    why_none: str = ""
    cap: float | None = None
    cap_reason: str = ""
    evidence_coverage: float = Field(description="Share of the profile's checks that the data could decide")
    domains: list[DomainScore]
    costliest: list[Cost]
    utility_gate: Verdict
    utility_reason: str = ""


class Provenance(Record):
    """What is needed to repeat the audit."""

    tool_version: str
    code_sha256: str
    measurement_sha256: str = Field(description="Hash of what was run: model, data, conditions, levels, seed")
    policy_sha256: str = Field(description="Hash of how it is judged: tolerances, weights, critical checks")
    profile: str
    profile_sha256: str
    seed: int
    device: str
    versions: dict[str, str]
    started: str
    finished: str
    timings_s: dict[str, float]
    passes: dict[str, float] = Field(default_factory=dict, description="Counted forward and backward passes per case")


class RegressionVerdict(StrEnum):
    """Whether a run fell behind its baseline."""

    REGRESSED = "regressed"
    NOT_REGRESSED = "not regressed"
    CANNOT_TELL = "cannot tell"


class RegressionRow(Record):
    """One metric of one check and finding in two runs, at the level that decided."""

    check: str
    domain: Domain
    finding: str
    quantity: str = Field(description="What got worse, e.g. 'AUROC loss'")
    level: LevelRecord | None = None
    baseline: Interval = Field(description="The metric in the baseline")
    current: Interval = Field(description="The metric in this run")
    loss: Interval = Field(description="The harm, compared case by case where paired; intervals hold jointly")
    margin: float = Field(description="Not regressed when the upper bound of the loss is at most this")
    verdict: RegressionVerdict
    reason: str


class Regression(Record):
    """Comparison with the run of an earlier model."""

    baseline: str = Field(description="Name of the baseline's run folder")
    measurement_sha256: str
    weights_sha256: str
    finished: str
    paired: bool
    pairing: str = Field(description="Whether the cases could be paired, and why not")
    verdict: RegressionVerdict
    rows: list[RegressionRow]
    not_compared: list[str] = Field(default_factory=list, description="What has no counterpart, and why")


class AuditResult(Record):
    """Everything an audit found."""

    schema_version: str = SCHEMA_VERSION
    title: str
    verdict: Verdict
    complete: bool = True
    model: ModelSummary
    data: DataSummary
    preflight: list[PreflightItem]
    findings: list[FindingSummary]
    criteria: list[Criterion]
    curves: list[Curve] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    pictures: list[Picture] = Field(default_factory=list)
    certifiable: list[Certifiable] = Field(default_factory=list, description="What these cases can show at all")
    score: Score
    regression: Regression | None = Field(default=None, description="Comparison with a baseline, when one was given")
    notices: list[str] = Field(default_factory=list, description="Warnings in plain words")
    plan: dict[str, Any] = Field(description="The effective plan")
    provenance: Provenance

    @field_validator("schema_version")
    @classmethod
    def _same_major(cls, version: str) -> str:
        if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
            raise ValueError(f"expected version {SCHEMA_VERSION}, got {version!r}")
        return version

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> AuditResult:
        """Read a result file.

        Raises:
            DataError: Not a result of a known schema version; names the file and the first wrong place.
        """
        from pydantic import ValidationError

        from robustbench_rad.errors import DataError

        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}",
                hint="A run folder holds a result once its audit is complete: run the same audit command to continue it. "
                "What a check does: robustbench-rad list -v ID.",
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{path}: not a result of schema {SCHEMA_VERSION}: {place}: {first['msg']}",
                hint="Make it again with this version: robustbench-rad audit plan.toml",
            ) from error


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(AuditResult.model_json_schema(), indent=1, ensure_ascii=False) + "\n")
