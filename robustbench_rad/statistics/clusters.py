"""Several images of one patient are not independent: sums by patient, and how many independent cases they are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile, student_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def check_patients(patients: ArrayLike, cases: int, n_patients: int) -> Indices:
    """Return the patient index as ``(cases,)`` int64.

    Raises:
        StatisticsError: Wrong length, or an index outside ``0 .. n_patients - 1``.
    """
    index = np.asarray(patients)
    if index.shape != (cases,):
        raise StatisticsError(f"patients: expected shape ({cases},), got {index.shape}")
    if cases and not np.issubdtype(index.dtype, np.integer):
        raise StatisticsError(f"patients: expected integers, got {index.dtype}")
    if cases and (index.min() < 0 or index.max() >= n_patients):
        raise StatisticsError(
            f"patients: expected 0 to {n_patients - 1}, got {index.min()} to {index.max()}",
            hint="Number the patients of the whole audit from 0.",
        )
    return index.astype(np.int64)


def cluster_influence(deviations: Floats, patients: Indices, n_patients: int) -> Floats:
    """Sum deviations by patient, scaled so that ``C / (C - 1) * sum(influence²)`` is the clustered variance.

    The scale replaces the audit's patients C by the I patients used here: variance ``I / (I - 1) * sum(d_i²)``. One
    patient says nothing about the variance between patients; it gets zeros and the estimator must use another bound.

    Args:
        deviations: ``(N,)`` each case's share in the estimate, summing to zero.
        patients: ``(N,)`` index of the patient.
        n_patients: C, patients of the audit.

    Returns:
        ``(C,)`` influence.
    """
    sums = np.bincount(patients, weights=deviations, minlength=n_patients)
    used = count_patients(patients)
    if used < 2:
        return np.zeros(n_patients)
    return np.asarray(sums * np.sqrt(used / (used - 1) * (n_patients - 1) / n_patients))


def count_patients(patients: Indices) -> int:
    """Number of different patients.

    >>> count_patients(np.array([3, 0, 3]))
    2
    """
    return int(np.count_nonzero(np.bincount(patients)))


def kish_size(patients: Indices) -> float:
    """Independent cases if all images of a patient were alike, ``n² / sum_i n_i²``.

    Reference:
        Kish 1965, Survey Sampling, Wiley.

    >>> kish_size(np.array([0, 0, 1, 2, 2]))
    2.7777777777777777
    """
    sizes = np.bincount(patients)
    return float(len(patients) ** 2 / (sizes * sizes).sum())


def effective_size(values: Floats, patients: Indices, *, degrees: float | None = None) -> float:
    """How many independent cases the mean of ``values`` rests on.

    ``n_eff = n² s² / sum_i d_i²`` with s² the variance of the values and d_i the summed deviations of patient i. Estimated
    from few patients it is shrunk by ``(z / t)²``, the squared ratio of the normal to the Student quantile. It lies
    between Kish's ``n² / sum_i n_i²`` (images of a patient agree entirely) and n; equal to Kish's when the values do not
    vary. Exact duplicates of every image leave it unchanged.

    Args:
        values: ``(N,)`` what is averaged.
        patients: ``(N,)`` index of the patient.
        degrees: Degrees of freedom of the clustered variance; None: patients minus 1.

    References:
        Rao and Scott 1992, A simple method for the analysis of clustered binary data, doi:10.2307/2532311; Korn and
        Graubard 1998, Confidence intervals for proportions with small expected number of positive counts estimated from
        survey data, Survey Methodology 24:193-201.

    >>> twice = np.array([0, 0, 1, 1, 1, 1, 0, 0.0])
    >>> effective_size(twice, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    4.0
    """
    n = len(values)
    sizes = np.bincount(patients)
    kish = kish_size(patients)
    if sizes.max() == 1:
        return float(n)
    deviations = values - values.mean()
    clustered = float((np.bincount(patients, weights=deviations) ** 2).sum())
    independent = n * float(deviations @ deviations)
    freedom = int((sizes > 0).sum()) - 1 if degrees is None else degrees
    if independent == 0 or freedom < 1:
        return kish
    # Where the sums of every patient cancel, the images seem to be worth more than n; the ceiling decides.
    estimate = independent / clustered if clustered > 1e-12 * independent else np.inf
    shrink = (normal_quantile(0.95) / student_quantile(0.95, freedom)) ** 2
    return float(np.clip(shrink * estimate, kish, max(kish, n / _copies(values, patients))))


def _copies(values: Floats, patients: Indices) -> int:
    """How many times the data repeat themselves: the common divisor of the counts of equal (patient, value) rows."""
    sizes = np.bincount(patients)
    if np.gcd.reduce(sizes) == 1:  # as when any patient has one image; spares a sort
        return 1
    order = np.lexsort((values, patients))
    new = np.r_[True, (np.diff(patients[order]) != 0) | (np.diff(values[order]) != 0)]
    return int(np.gcd.reduce(np.diff(np.r_[np.flatnonzero(new), len(values)])))
