"""How many cases decide: from an estimate in hand, or from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate, normal_quantile

UNREACHABLE = 1_000_000
"""An answer beyond this many positives is none."""


def needed_positives(harm: Estimate, tolerance: float, positives: int) -> int | None:
    """Positives at which the interval would leave the tolerance, were the estimate to stay.

    The half-width towards the tolerance shrinks like ``1 / sqrt(n₊)``: ``n₊ (half-width / distance)²``, rounded up.

    Args:
        harm: Estimate whose interval holds the tolerance.
        tolerance: δ.
        positives: n₊ the estimate rests on.

    Returns:
        The number, or None when the estimate sits at the tolerance, has no finite interval, or would need more than a
        million.

    >>> needed_positives(Estimate(value=0.02, lower=-0.02, upper=0.08), 0.05, 100)
    400
    """
    distance = abs(tolerance - harm.value)
    half = harm.upper - harm.value if harm.value < tolerance else harm.value - harm.lower
    if positives < 1 or not (math.isfinite(distance) and math.isfinite(half)) or distance <= 0:
        return None
    needed = positives * (half / distance) ** 2
    return math.ceil(needed - 1e-6) if needed <= UNREACHABLE else None


def two_proportion_size(first: float, second: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Cases per group to tell two independent proportions apart, two-sided.

    ``(z_α sqrt(2 p̄ q̄) + z_β sqrt(p₁q₁ + p₂q₂))² / (p₁ - p₂)²``.

    Reference:
        Fleiss, Levin and Paik 2003, Statistical methods for rates and proportions, 3rd ed., ch. 4.

    >>> round(two_proportion_size(0.85, 0.75), 2), round(two_proportion_size(0.85, 0.75, alpha=0.005), 2)
    (249.98, 424.47)
    """
    pooled, separate = _spreads(first, second)
    total = normal_quantile(1 - alpha) * pooled + float(ndtri(power)) * separate
    return (total / (first - second)) ** 2


def two_proportion_power(
    first: float, second: float, size: float, *, other: float | None = None, alpha: float = 0.05
) -> float:
    """Power of the same comparison with ``size`` cases in the first group and ``other`` (default: as many) in the second.

    ``Φ((d - z_α sqrt(p̄ q̄ (1/n₁ + 1/n₂))) / sqrt(p₁q₁/n₁ + p₂q₂/n₂))`` with p̄ pooled over both groups.

    Reference:
        Fleiss, Levin and Paik 2003, Statistical methods for rates and proportions, 3rd ed., ch. 4.

    >>> round(two_proportion_power(0.85, 0.75, 66), 4), round(two_proportion_power(0.85, 0.75, 66, other=660), 4)
    (0.2988, 0.4308)
    """
    other = size if other is None else other
    _check_pair(first, second)
    if min(size, other) <= 0:
        raise StatisticsError(f"power: expected cases in both groups, got {size} and {other}")
    mean = (size * first + other * second) / (size + other)
    pooled = math.sqrt(mean * (1 - mean) * (1 / size + 1 / other))
    separate = math.sqrt(first * (1 - first) / size + second * (1 - second) / other)
    return float(ndtr((abs(first - second) - normal_quantile(1 - alpha) * pooled) / separate))


