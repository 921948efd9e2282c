"""The answer: what the other figures leave each one, and the verdict in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from robustbench_rad.consistency.figures import Printed, Row

DERIVED_FIRST = ("f1", "accuracy", "npv", "precision", "specificity", "recall")


class Consistency(StrEnum):
    """The answer."""

    CONSISTENT = "consistent"
    IMPOSSIBLE = "cannot hold together"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A printed figure and what the others leave it.

    Attributes:
        name: Of the figure.
        printed: As published.
        low: Least value that the others allow; None when they contradict each other.
        high: Greatest.
        agrees: Whether it fits the others; None when the others contradict each other without it.
    """

    name: str
    printed: Printed
    low: float | None
    high: float | None
    agrees: bool | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a row of a published table can be.

    Attributes:
        verdict: The answer.
        reason: One sentence.
        figures: Each printed figure with its reachable range.
        tables: Number of whole-number confusion tables that fit, where they could be searched.
        example: TP, FP, FN, TN of one of them.
        notes: What a reader should know.
    """

    verdict: Consistency
    reason: str
    figures: tuple[Reach, ...] = ()
    tables: int | None = None
    example: Row | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def conclude(
    figures: tuple[Reach, ...],
    *,
    possible: bool,
    restricted: bool,
    tables: int | None = None,
    example: Row | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """Put the answer into words."""
    if not possible:
        verdict, reason = Consistency.IMPOSSIBLE, _disagreement(figures)
    elif restricted:
        verdict, reason = Consistency.CONSISTENT, "every printed figure lies within what the others allow"
    else:
        verdict, reason = Consistency.UNKNOWN, "the printed figures do not restrict one another"
    return Report(verdict=verdict, reason=reason, figures=figures, tables=tables, example=example, notes=notes)


def _disagreement(figures: tuple[Reach, ...]) -> str:
    off = {figure.name: figure for figure in figures if figure.low is not None}
    figure = next((off[name] for name in DERIVED_FIRST if name in off), None)
    if figure is None or figure.low is None or figure.high is None:
        return "no confusion table gives these figures, and leaving out one of them does not mend it"
    if figure.printed.low <= figure.high and figure.low <= figure.printed.high:
        return f"no table of whole numbers gives {figure.name} {figure.printed} in these cases"
    allowed = f"{shown(figure.low)} to {shown(figure.high)}"
    return f"{figure.name} is printed {figure.printed}; the rest allows {allowed}"


def shown(value: float | None) -> str:
    """Four decimals and more where they are needed.

    >>> shown(0.9685), shown(0.96850001), shown(0.5), shown(None)
    ('0.9685', '0.9685', '0.5000', '–')
    """
    return "–" if value is None else f"{value:.4f}"
