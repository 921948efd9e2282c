"""Means and spreads of a quantity per case, clustered by patient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile

Floats = NDArray[np.float64]


def mean(values: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95) -> Estimate:
    """Mean of the cases that have a value, with a Student interval over patients.

    Args:
        values: ``(N,)``; NaN where not measured.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients with a value, or an infinite one.

    >>> e = mean([1.0, 2.0, 3.0, 4.0], range(4), 4)
    >>> e.value, round(e.upper - e.value, 4)  # t(3) * sqrt(5/3) / sqrt(4)
    (2.5, 2.0543)
    """
    kept, patient = _measured(values, patients, n_patients)
    value = float(kept.mean())
    influence = cluster_influence((kept - value) / len(kept), patient, n_patients)
    half = _half(influence, patient, confidence)
    return Estimate(
        value=value,
        lower=value - half,
        upper=value + half,
        confidence=confidence,
        method="Student, clustered",
        influence=influence,
    )


def spread_ratio(
    altered: ArrayLike, clean: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Retained spread ``SD(altered) / SD(clean)`` of the cases that have both, with an interval on the log scale.

    The influence of log SD on the sample is ``((x - mean)² - var) / (2 n var)``. An altered score that does not vary at
    all retains exactly 0, with the interval [0, 0].

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
        zero = np.zeros(n_patients)
        return Estimate(value=0.0, lower=0.0, upper=0.0, confidence=confidence, method="constant", influence=zero)
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