def detectable_drop(
    proportion: float, size: float, *, other: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest drop of a proportion that two separate groups would show; None when not even a fall to 0 is enough.

    The d at which :func:`two_proportion_power` of ``proportion - d`` (``size`` cases) and ``proportion`` (``other`` cases,
    default: as many) reaches ``power``.

    >>> [detectable_drop(0.85, n) and round(detectable_drop(0.85, n), 3) for n in (3, 30, 250)]
    [None, 0.329, 0.1]
    """
    _check_share("proportion", proportion)

    def lacking(drop: float) -> float:
        return two_proportion_power(proportion - drop, proportion, size, other=other, alpha=alpha) - power

    return _root(lacking, proportion)


def detectable_paired_drop(
    proportion: float, pairs: float, *, gained: float = 0.02, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest drop of a proportion that the same cases, seen twice, would show; None when no drop would be enough.

    The d at which :func:`mcnemar_size` of ``gained + d`` and ``gained`` is the number of pairs.

    Args:
        proportion: Share that is right the first time; d can be no larger.
        pairs: Number of cases.
        gained: Share that turns from wrong to right by chance.
        alpha: Level of the test.
        power: Chance of finding it.

    >>> round(detectable_paired_drop(0.85, 107.5), 3), round(detectable_paired_drop(0.85, 280.2), 3)
    (0.1, 0.05)
    """
    _check_share("proportion", proportion)
    _check_share("gained", gained)

    def lacking(drop: float) -> float:
        return pairs - mcnemar_size(gained + drop, gained, alpha=alpha, power=power)

    return _root(lacking, min(proportion, 1 - 2 * gained))


def mcnemar_size(lost: float, gained: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Pairs to show a paired difference of proportions, ``lost - gained``, from the two discordant probabilities.

    ``(z_α sqrt(ψ) + z_β sqrt(ψ - d²))² / d²`` with ψ = lost + gained and d = lost - gained.

    Reference:
        Connor 1987, Sample size for testing differences in proportions for the paired-sample design,
        doi:10.2307/2531961.

    >>> round(mcnemar_size(0.12, 0.02), 1), round(mcnemar_size(0.07, 0.02), 1)
    (107.5, 280.2)
    """
    if min(lost, gained) < 0 or lost + gained > 1 or lost == gained:
        raise StatisticsError(f"McNemar: expected two different discordant probabilities, got {lost} and {gained}")
    discordant, drop = lost + gained, lost - gained
    z_alpha, z_beta = normal_quantile(1 - alpha), float(ndtri(power))
    return (z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(discordant - drop * drop)) ** 2 / drop**2


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
    return _total(alpha, power) * math.sqrt(2 * (1 - correlation) * auc_variance(area, positives, negatives))


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
    return _total(alpha, power) * math.sqrt(variance)


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

    return _size(excess)


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

    return _size(excess)


def proportion_size(proportion: float, half_width: float, *, confidence: float = 0.95) -> float:
    """Cases for an interval of a proportion of ``proportion ± half_width``, ``z² p q / h²``.

    >>> round(proportion_size(0.85, 0.05), 1)
    195.9
    """
    _check_share("proportion", proportion)
    if not half_width > 0:
        raise StatisticsError(f"half-width: expected a number above 0, got {half_width}")
    return (normal_quantile(confidence) / half_width) ** 2 * proportion * (1 - proportion)


def proportion_half_width(proportion: float, size: float, *, confidence: float = 0.95) -> float:
    """Half-width of an interval of a proportion, ``z sqrt(p q / n)``.

    >>> round(proportion_half_width(0.85, 66), 5)
    0.08615
    """
    _check_share("proportion", proportion)
    if not size > 0:
        raise StatisticsError(f"half-width: expected cases, got {size}")
    return normal_quantile(confidence) * math.sqrt(proportion * (1 - proportion) / size)


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


def design_effect(images_per_patient: float, intraclass_correlation: float) -> float:
    """How many times more images are needed when patients give several: ``1 + (m - 1) ICC``.

    >>> design_effect(4, 0.5)
    2.5
    """
    return 1 + (images_per_patient - 1) * intraclass_correlation


def _spreads(first: float, second: float) -> tuple[float, float]:
    _check_pair(first, second)
    mean = (first + second) / 2
    variances = np.array([mean * (1 - mean) * 2, first * (1 - first) + second * (1 - second)])
    pooled, separate = np.sqrt(variances)
    return float(pooled), float(separate)


def _check_pair(first: float, second: float) -> None:
    if not (0 < first < 1 and 0 < second < 1) or first == second:
        raise StatisticsError(f"expected two different proportions between 0 and 1, got {first} and {second}")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise StatisticsError(f"{name}: expected a number between 0 and 1, got {value}")


def _total(alpha: float, power: float) -> float:
    _check_share("power", power)
    return normal_quantile(1 - alpha) + float(ndtri(power))


def _root(lacking: Callable[[float], float], most: float) -> float | None:
    """Where a rising function of the drop crosses 0, between nothing and ``most``; None when it stays below."""
    low, high = 1e-9, most * (1 - 1e-9)
    if lacking(high) < 0:
        return None
    return low if lacking(low) >= 0 else float(brentq(lacking, low, high))


def _size(excess: Callable[[float], float]) -> float:
    """Where a falling function of the number of positives crosses 0."""
    return float(brentq(excess, 1e-3, 1e12))
