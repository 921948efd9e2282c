"""What an intervention does to a score, in units of the score's spread, clustered by patient; and its sign-flip p-value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, kish_size
from robustbench_rad.statistics.estimate import Estimate, student
from robustbench_rad.statistics.permutation import DRAWS
from robustbench_rad.statistics.proportions import clopper_pearson, paired_interval, paired_shares, tango

Floats = NDArray[np.float64]

FEW_PATIENTS = 11
"""Up to here all sign flips are tried, ``2^11 = 2048``."""


def standardised_effect(
    changes: ArrayLike, scores: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Mean change of a score over the standard deviation of the score, ``e = mean(d) / SD(s)``.

    Student interval over the patients that have a change. The standard deviation is an estimate too: the influence of e is
    ``infl(mean) / SD - e infl(log SD)``. Where no case changed at all the interval is [0, 0], and the method says for what
    share of other cases that may not hold: an effect has no bound that could be filled in for them.

    Args:
        changes: ``(N,)`` d, NaN where there is none.
        scores: ``(N,)`` s of the unaltered cases, NaN where there is none; SD with divisor N.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients with a change, an infinite number, or scores that do not vary.

    >>> e = standardised_effect([0.5, 0.5, 0.5, 0.5], [1.0, -1.0, 1.0, -1.0], range(4), 4)
    >>> e.value, round(e.lower, 6), round(e.upper, 6)
    (0.5, 0.5, 0.5)
    """
    d, s = np.asarray(changes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    patient = check_patients(patients, len(d), n_patients)
    moved, known = ~np.isnan(d), ~np.isnan(s)
    if np.isinf(d).any() or np.isinf(s).any():
        raise StatisticsError(f"effect: expected finite scores, got {int((np.isinf(d) | np.isinf(s)).sum())} infinite")
    if count_patients(patient[moved]) < 2:
        raise StatisticsError(f"effect: expected two patients or more, got {count_patients(patient[moved])}")
    spread = float(s[known].std())
    if spread == 0:
        raise StatisticsError("the scores of the unaltered images do not vary")
    if not d[moved].any():
        return _nothing_moved(patient[moved], n_patients, confidence)
    value = float(d[moved].mean()) / spread
    mean = cluster_influence((d[moved] - d[moved].mean()) / int(moved.sum()), patient[moved], n_patients)
    logarithm = cluster_influence(_log_spread(s[known]), patient[known], n_patients)
    influence = mean / spread - value * logarithm
    degrees = count_patients(patient[moved]) - 1
    return student(value, influence, degrees=degrees, confidence=confidence, method="Student, clustered")


def beyond_placebo(
    alone: Callable[[float], Estimate], difference: Callable[[float], Estimate], *, confidence: float = 0.95
) -> Estimate:
    """How far an effect o lies outside of everything between none and that of its placebo p.

    ``max(min(o, o - p), min(-o, p - o), 0)``: |o| beside an inert placebo, o - p beside one that does less of the same, 0 where
    the placebo does as much or more of the same. On either side both o and o - p must lie beyond a limit: the lower limit is
    the smaller of theirs (Berger 1982: an intersection needs no correction), the upper limit the smaller of theirs at half the
    error, since either of them may err.

    Args:
        alone: Makes the estimate of o at a confidence level.
        difference: Makes that of o - p.
        confidence: Two-sided confidence level.

    Reference:
        Berger 1982, doi:10.1080/00401706.1982.10487790.

    >>> o, d = Estimate(value=0.5, lower=0.4, upper=0.6), Estimate(value=0.3, lower=0.1, upper=0.5)
    >>> found = beyond_placebo(lambda _: o, lambda _: d)
    >>> found.value, found.lower, found.upper
    (0.3, 0.1, 0.5)
    """
    pair, strict = (
        [make(level) for make in (alone, difference)] for level in (confidence, 1.0 - (1.0 - confidence) / 2.0)
    )
    sides = []
    for sign in (1.0, -1.0):
        usual, wide = ([estimate.affine(scale=sign) for estimate in made] for made in (pair, strict))
        smaller = min(usual, key=lambda estimate: estimate.value)
        lower, upper = min(estimate.lower for estimate in usual), min(estimate.upper for estimate in wide)
        sides.append(replace(smaller, lower=lower, upper=max(upper, smaller.value)))
    larger = max(sides, key=lambda side: side.value)
    return replace(
        larger,
        value=max(larger.value, 0.0),
        lower=max(0.0, *(side.lower for side in sides)),
        upper=max(0.0, *(side.upper for side in sides)),
    )


def flip_difference(
    first: ArrayLike,
    second: ArrayLike,
    valid: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Share of cases flipped by the first minus the share flipped by the second, paired.

    With one image per patient Tango's score interval; with several, the clustered interval of
    :func:`~robustbench_rad.statistics.proportions.paired_difference`; without a case flipped by one alone, Clopper-Pearson.

    Args:
        first: ``(N,)`` boolean.
        second: ``(N,)`` boolean.
        valid: ``(N,)`` boolean, the cases that count.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No valid case, or flips that are not boolean.

    >>> d = flip_difference([True, True, False, False], [False] * 4, [True] * 4, range(4), 4)
    >>> d.value, d.method
    (0.5, 'Tango')
    """
    pair = paired_shares(first, second, valid, patients, n_patients)
    found = paired_interval(pair, confidence=confidence)
    cases = pair.first.cases
    if pair.changed.value == 0 or pair.patients != cases:
        return found
    chosen = np.asarray(valid, dtype=np.bool_)
    a, b = np.asarray(first)[chosen], np.asarray(second)[chosen]
    lower, upper = tango(int((a & ~b).sum()), int((b & ~a).sum()), cases, confidence=confidence)
    return Estimate(
        value=found.value,
        lower=min(lower, found.value),
        upper=max(upper, found.value),
        confidence=confidence,
        method="Tango",
        influence=found.influence,
    )


def sign_flip_p(changes: ArrayLike, patients: ArrayLike, n_patients: int, *, seed: int, draws: int = DRAWS) -> float:
    """Two-sided p-value of a mean change of 0, the signs of the patients' sums being flipped at random.

    All flips with up to 11 patients, else ``draws`` of them; the observed signs count as one draw.

    Args:
        changes: ``(N,)`` NaN where there is none.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the flips.
        draws: Number of flips.

    Raises:
        StatisticsError: No change at hand, or an infinite one.

    Reference:
        Fisher 1935, The Design of Experiments, § 21; Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.

    >>> sign_flip_p([1.0, 2.0, 3.0], range(3), 3, seed=0)  # 2 of 8 are as extreme
    0.25
    """
    d = np.asarray(changes, dtype=np.float64)
    patient = check_patients(patients, len(d), n_patients)
    known = ~np.isnan(d)
    if not known.any() or np.isinf(d).any():
        raise StatisticsError("sign flips: expected finite changes, got none or an infinite one")
    sums = np.bincount(patient[known], weights=d[known], minlength=n_patients)
    sums = sums[np.bincount(patient[known], minlength=n_patients) > 0]
    if len(sums) <= FEW_PATIENTS:
        totals = np.array(list(product((1.0, -1.0), repeat=len(sums)))) @ sums
    else:
        signs = np.random.default_rng(seed).integers(0, 2, size=(draws, len(sums)), dtype=np.int8)
        totals = np.r_[sums.sum(), (2.0 * signs - 1.0) @ sums]
    return float((np.abs(totals) >= abs(sums.sum()) * (1 - 1e-9)).mean())


def _nothing_moved(patients: NDArray[np.int64], n_patients: int, confidence: float) -> Estimate:
    unseen = clopper_pearson(0, kish_size(patients), confidence=confidence)[1]
    return Estimate(
        value=0.0,
        lower=0.0,
        upper=0.0,
        confidence=confidence,
        method=f"no case seen moved, up to {unseen:.2%} of others may",
        influence=np.zeros(n_patients),
    )


def _log_spread(scores: Floats) -> Floats:
    """Influence of the logarithm of a standard deviation on each score."""
    squared = (scores - scores.mean()) ** 2
    return np.asarray((squared / squared.mean() - 1) / (2 * len(scores)))
