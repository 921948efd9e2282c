"""Quantiles of a quantity per case, clustered by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import proportion


def quantile(
    values: ArrayLike, share: float, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Quantile of the cases that have a value, with Woodruff's interval.

    The share of cases at or below the quantile has a Wilson interval over patients; the values at its two ends are the
    limits. Nothing is supposed about the distribution, and ties do no harm.

    Args:
        values: ``(N,)``; NaN where not measured.
        share: Which quantile, inside (0, 1); 0.5 is the median.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Returns:
        An estimate without an influence: the limits are values of cases.

    Raises:
        StatisticsError: No value, an infinite one, or a share outside (0, 1).

    Reference:
        Woodruff 1952, Confidence intervals for medians and other position measures, doi:10.1080/01621459.1952.10483443.

    >>> e = quantile(range(1, 101), 0.5, range(100), 100)
    >>> e.value, e.lower, e.upper
    (50.0, 41.0, 60.0)
    """
    if not 0 < share < 1:
        raise StatisticsError(f"quantile: expected a share between 0 and 1, got {share}")
    number = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(number)
    if not known.any() or np.isinf(number[known]).any():
        raise StatisticsError("quantile: expected one finite value or more, and no infinite one")
    found = float(np.quantile(number[known], share, method="inverted_cdf"))
    below = proportion(number <= found, known, patients, n_patients, confidence=confidence)
    ends = [np.quantile(number[known], end, method="inverted_cdf") for end in (below.lower, below.upper)]
    return Estimate(
        value=found,
        lower=min(float(ends[0]), found),
        upper=max(float(ends[1]), found),
        confidence=confidence,
        method=f"Woodruff, {below.method}",
    )
