"""How far probabilities are from the truth: observed over expected, Spiegelhalter's test, calibration error, CORP.

A perfectly calibrated model shows a plug-in calibration error of 0.05 on 200 cases: that number is printed only beside what
chance alone gives. The debiased square averages zero when the model is calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import ndtr

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, effective_size
from robustbench_rad.statistics.estimate import Estimate, covariance, normal_quantile, student_quantile
from robustbench_rad.statistics.proportions import clopper_pearson

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 15


@dataclass(frozen=True, kw_only=True)
class SpiegelhalterTest:
    """Statistic of Spiegelhalter's test and its two-sided p-value; a small p-value speaks against calibration."""

    z: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class PlugInError:
    """Plug-in calibration error, and its mean and 95 % quantile were the model calibrated."""

    value: float
    null_mean: float
    null_upper: float


@dataclass(frozen=True, kw_only=True)
class BrierParts:
    """Brier score = miscalibration - discrimination + uncertainty.

    Attributes:
        score: Mean of ``(p - y)²``.
        miscalibration: What recalibration would save; not negative, and above zero by chance (isotonic fits overfit).
        discrimination: What the recalibrated score saves against always saying the prevalence.
        uncertainty: ``ȳ (1 - ȳ)``.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def observed_over_expected(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Observed over expected positives, ``sum y / sum p``; 1 when calibrated in the large.

    Interval on the log scale, clustered; without any positive, Clopper-Pearson's upper bound of the effective number of
    cases over the mean probability.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1].
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No case, all probabilities 0, or one outside [0, 1].

    >>> e = observed_over_expected([1, 1, 0, 0], [0.5, 0.25, 0.25, 0.0], range(4), 4)
    >>> e.value
    2.0
    """
    truth, p, patient = _known(labels, probabilities, patients, n_patients)
    if p.sum() == 0:
        raise StatisticsError("observed over expected: every probability is 0")
    ratio = float(truth.sum() / p.sum())
    influence = cluster_influence((truth - ratio * p) / p.sum(), patient, n_patients)
    if ratio == 0:
        upper = clopper_pearson(0, effective_size(truth, patient), confidence=confidence)[1] / float(p.mean())
        return Estimate(
            value=0.0, lower=0.0, upper=upper, confidence=confidence, method="Clopper-Pearson", influence=influence
        )
    degrees = count_patients(patient[truth == 1]) - 1
    half = student_quantile(confidence, degrees) * float(np.sqrt(covariance(influence, influence))) / ratio
    with np.errstate(over="ignore"):
        factor = float(np.exp(half))
    return Estimate(
        value=ratio,
        lower=ratio / factor,
        upper=ratio * factor,
        confidence=confidence,
        method="Student, clustered, log scale",
        influence=influence,
    )


def spiegelhalter(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, n_patients: int
) -> SpiegelhalterTest:
    """Spiegelhalter's test of calibration, ``Z = sum (y - p)(1 - 2p) / sqrt(sum (1 - 2p)² p (1 - p))``.

    With several images of a patient the variance is that of the sums by patient, where it is larger. A case of
    probability 0 or 1 that goes the other way cannot happen under calibration: without any other variance Z is infinite.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1].
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.

    Raises:
        StatisticsError: No case, a probability outside [0, 1], or every probability ½ (the test then says nothing).

    Reference:
        Spiegelhalter 1986, Probabilistic prediction in patient management and clinical trials,
        doi:10.1002/sim.4780050506.

    >>> round(spiegelhalter([1, 0, 0, 0], [0.1, 0.1, 0.1, 0.1], range(4), 4).z, 4)
    1.0
    """
    truth, p, patient = _known(labels, probabilities, patients, n_patients)
    weight = 1 - 2 * p
    if not weight.any():
        raise StatisticsError("Spiegelhalter's test: every probability is 0.5")
    terms = (truth - p) * weight
    variance = float((weight**2 * p * (1 - p)).sum())
    if count_patients(patient) < len(patient):
        variance = max(variance, float((np.bincount(patient, weights=terms) ** 2).sum()))
    total = float(terms.sum())
    z = total / np.sqrt(variance) if variance > 0 else float(np.copysign(np.inf, total)) if total else 0.0
    return SpiegelhalterTest(z=float(z), p_value=float(2 * ndtr(-abs(z))))


