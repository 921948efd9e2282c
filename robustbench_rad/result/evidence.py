"""What a check found: criteria, curves, tables."""

from __future__ import annotations

from pydantic import Field

from robustbench_rad.result.record import Interval, LevelRecord, Record
from robustbench_rad.result.terms import Domain, Verdict


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


class Table(Record):
    """Any other table a check wants shown: rows of plain cells with a caption."""

    check: str
    domain: Domain
    title: str
    columns: list[str]
    rows: list[list[str | float | int | None]]
    note: str = ""
