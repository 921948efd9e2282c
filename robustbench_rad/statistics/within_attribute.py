"""What an AUC owes to an attribute (scanner, site) that goes with the label: pooled against within, and re-weighted.

Pairs of a positive of one scanner and a negative of another can be ranked by telling the scanners apart. Within a scanner they
cannot, and weights that make scanner and label independent take the advantage out of the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import interval, rank, score_limits, symmetric_variance
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients
from robustbench_rad.statistics.estimate import Estimate, covariance, difference

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reweighted:
    """An AUC with the attribute made independent of the label.

    Attributes:
        estimate: The weighted AUC.
        positives: Cases the weighted positives are worth, ``(sum w)² / sum w²``.
        negatives: Likewise the negatives.
    """

    estimate: Estimate
    positives: float
    negatives: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cases:
    """Cases with a known label and value: truth, score, value from 0 and patient."""

    truth: Floats
    score: Floats
    code: Indices
    patient: Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """What the cases of one label have to do with a re-weighted AUC.

    Attributes:
        mean: ``(A,)`` mean placement of each value of the attribute; its weighted mean is the AUC.
        deviations: ``(n,)`` of each case, 0 for those of the other label.
        size: Cases that the weighted ones are worth.
    """

    mean: Floats
    deviations: Floats
    size: float


def inflation(
    labels: ArrayLike,
    scores: ArrayLike,
    codes: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Pooled AUC minus the case-weighted mean of the AUCs within each value of the attribute, on the same cases.

    ``A - sum_a n_a A_a / n``. Interval: MOVER of the two with the correlation of their influences (the shares n_a / n are
    estimated too), and at least the Student interval of the influence of the difference, clustered by patient.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``; not NaN where label and value are known.
        codes: ``(N,)`` number of the value, NaN unknown (ignored); each holds both labels.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two values, or a value with one label only.

    Reference:
        Badgeley et al. 2019, Deep learning predicts hip fracture using confounding patient and healthcare variables,
        doi:10.1038/s41746-019-0105-1.

    >>> label, scanner = [1, 1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]
    >>> score = [11, 10, 12, 13, 1, 2, 0, 3]  # the scanner is worth ten, the rest is no better than chance
    >>> e = inflation(label, score, scanner, range(8), 8)
    >>> round(e.value, 4)  # 10 of 16 pairs, against 0 of 3 and 1 of 3
    0.4583
    """
    cases = _cases(labels, scores, codes, patients, n_patients)
    ranking = rank(cases.truth, cases.score, cases.patient, n_patients)
    overall = interval(ranking, confidence=confidence)
    within = _within(cases, n_patients, confidence)
    return difference(overall, within, degrees=ranking.patients - 1)


