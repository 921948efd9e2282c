"""How a run compares with the run of an earlier model."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from robustbench_rad.result.record import Interval, LevelRecord, Record
from robustbench_rad.result.terms import Domain


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
