"""Numbers of cases for areas under the ROC curve: a drop of the same cases, a gap between two sets, an interval."""

from __future__ import annotations

import math

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.power.solving import size_of, total_quantile


def detectable_auc_drop(
    area: float,
    positives: float,
    negatives: float,
    *,
    correlation: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest drop of an AUC that a two-sided test would find, ``(z_α + z_β) sqrt(2 (1 - ρ) V(A))``.

    Args:
        area: AUC before the drop.
        positives: n₊ of each group.
        negatives: n₋ of each group.
        correlation: ρ of the two areas: 0 for separate cases, about 0.8 for the same cases under a shift.
        alpha: Level of the test.
        power: Chance of finding it.

    Reference:
        Hanley and McNeil 1983, doi:10.1148/radiology.148.3.6878708.

    >>> round(detectable_auc_drop(0.85, 66, 660, correlation=0.8), 3), round(detectable_auc_drop(0.85, 66, 660), 3)
    (0.054, 0.12)
    """
    if not -1 <= correlation < 1:
        raise StatisticsError(f"correlation: expected a number from -1 to below 1, got {correlation}")
    return total_quantile(alpha, power) * math.sqrt(2 * (1 - correlation) * auc_variance(area, positives, negatives))


def detectable_auc_gap(
    area: float,
    counts: tuple[float, float],
    others: tuple[float, float],
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest gap between the AUC of a subgroup and of other cases: ``(z_α + z_β) sqrt(V(A; counts) + V(A; others))``.

    Args:
        area: AUC of both, before the gap.
        counts: n₊ and n₋ of the subgroup.
        others: n₊ and n₋ of the cases it is compared with.
        alpha: Level of the test.
        power: Chance of finding it.

    >>> round(detectable_auc_gap(0.85, (66, 660), (66, 660)), 3), round(detectable_auc_gap(0.85, (66, 660), (660, 6600)), 3)
    (0.12, 0.089)
    """
    variance = auc_variance(area, *counts) + auc_variance(area, *others)
    return total_quantile(alpha, power) * math.sqrt(variance)


def auc_drop_size(
    area: float,
    drop: float,
    *,
    negatives_per_positive: float,
    correlation: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Positives at which a drop of an AUC becomes detectable: :func:`detectable_auc_drop` solved for n₊.

    The same number lets the interval of a harmless shift stay below a tolerance of ``drop`` with that power.

    >>> round(auc_drop_size(0.85, 0.05, negatives_per_positive=10, correlation=0.8), 1)
    75.7
    """
    if not 0 < drop < area:
        raise StatisticsError(f"drop: expected a number between 0 and the AUC {area}, got {drop}")

    def excess(positives: float) -> float:
        negatives = negatives_per_positive * positives
        found = detectable_auc_drop(area, positives, negatives, correlation=correlation, alpha=alpha, power=power)
        return found - drop

    return size_of(excess)


def auc_size(area: float, half_width: float, *, negatives_per_positive: float, confidence: float = 0.95) -> float:
    """Positives for an interval of an AUC of ``area ± half_width``.

    >>> [round(auc_size(0.85, h, negatives_per_positive=10)) for h in (0.05, 0.03, 0.02)]
    [93, 257, 579]
    """
    if not half_width > 0:
        raise StatisticsError(f"half-width: expected a number above 0, got {half_width}")
    z = normal_quantile(confidence)

    def excess(positives: float) -> float:
        return z * math.sqrt(auc_variance(area, positives, negatives_per_positive * positives)) - half_width

    return size_of(excess)


def auc_variance(area: float, positives: float, negatives: float) -> float:
    """Variance of an AUC before any data are seen, of two exponential distributions.

    ``(A(1-A) + (n₊-1)(Q₁-A²) + (n₋-1)(Q₂-A²)) / (n₊ n₋)`` with ``Q₁ = A/(2-A)``, ``Q₂ = 2A²/(1+A)``.

    Reference:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    if not (0 < area < 1 and positives > 0 and negatives > 0):
        raise StatisticsError(f"AUC variance: expected 0 < area < 1 and cases, got {area}, {positives}, {negatives}")
    square = area * area
    same = area * (1 - area)
    positive = (positives - 1) * (area / (2 - area) - square)
    negative = (negatives - 1) * (2 * square / (1 + area) - square)
    return (same + positive + negative) / (positives * negatives)