def within_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    codes: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Case-weighted mean of the AUCs within each value of an attribute; see :func:`inflation` for arguments and errors."""
    return _within(_cases(labels, scores, codes, patients, n_patients), n_patients, confidence)


def reweighted_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    codes: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Reweighted:
    """AUC under the weights ``p(a) p(y) / p(a, y)``, which make attribute a and label y independent.

    It equals ``sum_ab p(a) p(b) A_ab``, A_ab being the AUC of positives of value a against negatives of value b; no case is
    drawn twice. The influence includes that of the estimated shares p(a). Interval: score-inverted with the effective
    numbers of cases, widened to the patient-clustered variance where that is larger, with Satterthwaite's degrees of freedom.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``; not NaN where label and value are known.
        codes: ``(N,)`` number of the value, NaN unknown (ignored); each holds both labels.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: As :func:`inflation`.

    >>> label, scanner = [1, 1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]
    >>> found = reweighted_auc(label, [11, 10, 12, 13, 1, 2, 0, 3], scanner, range(8), 8)
    >>> round(found.estimate.value, 4), found.positives  # (0 + 1/3 + 1 + 0) / 4
    (0.3333, 3.0)
    """
    cases = _cases(labels, scores, codes, patients, n_patients)
    share = np.bincount(cases.code) / len(cases.code)
    positive, negative = (_side(cases, label, share) for label in (1.0, 0.0))
    deviations = positive.deviations + negative.deviations
    degrees = _degrees(deviations, cases)
    moved = positive.mean + negative.mean  # how the area moves with the share of each value
    deviations += (moved[cases.code] - float(share @ moved)) / len(cases.code)
    influence = cluster_influence(deviations, cases.patient, n_patients)
    value = float(share @ negative.mean)
    lower, upper = score_limits(
        value,
        covariance(influence, influence),
        lambda area: symmetric_variance(area, positive.size, negative.size),
        degrees=degrees,
        confidence=confidence,
    )
    estimate = Estimate(
        value=value,
        lower=lower,
        upper=upper,
        confidence=confidence,
        method="re-weighted, score-inverted Hanley-McNeil on the effective numbers of cases",
        influence=influence,
    )
    return Reweighted(estimate=estimate, positives=positive.size, negatives=negative.size)


def _side(cases: _Cases, label: float, share: Floats) -> _Side:
    """The cases of one label, placed among the weighted cases of the other."""
    own, others = cases.truth == label, cases.truth != label
    code = cases.code[own]
    count = np.bincount(code, minlength=len(share))
    placed = _placed(cases.score[own], cases.score[others], _weights(cases.code[others], share))
    placed = placed if label == 1 else 1 - placed
    mean = np.bincount(code, weights=placed, minlength=len(share)) / count
    deviations = np.zeros(len(cases.code))
    deviations[own] = share[code] / count[code] * (placed - mean[code])
    _widen(deviations, own, cases)
    return _Side(mean=mean, deviations=deviations, size=1 / float((share**2 / count).sum()))


def _cases(labels: ArrayLike, scores: ArrayLike, codes: ArrayLike, patients: ArrayLike, n_patients: int) -> _Cases:
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    code = np.asarray(codes, dtype=np.float64)
    if not truth.shape == score.shape == code.shape or truth.ndim != 1:
        raise StatisticsError(
            f"within attribute: expected vectors of one length, got {truth.shape}, {score.shape} and {code.shape}"
        )
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth) & ~np.isnan(code)
    truth, score, patient = truth[known], score[known], patient[known]
    if np.isnan(score).any():
        raise StatisticsError(f"within attribute: {int(np.isnan(score).sum())} cases have no score")
    values, place = np.unique(code[known], return_inverse=True)
    if len(values) < 2:
        raise StatisticsError(f"within attribute: expected two values or more, got {len(values)}")
    for label in (1.0, 0.0):
        if (np.bincount(place[truth == label], minlength=len(values)) == 0).any():
            raise StatisticsError("within attribute: a value of the attribute holds one label only")
    return _Cases(truth=truth, score=score, code=place, patient=patient)


def _within(cases: _Cases, n_patients: int, confidence: float) -> Estimate:
    share = np.bincount(cases.code) / len(cases.code)
    rankings = [
        rank(cases.truth[here], cases.score[here], cases.patient[here], n_patients)
        for here in (cases.code == value for value in range(len(share)))
    ]
    areas = np.array([ranking.area for ranking in rankings])
    value = float(share @ areas)
    influence = np.sum([part * ranking.influence for part, ranking in zip(share, rankings, strict=True)], axis=0)
    influence = influence + cluster_influence((areas[cases.code] - value) / len(cases.code), cases.patient, n_patients)

    def model(area: float) -> float:
        parts = [symmetric_variance(area, ranking.positives, ranking.negatives) for ranking in rankings]
        return float(share**2 @ parts)

    degrees = sum(ranking.patients - 1 for ranking in rankings)
    lower, upper = score_limits(value, covariance(influence, influence), model, degrees=degrees, confidence=confidence)
    return Estimate(
        value=value,
        lower=lower,
        upper=upper,
        confidence=confidence,
        method="mean within values, score-inverted Hanley-McNeil",
        influence=influence,
    )


def _widen(deviations: Floats, own: NDArray[np.bool_], cases: _Cases) -> None:
    """Undo, in place, what a mean of few patients takes from their deviations: ``sqrt(P / (P - 1))`` of each value."""
    for value in np.unique(cases.code):
        here = own & (cases.code == value)
        patients = count_patients(cases.patient[here])
        deviations[here] *= np.sqrt(patients / max(patients - 1, 1))


def _degrees(deviations: Floats, cases: _Cases) -> float:
    """Satterthwaite's degrees of freedom: a rare value of a label carries most of the variance, on few patients."""
    total = squared = 0.0
    for cell in np.unique(2 * cases.code + (cases.truth == 1)):
        here = 2 * cases.code + (cases.truth == 1) == cell
        sums = np.bincount(cases.patient[here], weights=deviations[here])
        variance = float(sums @ sums)
        total += variance
        squared += variance**2 / max(count_patients(cases.patient[here]) - 1, 1)
    return total**2 / squared if squared > 0 else float(len(np.unique(cases.patient)) - 1)


def _weights(code: Indices, share: Floats) -> Floats:
    """Weights that give each value its share, and sum to 1."""
    return np.asarray((share / np.bincount(code, minlength=len(share)))[code], dtype=np.float64)


def _placed(scores: Floats, others: Floats, weights: Floats) -> Floats:
    """For each score the weight of the others below it, ties half."""
    order = np.argsort(others, kind="stable")
    ordered, total = others[order], np.r_[0.0, np.cumsum(weights[order])]
    left, right = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((total[left] + total[right]) / 2, dtype=np.float64)
