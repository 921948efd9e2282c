"""Means and spreads of a quantity per case, clustered by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, kish_size
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.proportions import clopper_pearson

Floats = NDArray[np.float64]

ALIKE = "Clopper-Pearson, patients all alike"
ROUNDING = 1e-12


ANY = (-np.inf, np.inf)


def mean(
    values: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    bounds: tuple[float, float] = ANY,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of the cases that have a value, with a Student interval over patients, inside the bounds of a value.

    Where the patients are all alike the limits are those of :func:`alike_limits`.

    Args:
        values: ``(N,)``; NaN where not measured.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        bounds: Least and largest value that a case can have.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients with a value, an infinite one, or patients all alike without bounds.

    >>> e = mean([1.0, 2.0, 3.0, 4.0], range(4), 4)
    >>> e.value, round(e.upper - e.value, 4)  # t(3) * sqrt(5/3) / sqrt(4)
    (2.5, 2.0543)
    """
    kept, patient = _measured(values, patients, n_patients)
    value = float(kept.mean())
    influence = cluster_influence((kept - value) / len(kept), patient, n_patients)
    half = _half(influence, patient, confidence)
    method, limits = "Student, clustered", (max(value - half, bounds[0]), min(value + half, bounds[1]))
    if half <= ROUNDING * max(abs(value), 1.0):
        method, limits = ALIKE, alike_limits(value, kish_size(patient), bounds, confidence=confidence)
    return Estimate(
        value=value,
        lower=min(limits[0], value),
        upper=max(limits[1], value),
        confidence=confidence,
        method=method,
        influence=influence,
    )


def alike_limits(
    value: float, size: float, bounds: tuple[float, float], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Limits of a mean of cases that are all alike: an unseen share u of others may still lie at either bound.

    ``value - u (value - low)`` and ``value + u (high - value)``, u being Clopper-Pearson's upper limit of 0 in ``size``.

    Args:
        value: Of every case.
        size: Independent cases.
        bounds: Least and largest value that a case can have.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: A bound that is not finite.

    >>> low, high = alike_limits(0.2, 36, (0.0, 1.0))  # u = 0.0974
    >>> round(low, 4), round(high, 4)
    (0.1805, 0.2779)
    """
    low, high = bounds
    if not np.isfinite(bounds).all():
        raise StatisticsError(f"mean: every patient has the value {value:g}, which says nothing of how it varies")
    unseen = clopper_pearson(0, size, confidence=confidence)[1]
    return value - unseen * max(value - low, 0.0), value + unseen * max(high - value, 0.0)


def spread_ratio(
    altered: ArrayLike, clean: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Retained spread ``SD(altered) / SD(clean)`` of the cases that have both, with an interval on the log scale.

    The influence of log SD on the sample is ``((x - mean)² - var) / (2 n var)``. An altered score that does not vary at
    all retains 0 with the interval [0, 0], and the method says for what share of cases that may not hold: a spread has no
    upper bound that could be filled in for them.

    Args:
        altered: ``(N,)``; NaN where not measured.
        clean: ``(N,)``.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients, an infinite value, or clean scores that do not vary.

    >>> clean = np.array([0.0, 1.0, 2.0, 5.0])
    >>> e = spread_ratio(0.1 * clean, clean, range(4), 4)
    >>> round(e.value, 6), round(e.lower, 6), round(e.upper, 6)
    (0.1, 0.1, 0.1)
    """
    a, b = np.asarray(altered, dtype=np.float64), np.asarray(clean, dtype=np.float64)
    both = np.where(np.isnan(a), np.nan, b)
    b, patient = _measured(both, patients, n_patients)
    a, _ = _measured(np.where(np.isnan(both), np.nan, a), patients, n_patients)
    if b.var() == 0:
        raise StatisticsError("spread ratio: the clean scores do not vary")
    if a.var() == 0:
        unseen = clopper_pearson(0, kish_size(patient), confidence=confidence)[1]
        return Estimate(
            value=0.0,
            lower=0.0,
            upper=0.0,
            confidence=confidence,
            method=f"constant in all cases seen, up to {unseen:.2%} of others may vary",
            influence=np.zeros(n_patients),
        )
    logarithm = cluster_influence(_log_spread(a) - _log_spread(b), patient, n_patients)
    value, factor = float(a.std() / b.std()), float(np.exp(_half(logarithm, patient, confidence)))
    return Estimate(
        value=value,
        lower=value / factor,
        upper=value * factor,
        confidence=confidence,
        method="Student, clustered, log scale",
        influence=value * logarithm,
    )


def _log_spread(values: Floats) -> Floats:
    squared = (values - values.mean()) ** 2
    return np.asarray((squared / squared.mean() - 1) / (2 * len(values)))


def _half(influence: Floats, patients: NDArray[np.int64], confidence: float) -> float:
    degrees = len(np.unique(patients)) - 1
    return student_quantile(confidence, degrees) * float(np.sqrt(covariance(influence, influence)))


def _measured(values: ArrayLike, patients: ArrayLike, n_patients: int) -> tuple[Floats, NDArray[np.int64]]:
    number = np.asarray(values, dtype=np.float64)
    patient = check_patients(patients, len(number), n_patients)
    known = ~np.isnan(number)
    number, patient = number[known], patient[known]
    if np.isinf(number).any():
        raise StatisticsError(f"mean: expected finite values, got {int(np.isinf(number).sum())} infinite")
    if len(np.unique(patient)) < 2:
        raise StatisticsError(f"mean: expected two patients with a value or more, got {len(np.unique(patient))}")
    return number, patient
