"""What was audited and how: findings, data, model, what the cases can show, what is needed to repeat it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from robustbench_rad.result.record import Interval, Record


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
