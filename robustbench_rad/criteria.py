"""From an interval of harm to one of three verdicts, and to points.

Harm h with interval [L, U], tolerance δ, critical harm Δ: **pass** when U ≤ δ, **fail** when L > δ, otherwise
**inconclusive**. "No significant drop" is never a pass. Points follow the pessimistic bound U alone, so a small or
cherry-picked sample loses points and never gains any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.result import Criterion, Verdict
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import Family
from robustbench_rad.statistics.power import needed_positives

POINTS_AT_TOLERANCE = 70.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A criterion with what is needed to resample it jointly with all others.

    Attributes:
        criterion: As it is written into the result.
        influence: ``(C,)`` influence of its harm, per patient of the audit; None: it does not vary.
        family: All comparisons of which it is the worst.
    """

    criterion: Criterion
    influence: NDArray[np.float64] | None = field(default=None, repr=False)
    family: Family = field(default_factory=Family, repr=False)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict, why, and how many positives would decide when it is open."""

    verdict: Verdict
    reason: str
    needed_positives: int | None = None


def judge(harm: Estimate, tolerance: float, *, positives: int = 0, counted: str = "positives") -> Judgement:
    """Judge one harm.

    Args:
        harm: Estimate with its interval.
        tolerance: δ.
        positives: Positives (or whatever ``counted`` names) it rests on, for the number needed to decide; 0 when unknown.
        counted: What the harm is limited by, in words: positives, negatives, cases.

    Raises:
        StatisticsError: The tolerance is not a number.

    >>> judge(Estimate(value=0.02, lower=-0.02, upper=0.08), 0.05, positives=100).reason
    'the 95 % interval holds the tolerance: about 400 positives would decide, there are 100'
    """
    if math.isnan(tolerance):
        raise StatisticsError("tolerance: expected a number, got NaN")
    if any(math.isnan(number) for number in (harm.value, harm.lower, harm.upper)):
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason="the harm is not defined on these data")
    interval = f"the {_percent(harm.confidence)} interval"
    if harm.upper <= tolerance:
        return Judgement(verdict=Verdict.PASS, reason=f"{interval} lies within the tolerance")
    if harm.lower > tolerance:
        return Judgement(verdict=Verdict.FAIL, reason=f"{interval} lies wholly beyond the tolerance")
    needed = needed_positives(harm, tolerance, positives)
    return Judgement(
        verdict=Verdict.INCONCLUSIVE,
        reason=f"{interval} holds the tolerance{_advice(needed, positives, counted)}",
        needed_positives=needed,
    )


def points(upper: ArrayLike, tolerance: float, critical_harm: float) -> NDArray[np.float64]:
    """Points of a pessimistic bound: 100 at U ≤ 0, 70 at U = δ, 0 at U ≥ Δ, linear between; 70 or more just on a pass.

    With δ ≤ 0 there is nothing between: 100 up to δ, below 70 beyond. With Δ ≤ δ nothing is left beyond δ.

    Args:
        upper: U, any shape.
        tolerance: δ.
        critical_harm: Δ.

    Returns:
        Points, of the shape of ``upper``.

    >>> points([-0.1, 0.0, 0.025, 0.05, 0.1, 0.15], 0.05, 0.15).round(6).tolist()
    [100.0, 100.0, 85.0, 70.0, 35.0, 0.0]
    """
    bound = np.asarray(upper, dtype=np.float64)
    used = np.zeros_like(bound) if tolerance <= 0 else _share(bound, tolerance)
    within = 100.0 - (100.0 - POINTS_AT_TOLERANCE) * used
    room = critical_harm - tolerance
    left = _share(critical_harm - bound, room) if room > 0 else np.zeros_like(bound)
    # The largest number below 70: a bound beyond the tolerance by less than rounding is still not a pass.
    beyond = np.minimum(POINTS_AT_TOLERANCE * left, np.nextafter(POINTS_AT_TOLERANCE, 0.0))
    return np.where(bound <= tolerance, within, beyond)


def _share(part: NDArray[np.float64], whole: float) -> NDArray[np.float64]:
    """``part / whole`` clipped to [0, 1]; a whole so small that the ratio overflows is clipped like any other."""
    with np.errstate(over="ignore"):
        return np.clip(part / whole, 0.0, 1.0)


def criterion_points(criterion: Criterion) -> float | None:
    """Points of a judged criterion; None when it is informational.

    Without a bound, or with one that may not be believed (it lies within the tolerance and yet the criterion did not
    pass, say for masked gradients), the pessimistic bound is the worst: 0.
    """
    if criterion.verdict is Verdict.INFORMATIONAL:
        return None
    upper, tolerance, critical = criterion.harm.upper, criterion.tolerance, criterion.critical_harm
    if upper is None or tolerance is None or critical is None or _disbelieved(criterion):
        return 0.0
    return float(points(upper, tolerance, critical))


def with_points(judged: Judged) -> Judged:
    """The same criterion with its points filled in."""
    criterion = judged.criterion.model_copy(update={"points": criterion_points(judged.criterion)})
    return replace(judged, criterion=criterion)


def _disbelieved(criterion: Criterion) -> bool:
    upper, tolerance = criterion.harm.upper, criterion.tolerance
    within = upper is not None and tolerance is not None and upper <= tolerance
    return within and criterion.verdict is not Verdict.PASS


def _advice(needed: int | None, positives: int, counted: str) -> str:
    if needed is not None:
        return f": about {needed} {counted} would decide, there are {positives}"
    return ": the estimate sits at the tolerance, so more cases like these would not decide" if positives else ""


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.3g} %"