def squared_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    bins: int = BINS,
    confidence: float = 0.95,
) -> Estimate:
    """Debiased squared calibration error of bins of equal mass, ``sum_b n_b/n (r̄_b² - v_b)``; averages 0 when calibrated.

    r̄_b is the mean of ``y - p`` in bin b, v_b its patient-clustered variance; equal probabilities share a bin. Interval:
    Wald, with the variance of a quadratic form of normal means, ``4 g'Vg + 2 tr(WVWV)``.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1], of the positive class.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        bins: Most bins.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients, or a probability outside [0, 1].

    Reference:
        Kumar, Liang and Ma 2019, Verified uncertainty calibration, arXiv:1909.10155.
    """
    truth, p, patient = _known(labels, probabilities, patients, n_patients)
    used = count_patients(patient)
    if used < 2:
        raise StatisticsError(f"calibration error: expected two patients or more, got {used}")
    place = equal_mass_bins(p, bins)
    mass = np.bincount(place)
    means = np.bincount(place, weights=truth - p) / mass
    deviations = np.zeros((n_patients, len(mass)))
    np.add.at(deviations, (patient, place), (truth - p - means[place]) / mass[place])
    scatter = deviations.T @ deviations * used / (used - 1)
    share = mass / len(p)
    value = float(share @ (means**2 - np.diag(scatter)))
    gradient, weighted = share * means, share[:, None] * scatter
    variance = 4 * float(gradient @ scatter @ gradient) + 2 * float(np.trace(weighted @ weighted))
    half = normal_quantile(confidence) * float(np.sqrt(variance))
    scale = np.sqrt(used / (used - 1) * (n_patients - 1) / n_patients)
    return Estimate(
        value=value,
        lower=value - half,
        upper=value + half,
        confidence=confidence,
        method=f"debiased, {len(mass)} bins of equal mass, Wald",
        influence=deviations @ (2 * gradient) * scale,
    )


def plug_in_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, seed: int, bins: int = BINS, draws: int = 200
) -> PlugInError:
    """Plug-in (expected) calibration error ``sum_b n_b/n |r̄_b|`` with what a calibrated model of these cases would show.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1], of the positive class.
        seed: Of the simulated labels.
        bins: Most bins, of equal mass.
        draws: Simulated sets of labels, each ``y ~ Bernoulli(p)``, one image per patient.

    Raises:
        StatisticsError: No case, or a probability outside [0, 1].

    >>> e = plug_in_calibration_error([0, 1] * 50, [0.5] * 100, seed=0)
    >>> e.value, 0.02 < e.null_mean < 0.06
    (0.0, True)
    """
    truth, p, _ = _known(labels, probabilities, np.arange(np.size(labels)), np.size(labels))
    place = equal_mass_bins(p, bins)

    def error(outcome: Floats) -> float:
        return float(np.abs(np.bincount(place, weights=outcome - p)).sum() / len(p))

    generator = np.random.default_rng(seed)
    null = [error((generator.random(len(p)) < p).astype(np.float64)) for _ in range(draws)]
    return PlugInError(value=error(truth), null_mean=float(np.mean(null)), null_upper=float(np.quantile(null, 0.95)))


def brier_parts(labels: ArrayLike, probabilities: ArrayLike) -> BrierParts:
    """CORP: Brier score = MCB - DSC + UNC, recalibrated by isotonic regression, so that no bins have to be chosen.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1].

    Raises:
        StatisticsError: No case, or a probability outside [0, 1].

    Reference:
        Dimitriadis, Gneiting and Jordan 2021, Stable reliability diagrams for probabilistic classifiers,
        doi:10.1073/pnas.2016191118.

    >>> parts = brier_parts([1, 0, 0, 0, 0, 1, 1, 1, 1, 0], [0.3] * 5 + [0.7] * 5)
    >>> [round(x, 6) for x in (parts.score, parts.miscalibration, parts.discrimination, parts.uncertainty)]
    [0.17, 0.01, 0.09, 0.25]
    """
    truth, p, _ = _known(labels, probabilities, np.arange(np.size(labels)), np.size(labels))
    _, place, count = np.unique(p, return_inverse=True, return_counts=True)
    rate = np.bincount(place, weights=truth) / count
    recalibrated = isotonic_regression(rate, weights=count.astype(np.float64)).x[place]
    score = float(((p - truth) ** 2).mean())
    best = float(((recalibrated - truth) ** 2).mean())
    uncertainty = float(truth.mean() * (1 - truth.mean()))
    # Isotonic regression is the least Brier score of all rising functions; rounding must not leave a negative part.
    return BrierParts(
        score=score,
        miscalibration=max(score - best, 0.0),
        discrimination=max(uncertainty - best, 0.0),
        uncertainty=uncertainty,
    )


def equal_mass_bins(values: Floats, bins: int) -> Indices:
    """``(N,)`` bin of every value, numbered without gaps; equal values are never split.

    >>> equal_mass_bins(np.array([0.1, 0.1, 0.1, 0.4, 0.5, 0.9]), 3).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    if bins < 1:
        raise StatisticsError(f"bins: expected one or more, got {bins}")
    first = np.searchsorted(np.sort(values), values, "left")
    return np.unique(first * bins // len(values), return_inverse=True)[1].astype(np.int64)


def _known(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, n_patients: int
) -> tuple[Floats, Floats, Indices]:
    truth, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or p.shape != truth.shape:
        raise StatisticsError(f"probabilities: expected the shape of the labels {truth.shape}, got {p.shape}")
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth)
    truth, p, patient = truth[known], p[known], patient[known]
    if not len(truth):
        raise StatisticsError("calibration: no case with a known label")
    if not ((p >= 0) & (p <= 1)).all():  # NaN is not between either
        raise StatisticsError("calibration: expected probabilities between 0 and 1")
    return truth, p, patient
