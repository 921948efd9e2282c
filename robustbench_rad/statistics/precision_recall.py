"""Average precision, the area under the precision-recall curve; it says nothing without the prevalence beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, effective_size
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.proportions import clopper_pearson

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """Average precision and what chance would give.

    Attributes:
        estimate: Average precision.
        prevalence: Share of positives among the cases used: the average precision of a score that says nothing.
    """

    estimate: Estimate
    prevalence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """Cases from the largest score down; ``end`` is the last place of each case's group of ties."""

    positive: NDArray[np.bool_]
    owner: NDArray[np.int64]
    end: NDArray[np.int64]


def average_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = 1000,
    confidence: float = 0.95,
) -> AveragePrecision:
    """Mean precision at the positives, ``1/n₊ sum_i TP(s_i) / (TP(s_i) + FP(s_i))``; equal scores are called together.

    Interval on the logit scale. Its standard error is the larger of the patient-cluster bootstrap's, a draw being a count
    per patient, and the infinitesimal jackknife's; Student quantile on the effective number of positives. At exactly 1
    the bound is Clopper-Pearson's on positives that no negative outranks.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)`` larger means more likely positive.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the draws.
        draws: Bootstrap samples.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: One class only, or a NaN score with a known label.

    Reference:
        Boyd, Eng and Page 2013, Area under the precision-recall curve: point estimates and confidence intervals,
        doi:10.1007/978-3-642-40994-3_29.

    >>> ap = average_precision([1, 0, 1, 0], [4, 3, 2, 1], range(4), 4, seed=0)
    >>> round(ap.estimate.value, 4), ap.prevalence  # (1/1 + 2/3) / 2
    (0.8333, 0.5)
    """
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth)
    truth, values, patient = truth[known], values[known], patient[known]
    if set(truth.tolist()) != {0.0, 1.0} or np.isnan(values).any():
        raise StatisticsError("average precision: expected both classes and a score for every known label")
    order = _order(truth, values, patient)
    value = _weighted(order, np.ones(len(truth)))
    influence = cluster_influence(_derivatives(order, value), order.owner, n_patients)
    positive = order.positive
    size = effective_size(_precisions(order)[positive], order.owner[positive])
    if value == 1.0:
        lower, upper, method = clopper_pearson(size, size, confidence=confidence)[0], 1.0, "Clopper-Pearson"
    else:
        drawn = bootstrap_average_precision(order, draws=draws, seed=seed)
        spread = max(float(np.nanstd(logit(np.clip(drawn, 1e-9, 1 - 1e-9)), ddof=1)), _logit_error(influence, value))
        half = student_quantile(confidence, size - 1) * spread
        lower, upper = float(expit(logit(value) - half)), float(expit(logit(value) + half))
        method = "patient bootstrap, logit scale"
    estimate = Estimate(
        value=value, lower=lower, upper=upper, confidence=confidence, method=method, influence=influence
    )
    return AveragePrecision(estimate=estimate, prevalence=float(truth.mean()))


def bootstrap_average_precision(order: _Order, *, draws: int, seed: int) -> Floats:
    """``(draws,)`` average precisions of samples of patients; NaN where a draw holds no positive."""
    _, owner = np.unique(order.owner, return_inverse=True)
    patients = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    values = np.empty(draws)
    for draw in range(draws):
        count = np.bincount(generator.integers(0, patients, patients), minlength=patients)
        values[draw] = _weighted(order, count[owner].astype(np.float64))
    return values


def _order(truth: Floats, scores: Floats, patients: NDArray[np.int64]) -> _Order:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.r_[ranked[1:] != ranked[:-1], True]
    ends = np.flatnonzero(last)
    return _Order(
        positive=truth[order] == 1, owner=patients[order], end=ends[np.searchsorted(ends, np.arange(len(truth)))]
    )


def _weighted(order: _Order, weights: Floats) -> float:
    """Average precision of weighted cases; a threshold above which no weight lies adds nothing."""
    hits = np.where(order.positive, weights, 0.0)
    found, called = np.cumsum(hits)[order.end], np.cumsum(weights)[order.end]
    total = hits.sum()
    if total == 0:
        return float("nan")
    return float((hits[order.positive] * (found / np.maximum(called, 1e-300))[order.positive]).sum() / total)


def _precisions(order: _Order) -> Floats:
    found = np.cumsum(order.positive)[order.end]
    return np.asarray(found / (order.end + 1), dtype=np.float64)


def _derivatives(order: _Order, value: float) -> Floats:
    """``(n,)`` derivative of the average precision in the weight of each case; they sum to zero."""
    called = (order.end + 1).astype(np.float64)
    precision = _precisions(order)
    # A case counts at every positive whose group ends at or after the case's own first place.
    first = np.r_[0, np.flatnonzero(np.diff(order.end)) + 1]
    start = first[np.searchsorted(first, np.arange(len(called)), "right") - 1]
    hit = np.where(order.positive, 1 / called, 0.0)
    loss = np.where(order.positive, precision / called, 0.0)
    later_hit = np.r_[np.cumsum(hit[::-1])[::-1], 0.0][start]
    later_loss = np.r_[np.cumsum(loss[::-1])[::-1], 0.0][start]
    own = np.where(order.positive, precision - value + later_hit, 0.0)
    return np.asarray((own - later_loss) / order.positive.sum(), dtype=np.float64)


def _logit_error(influence: Floats, value: float) -> float:
    return float(np.sqrt(covariance(influence, influence))) / (value * (1 - value))
