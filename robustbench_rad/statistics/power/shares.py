"""Numbers of cases for proportions: of two sets, of the same cases twice, of an interval."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.power.solving import check_pair, check_share, where_found


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
    check_pair(first, second)
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
    check_share("proportion", proportion)

    def lacking(drop: float) -> float:
        return two_proportion_power(proportion - drop, proportion, size, other=other, alpha=alpha) - power

    return where_found(lacking, proportion)


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
    check_share("proportion", proportion)
    check_share("gained", gained)

    def lacking(drop: float) -> float:
        return pairs - mcnemar_size(gained + drop, gained, alpha=alpha, power=power)

    return where_found(lacking, min(proportion, 1 - 2 * gained))


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


def proportion_size(proportion: float, half_width: float, *, confidence: float = 0.95) -> float:
    """Cases for an interval of a proportion of ``proportion ± half_width``, ``z² p q / h²``.

    >>> round(proportion_size(0.85, 0.05), 1)
    195.9
    """
    check_share("proportion", proportion)
    if not half_width > 0:
        raise StatisticsError(f"half-width: expected a number above 0, got {half_width}")
    return (normal_quantile(confidence) / half_width) ** 2 * proportion * (1 - proportion)


def proportion_half_width(proportion: float, size: float, *, confidence: float = 0.95) -> float:
    """Half-width of an interval of a proportion, ``z sqrt(p q / n)``.

    >>> round(proportion_half_width(0.85, 66), 5)
    0.08615
    """
    check_share("proportion", proportion)
    if not size > 0:
        raise StatisticsError(f"half-width: expected cases, got {size}")
    return normal_quantile(confidence) * math.sqrt(proportion * (1 - proportion) / size)


def _spreads(first: float, second: float) -> tuple[float, float]:
    check_pair(first, second)
    mean = (first + second) / 2
    variances = np.array([mean * (1 - mean) * 2, first * (1 - first) + second * (1 - second)])
    pooled, separate = np.sqrt(variances)
    return float(pooled), float(separate)
