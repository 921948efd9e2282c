"""Area under the ROC curve by placement values, clustered by patient; intervals hold near 1 and for few positives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import (
    check_patients,
    cluster_influence,
    count_patients,
    effective_size,
    kish_size,
)
from robustbench_rad.statistics.estimate import Estimate, difference, normal_quantile, student_quantile

Floats = NDArray[np.float64]

FEW = 50
"""Below this many independent positives (or negatives) the logit interval covers too little (90-92 % at 20)."""

NEAR_ONE = 0.95
"""Beyond this area, or below one minus it, likewise."""

ROUNDING = 1e-12
"""Influences and areas that differ by less, relative to the larger, are equal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """What one sort of the scores says about every interval of the area.

    Attributes:
        area: AUC, ties counted half.
        positives: Independent positives the data are worth.
        negatives: Independent negatives.
        patients: The smaller of the numbers of patients with a positive and with a negative.
        influence: ``(C,)`` per patient, zero for patients not used.
        pairs: Independent disjoint pairs of a positive and a negative, were all images of a patient alike (Kish).
    """

    area: float
    positives: float
    negatives: float
    patients: int
    influence: Floats
    pairs: float


def auc(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Area under the ROC curve: P(score of a positive > score of a negative) + ½ P(equal).

    Variance by placement values summed over patients (DeLong, Obuchowski): a patient may have several images and both
    labels. Interval: logit scale, Student quantile; with fewer than 50 independent cases of a label or an area beyond
    0.95, score-inverted Hanley-McNeil (Newcombe's method 5), widened to the clustered DeLong variance with a Student
    quantile where that is larger; at an area of exactly 1 or 0, the exact bound of min(n₊, n₋) disjoint pairs,
    ``(α/2)^(1/min(n₊, n₋))``. Here n₊ and n₋ are effective numbers, so duplicates count once.

    Args:
        labels: ``(N,)`` 1 positive, 0 negative, NaN unknown (ignored).
        scores: ``(N,)`` larger means more likely positive; infinite values rank last.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: One class only, a label other than 0, 1 or NaN, or a NaN score with a known label.

    References:
        DeLong et al. 1988, doi:10.2307/2531595; Obuchowski 1997, doi:10.2307/2533958; Newcombe 2006,
        doi:10.1002/sim.2324.

    >>> e = auc([1, 1, 1, 0, 0, 0], [3, 4, 5, 1, 2, 3.5], range(6), 6)
    >>> round(e.value, 4), round(e.lower, 2), round(e.upper, 2), round(81 * e.standard_error**2, 6)
    (0.8889, 0.14, 1.0, 2.0)
    """
    ranking = rank(labels, scores, patients, n_patients)
    return interval(ranking, confidence=confidence)


def auc_difference(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Paired difference ``auc(first) - auc(second)`` of two scores of the same cases: the drop from first to second.

    The wider, on each side, of MOVER on the two intervals with the correlation of the placement values, and the Student
    interval of the clustered DeLong variance of the difference.

    Where no patient's placement values changed (equal scores, equal ranks, two perfect areas) the difference is 0 and
    its variance too, but other cases might have changed: n = min(n₊, n₋) disjoint pairs all kept their order, which at
    a share q of pairs that change has the probability ``(1 - q)^n``. The difference is at most q, so the limits are
    ``± (1 - (α/2)^(1/n))``, as those of a flip rate without a flip: 0.036 for 100 positives, within a tolerance of 0.05
    from 72 positives on. n is Kish's number of independent cases. The bound allows that every changed pair goes the
    same way; a score that changes a little everywhere shows that it does, and has a narrower interval.

    Args:
        labels: ``(N,)`` 1, 0 or NaN.
        first: ``(N,)`` e.g. clean scores.
        second: ``(N,)`` e.g. scores under a condition.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: As :func:`auc`, for either score.

    References:
        DeLong et al. 1988, doi:10.2307/2531595; Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    a = rank(labels, first, patients, n_patients)
    b = rank(labels, second, patients, n_patients)
    return difference_of_rankings(a, b, confidence=confidence)


def difference_of_rankings(first: Ranking, second: Ranking, *, confidence: float) -> Estimate:
    """Paired difference of two areas that are ranked already; see :func:`auc_difference`.

    Args:
        first: Ranking of the first score.
        second: Ranking of the second, same cases.
        confidence: Two-sided confidence level.
    """
    a, b = interval(first, confidence=confidence), interval(second, confidence=confidence)
    paired = difference(a, b, degrees=_degrees(first, second)).within(-1.0, 1.0)
    if not _unchanged(first.influence, second.influence):
        return paired
    none = np.zeros(len(first.influence))
    if abs(paired.value) > ROUNDING:  # nothing varies, as when a perfect ranking is turned round
        return replace(paired, influence=none)
    half = 1 - _all_pairs(min(first.pairs, second.pairs), confidence)
    return Estimate(
        value=0.0, lower=-half, upper=half, confidence=confidence, method="exact bound, no pair changed", influence=none
    )


def _unchanged(first: Floats, second: Floats) -> bool:
    scale = max(float(np.abs(first).max(initial=0.0)), float(np.abs(second).max(initial=0.0)))
    return bool(np.abs(first - second).max(initial=0.0) <= ROUNDING * scale)


def rank(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, n_patients: int) -> Ranking:
    """Sort once; see :func:`auc` for the arguments."""
    positive, values, patient = _known(labels, scores, patients, n_patients)
    placement = placements(positive, values)
    area = float(placement[positive].mean())
    influence = np.zeros(n_patients)
    sizes, counts, pairs = [], [], []
    for chosen in (positive, ~positive):
        share, who = placement[chosen] - area, patient[chosen]
        influence += cluster_influence(share / len(share), who, n_patients)
        sizes.append(effective_size(placement[chosen], who))
        counts.append(count_patients(who))
        pairs.append(kish_size(who))
    return Ranking(
        area=area,
        positives=sizes[0],
        negatives=sizes[1],
        patients=min(counts),
        influence=influence,
        pairs=min(pairs),
    )


def placements(positive: NDArray[np.bool_], scores: Floats) -> Floats:
    """Placement values: of a positive, the share of negatives below it; of a negative, the share of positives above it.

    Ties count half. O(n log n).

    >>> placements(np.array([True, True, False, False]), np.array([2.0, 1.0, 1.0, 0.0]))
    array([1.  , 0.75, 0.75, 1.  ])
    """
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    values = np.empty(len(scores))
    values[positive] = _rank_in(below, scores[positive])
    values[~positive] = 1 - _rank_in(above, scores[~positive])
    return values


def interval(ranking: Ranking, *, confidence: float) -> Estimate:
    """Choose and compute the interval of an area; see :func:`auc`."""
    variance = _variance(ranking)
    if ranking.area in (0.0, 1.0):
        method, (lower, upper) = "exact bound of disjoint pairs", _exact(ranking, confidence)
    elif min(ranking.positives, ranking.negatives) < FEW or variance == 0 or _extreme(ranking.area):
        method = "score-inverted Hanley-McNeil"
        lower, upper = score_limits(
            ranking.area,
            variance,
            lambda area: symmetric_variance(area, ranking.positives, ranking.negatives),
            degrees=_degrees(ranking, ranking),
            confidence=confidence,
        )
    else:
        method, (lower, upper) = "clustered DeLong, logit scale", _logit(ranking, variance, confidence)
    return Estimate(
        value=ranking.area,
        lower=lower,
        upper=upper,
        confidence=confidence,
        method=method,
        influence=ranking.influence,
    )


def symmetric_variance(area: float, positives: float, negatives: float) -> float:
    """Variance of an area, Hanley and McNeil's form made symmetric in the two classes by Newcombe.

    ``A(1-A) (1 + N (1-A)/(2-A) + N A/(1+A)) / (n₊ n₋)`` with ``N = (n₊ + n₋)/2 - 1``.

    References:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747; Newcombe 2006, doi:10.1002/sim.2324.

    >>> round(symmetric_variance(0.85, 66, 660) ** 0.5, 4)
    0.0251
    """
    extra = max((positives + negatives) / 2 - 1, 0.0)
    bracket = 1 + extra * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * bracket / (positives * negatives)


def score_limits(
    area: float, variance: float, model: Callable[[float], float], *, degrees: float, confidence: float
) -> tuple[float, float]:
    """The areas g with ``(A - g)² <= V(g) max(z², t² variance / V(A))``.

    Args:
        area: Observed area A, 0 to 1.
        variance: Its clustered DeLong variance; where it exceeds the model's, the interval is widened by as much.
        model: Variance V at an area; positive inside (0, 1).
        degrees: Degrees of freedom of the clustered variance, for t.
        confidence: Two-sided confidence level.
    """
    factor = normal_quantile(confidence) ** 2
    if 0 < area < 1:
        factor = max(factor, student_quantile(confidence, degrees) ** 2 * variance / model(area))

    def excess(g: float) -> float:
        return (area - g) ** 2 - factor * model(g)

    inside = 1e-12  # V(0) = V(1) = 0, so a perfect area is itself a root
    lower = float(brentq(excess, 0.0, min(area, 1 - inside))) if area > 0 else 0.0
    upper = float(brentq(excess, max(area, inside), 1.0)) if area < 1 else 1.0
    return lower, upper


def _known(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, n_patients: int
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]]:
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or values.shape != truth.shape:
        raise StatisticsError(f"scores: expected the shape of the labels {truth.shape}, got {values.shape}")
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth)
    truth, values, patient = truth[known], values[known], patient[known]
    if not np.isin(truth, (0.0, 1.0)).all():
        raise StatisticsError("labels: expected 1, 0 or NaN", hint=f"Got {sorted(set(truth.tolist()))[:5]}.")
    positives = int((truth == 1).sum())
    if positives in (0, len(truth)):
        raise StatisticsError(
            f"AUC: expected both classes, got {positives} positives and {len(truth) - positives} negatives"
        )
    if np.isnan(values).any():
        raise StatisticsError(f"AUC: expected a score for every known label, got {int(np.isnan(values).sum())} NaN")
    return truth == 1, values, patient


def _rank_in(reference: Floats, values: Floats) -> Floats:
    left = np.searchsorted(reference, values, "left")
    twice = 2 * left
    tied = reference[np.minimum(left, len(reference) - 1)] == values
    if tied.any():  # a second search only where it can differ
        twice[tied] = left[tied] + np.searchsorted(reference, values[tied], "right")
    return np.asarray(twice / (2 * len(reference)), dtype=np.float64)


def _variance(ranking: Ranking) -> float:
    count = len(ranking.influence)
    return float(ranking.influence @ ranking.influence) * count / max(count - 1, 1)


def _extreme(area: float) -> bool:
    return max(area, 1 - area) > NEAR_ONE


def _degrees(a: Ranking, b: Ranking) -> float:
    return min(a.patients, b.patients, a.positives, a.negatives, b.positives, b.negatives) - 1


def _logit(ranking: Ranking, variance: float, confidence: float) -> tuple[float, float]:
    area = ranking.area
    half = student_quantile(confidence, _degrees(ranking, ranking)) * np.sqrt(variance) / (area * (1 - area))
    return float(expit(logit(area) - half)), float(expit(logit(area) + half))


def _exact(ranking: Ranking, confidence: float) -> tuple[float, float]:
    bound = _all_pairs(min(ranking.positives, ranking.negatives), confidence)
    return (bound, 1.0) if ranking.area == 1 else (0.0, 1 - bound)


def _all_pairs(pairs: float, confidence: float) -> float:
    """The share p at which all of so many disjoint, independent pairs are alike with probability ``p^pairs = α/2``."""
    return float(((1 - confidence) / 2) ** (1 / pairs))
