"""Criteria that are shown and never judged: an estimate with its interval, no tolerance, no points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import try_interval
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.criteria import Judged
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Criterion, Verdict
from robustbench_rad.statistics.estimate import Estimate

Cell = str | float | int | None


def shown(
    context: JudgeContext,
    check: CheckSpec,
    finding: str,
    quantity: str,
    make: Callable[[], Estimate],
    *,
    reason: str = "shown, not judged",
    subgroup: str = "",
    cases: NDArray[np.bool_] | None = None,
) -> Judged:
    """An informational criterion; where the estimate is not defined, the reason says why.

    Args:
        context: Labels and patients, for the counts.
        check: The check it belongs to.
        finding: Which finding.
        quantity: What is estimated, in words.
        make: Makes the estimate; may raise StatisticsError.
        reason: What the reader should hold beside the number.
        subgroup: Metadata column it is about.
        cases: ``(N,)`` mask of the cases it rests on; None: all with a known label.
    """
    found = try_interval(make)
    criterion = Criterion(
        id="/".join(part for part in (check.id, finding, quantity, subgroup) if part),
        check=check.id,
        domain=check.domain,
        finding=finding,
        subgroup=subgroup,
        quantity=quantity,
        harm=found,
        tolerance=None,
        critical_harm=None,
        verdict=Verdict.INFORMATIONAL,
        reason=reason if found.estimate is not None else f"not assessable: {found.method}",
    )
    return Judged(criterion=criterion.model_copy(update=context.counts(finding, cases)))


def cells(make: Callable[[], Estimate]) -> list[Cell]:
    """Value, lower, upper and, where there is none, why."""
    found = try_interval(make)
    return [found.estimate, found.lower, found.upper, "" if found.estimate is not None else found.method]


def limits(estimate: Estimate) -> list[Cell]:
    """Value, lower and upper of an estimate; None where one is not finite."""
    return [number(estimate.value), number(estimate.lower), number(estimate.upper)]


def number(value: float) -> float | None:
    """A number as a table holds it: None where it is not finite."""
    return float(value) if abs(value) < float("inf") else None
