"""Are the probabilities true, and what does a call mean where the finding is rarer?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence
from robustbench_rad.statistics.estimate import Estimate, covariance, normal_quantile
from robustbench_rad.statistics.means import mean

Floats = NDArray[np.float64]

_STEPS = 50


def calibration_line(
    labels: ArrayLike, logits: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> tuple[Estimate, Estimate]:
    """Intercept and slope of ``logit P(y = 1) = intercept + slope * logit(p)``; 0 and 1 when calibrated.

    Maximum likelihood by iteratively reweighted least squares, with patient-clustered sandwich variance.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        logits: ``(N,)`` log-odds the model gives; finite where the label is known.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: One class, logits that do not vary or are not finite, or classes that the logits separate.

    Reference:
        Cox 1958, Two further applications of a model for binary regression, doi:10.1093/biomet/45.3-4.562.
    """
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth)
    truth, score, patient = truth[known], score[known], patient[known]
    if len(np.unique(truth)) != 2 or not np.isfinite(score).all() or np.ptp(score) == 0:
        raise StatisticsError("calibration: expected both classes and finite logits that vary")
    line, bread = fit_line(score, truth)
    design = np.column_stack([np.ones_like(score), score])
    residual = (truth - expit(design @ line))[:, None] * design @ bread
    return (
        _coefficient(line[0], residual[:, 0], patient, n_patients, confidence),
        _coefficient(line[1], residual[:, 1], patient, n_patients, confidence),
    )


def fit_line(scores: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Maximum-likelihood intercept and slope of ``logit E(target) = intercept + slope * score``, by Newton's steps.

    Args:
        scores: ``(N,)`` finite, not all equal.
        targets: ``(N,)`` in [0, 1].

    Returns:
        ``(2,)`` intercept and slope, and the ``(2, 2)`` inverse information.

    Raises:
        StatisticsError: No finite fit, as when the scores separate the classes.
    """
    design = np.column_stack([np.ones_like(scores), scores])
    line = np.zeros(2)
    for _ in range(_STEPS):
        p = expit(design @ line)
        information = (design * (p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(information) > 1e12:
            break
        inverse = np.linalg.inv(information)
        step = inverse @ (design.T @ (targets - p))
        line = line + step
        if np.abs(step).max() < 1e-10:
            return line, np.asarray(inverse, dtype=np.float64)
    raise StatisticsError("calibration: the logits separate the classes, so no line fits")


def brier(
    labels: ArrayLike, probabilities: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Brier score, the mean squared distance of probability and label.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1].
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: A probability outside [0, 1], or fewer than two patients.

    >>> p = [0.2] * 5 + [0.8] * 5
    >>> round(brier([1, 0, 0, 0, 0, 1, 1, 1, 1, 0], p, range(10), 10).value, 6)
    0.16
    """
    truth, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if not ((p >= 0) & (p <= 1))[~np.isnan(truth)].all():
        raise StatisticsError("Brier score: expected probabilities between 0 and 1")
    return mean((p - truth) ** 2, patients, n_patients, bounds=(0.0, 1.0), confidence=confidence)


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """PPV and NPV at a prevalence π, by Bayes.

    ``PPV = se π / (se π + (1 - sp)(1 - π))``, ``NPV = sp (1 - π) / (sp (1 - π) + (1 - se) π)``; NaN where no case is
    called so.

    >>> [round(predictive_values(0.85, 0.90, p)[0], 4) for p in (0.10, 0.03, 0.01)]
    [0.4857, 0.2082, 0.0791]
    """
    if not all(0 <= share <= 1 for share in (sensitivity, specificity, prevalence)):
        raise StatisticsError(f"expected shares, got {sensitivity}, {specificity} and prevalence {prevalence}")
    true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _share(true_positive, false_positive), _share(true_negative, false_negative)


def _share(right: float, wrong: float) -> float:
    return right / (right + wrong) if right + wrong > 0 else float("nan")


def _coefficient(
    value: float, deviations: Floats, patients: NDArray[np.int64], n_patients: int, confidence: float
) -> Estimate:
    influence = cluster_influence(deviations, patients, n_patients)
    half = normal_quantile(confidence) * float(np.sqrt(covariance(influence, influence)))
    return Estimate(
        value=float(value),
        lower=float(value) - half,
        upper=float(value) + half,
        confidence=confidence,
        method="Wald, clustered sandwich",
        influence=influence,
    )
