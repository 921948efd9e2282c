"""Ratios of two estimates made on the same patients."""

from __future__ import annotations

import numpy as np

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile


def ratio(numerator: Estimate, denominator: Estimate, *, degrees: float) -> Estimate:
    """Ratio of two estimates with Fieller's interval: all r with ``(a - r b)² <= t² V(a - r b)``.

    Args:
        numerator: a, with its influence.
        denominator: b, with its influence on the same patient index, at the same confidence.
        degrees: Degrees of freedom of t.

    Raises:
        StatisticsError: b is not told from zero, so that the ratio has no bounds; or an influence is missing.

    Source:
        Fieller 1954, Some problems in interval estimation, J R Stat Soc B 16:175.

    >>> import numpy as np
    >>> def mean(values):
    ...     return Estimate(value=float(values.mean()), lower=0, upper=0, influence=(values - values.mean()) / len(values))
    >>> b = np.array([1.0, 2.0, 3.0, 2.0])
    >>> r = ratio(mean(0.5 * b), mean(b), degrees=3)
    >>> round(r.value, 6), round(r.lower, 6), round(float(r.upper), 6)
    (0.5, 0.5, 0.5)
    """
    if numerator.influence is None or denominator.influence is None:
        raise StatisticsError("ratio: expected estimates with an influence")
    t2 = student_quantile(denominator.confidence, degrees) ** 2
    a, b = numerator.value, denominator.value
    v_a, v_b = (covariance(one, one) for one in (numerator.influence, denominator.influence))
    v_ab = covariance(numerator.influence, denominator.influence)
    squared, mixed = b**2 - t2 * v_b, a * b - t2 * v_ab
    if squared <= 0.0:
        raise StatisticsError("ratio: the denominator is not told from zero, so the ratio has no bounds")
    half = float(np.sqrt(max(mixed**2 - squared * (a**2 - t2 * v_a), 0.0)))
    value = a / b
    return Estimate(
        value=value,
        lower=min((mixed - half) / squared, value),
        upper=max((mixed + half) / squared, value),
        confidence=denominator.confidence,
        method="Fieller, clustered",
        influence=(numerator.influence - value * denominator.influence) / b,
    )
