"""Refer when unsure: what is left of the errors when the least confident cases go to a reader."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, effective_size
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.proportions import clopper_pearson, proportion

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

GRID = 20
"""Coverages at which a risk is promised: 1/20, 2/20, … 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RiskCoverage:
    """Error rate of the most confident share of cases.

    Attributes:
        coverage: ``(n,)`` share of cases kept, 1/n … 1.
        risk: ``(n,)`` their error rate; cases of equal confidence are kept in random order, on average.
        area: Area under the risk-coverage curve.
        excess: The same minus that of an ideal confidence, which refers every error first.
    """

    coverage: Floats
    risk: Floats
    area: Estimate
    excess: Estimate


@dataclass(frozen=True, kw_only=True)
class SafeCoverage:
    """How many cases a model may keep at a risk.

    Attributes:
        observed: Largest share kept whose error rate on these cases is at most the target; 0 when there is none.
        shown: Largest share of the grid whose upper limit is; 0 when none can be shown.
        threshold: Least confidence kept at ``shown``; infinite when nothing may be kept.
    """

    observed: float
    shown: float
    threshold: float


def risk_coverage(
    errors: ArrayLike,
    certainty: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> RiskCoverage:
    """Risk-coverage curve with its area and the excess over the ideal, in one sort.

    ``AURC = 1/n sum_k R_k``, R_k the error rate of the k most certain cases; ideal: ``1/n sum_k max(0, 1 - (n - E)/k)``
    with E errors. Clustered by the derivatives in the weight of each case, Student quantile on the patients with an error
    or with none, the fewer. Both are skewed: log scale, but for an excess that is not clear of 0. Without any error the
    upper limit is the area of errors that come first, at their Clopper-Pearson bound.

    Args:
        errors: ``(N,)`` 1 wrong, 0 right, NaN unknown (ignored).
        certainty: ``(N,)`` larger is surer, e.g. the absolute margin; not NaN where the error is known.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients, an error other than 0, 1 and NaN, or a NaN certainty.

    Reference:
        Geifman, Uziel and El-Yaniv 2019, Bias-reduced uncertainty estimation for deep neural classifiers,
        arXiv:1805.08206.

    >>> curve = risk_coverage([0, 0, 1, 0], [4, 3, 2, 1], range(4), 4)
    >>> curve.risk.round(4).tolist(), round(curve.area.value, 4), round(curve.excess.value, 4)
    ([0.0, 0.0, 0.3333, 0.25], 0.1458, 0.0833)
    """
    wrong, sure, patient = _known(errors, certainty, patients, n_patients)
    order = np.argsort(-sure, kind="stable")
    mean = _within_ties(wrong[order], sure[order])
    place = np.arange(1, len(mean) + 1)
    risk = np.cumsum(mean) / place
    rate, area = float(wrong.mean()), float(risk.mean())
    # Derivative in the weight of the case at place j: R_j - A + sum_{k >= j} (e_j - R_k) / k, on average over ties.
    fixed = _within_ties(risk - area - _from_here(risk / place), sure[order])
    slope = fixed + wrong[order] * _within_ties(_from_here(1 / place), sure[order])
    ideal = float(np.maximum(0.0, 1 - (1 - rate) * len(mean) / place).mean())
    ideal_slope = -np.log(max(1 - rate, 1 / len(mean))) * (wrong[order] - rate)
    spread = student_quantile(confidence, min(count_patients(patient[wrong == e]) for e in (0.0, 1.0)) - 1)

    def estimate(value: float, derivative: Floats, *, skewed: bool) -> Estimate:
        influence = cluster_influence((derivative - derivative.mean()) / len(mean), patient[order], n_patients)
        made = _estimate(value, influence, spread, skewed=skewed, confidence=confidence)
        return made if rate > 0 else _without_errors(made, wrong, patient)

    return RiskCoverage(
        coverage=place / len(mean),
        risk=np.asarray(risk, dtype=np.float64),
        area=estimate(area, slope, skewed=True),
        excess=estimate(max(area - ideal, 0.0), slope - ideal_slope, skewed=False),
    )


def _estimate(value: float, influence: Floats, spread: float, *, skewed: bool, confidence: float) -> Estimate:
    """An area with ``spread`` standard errors to either side, on the log scale where it can be."""
    half = spread * float(np.sqrt(covariance(influence, influence)))
    limits, method = (value - half, value + half), "Student, clustered"
    if half < value or (skewed and value > 0):
        factor = float(np.exp(min(half / value, 700.0)))
        limits, method = (value / factor, value * factor), "Student, clustered, log scale"
    return Estimate(
        value=value,
        lower=max(limits[0], 0.0),
        upper=min(limits[1], 1.0),
        confidence=confidence,
        method=method,
        influence=influence,
    )


def _without_errors(estimate: Estimate, wrong: Floats, patients: Indices) -> Estimate:
    """The upper limit is the area when a share e of errors comes first: ``e - e ln e``."""
    rate = clopper_pearson(0, effective_size(wrong, patients), confidence=estimate.confidence)[1]
    bound = float(rate - rate * np.log(rate))
    return replace(estimate, lower=0.0, upper=min(bound, 1.0), method="Clopper-Pearson, errors first")


def safe_coverage(
    errors: ArrayLike,
    certainty: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    target: float,
    confidence: float = 0.95,
) -> SafeCoverage:
    """Largest share of cases that may be kept so that their error rate is at most ``target``.

    Shown: the largest of 20 shares whose upper limit is at most the target, all 20 holding together (Bonferroni), each
    clustered. A group of equal certainty is kept whole or not at all.

    Args:
        errors: ``(N,)`` 1, 0 or NaN (ignored).
        certainty: ``(N,)``.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        target: Error rate that is tolerated.
        confidence: That the promise holds, one-sided.

    Raises:
        StatisticsError: As :func:`risk_coverage`, or a target outside [0, 1].

    >>> e = safe_coverage([0] * 190 + [1] * 10, range(200, 0, -1), range(200), 200, target=0.05)
    >>> e.observed, e.shown
    (1.0, 0.95)
    """
    if not 0 <= target <= 1:
        raise StatisticsError(f"target risk: expected a share, got {target}")
    wrong, sure, patient = _known(errors, certainty, patients, n_patients)
    order = np.argsort(-sure, kind="stable")
    wrong, sure, patient = wrong[order], sure[order], patient[order]
    ends = np.flatnonzero(np.r_[sure[1:] != sure[:-1], True]) + 1
    risk = np.cumsum(wrong)[ends - 1] / ends
    safe = ends[risk <= target]
    level = 1 - 2 * (1 - confidence) / GRID
    shown, threshold = 0.0, float("inf")
    for share in range(1, GRID + 1):
        within = ends[ends <= share * len(wrong) / GRID]
        if not len(within):
            continue
        kept = int(within[-1])
        upper = proportion(
            wrong[:kept] == 1, np.ones(kept, dtype=np.bool_), patient[:kept], n_patients, confidence=level
        ).upper
        if upper <= target:
            shown, threshold = kept / len(wrong), float(sure[kept - 1])
    return SafeCoverage(observed=float(safe[-1] / len(wrong)) if len(safe) else 0.0, shown=shown, threshold=threshold)


def _known(
    errors: ArrayLike, certainty: ArrayLike, patients: ArrayLike, n_patients: int
) -> tuple[Floats, Floats, Indices]:
    wrong, sure = np.asarray(errors, dtype=np.float64), np.asarray(certainty, dtype=np.float64)
    if wrong.ndim != 1 or sure.shape != wrong.shape:
        raise StatisticsError(f"certainty: expected the shape of the errors {wrong.shape}, got {sure.shape}")
    patient = check_patients(patients, len(wrong), n_patients)
    known = ~np.isnan(wrong)
    wrong, sure, patient = wrong[known], sure[known], patient[known]
    if not np.isin(wrong, (0.0, 1.0)).all():
        raise StatisticsError("errors: expected 1, 0 or NaN")
    if count_patients(patient) < 2:
        raise StatisticsError(f"risk-coverage: expected two patients or more, got {count_patients(patient)}")
    if np.isnan(sure).any():
        raise StatisticsError(f"risk-coverage: {int(np.isnan(sure).sum())} cases have no certainty")
    return wrong, sure, patient


def _within_ties(values: Floats, sure: Floats) -> Floats:
    """Mean of each group of equal certainty, at every member."""
    group = np.cumsum(np.r_[False, sure[1:] != sure[:-1]])
    return np.asarray((np.bincount(group, weights=values) / np.bincount(group))[group], dtype=np.float64)


def _from_here(values: Floats) -> Floats:
    return np.asarray(np.cumsum(values[::-1])[::-1], dtype=np.float64)
