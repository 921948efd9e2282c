"""Does the score tell any value of an attribute once the label is known? One exact p-value for all its values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

DRAWS = 2000
OFTEN = 64
"""More than there are doublings of a number of images."""
NOTHING = (
    "permutation: nothing to exchange, no cases of the same label, of patients with about as many images, differ in attribute "
    "and score"
)


def any_value_permutation_p(
    labels: ArrayLike,
    scores: ArrayLike,
    codes: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = DRAWS,
) -> float:
    """P-value of no dependence on any value, the values being permuted where they could as well be exchanged.

    The values of patients who have one are permuted among patients with the same labels and about as many images of each
    (1, 2, 3 to 4, 5 to 8, ...), each with all their images: where the patients of one scanner come more often, their sums vary
    more and are no exchange for others. Those of a patient who has several are permuted among the patient's own images of the
    same label.
    Statistic: the largest over the values of ``|sum of centred ranks| / its permutation SD``, so all values are tried
    and need no further correction. The observed order counts as one draw; the least p is ``1 / (draws + 1)``.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)`` not NaN where label and code are known.
        codes: ``(N,)`` number of the value, NaN unknown (ignored).
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the permutations.
        draws: Number of permutations.

    Raises:
        StatisticsError: A NaN score, fewer than two values, or nothing that a permutation would change.

    Reference:
        Phipson and Smyth 2010, Permutation p-values should never be zero, doi:10.2202/1544-6115.1585; Westfall and Young
        1993, Resampling-based multiple testing (largest statistic).

    >>> scores = np.r_[np.arange(20.0), np.arange(20.0)]
    >>> p = any_value_permutation_p([1] * 20 + [0] * 20, scores, scores >= 10, range(40), 40, seed=0)
    >>> p < 0.001
    True
    """
    blocks, places, code = _prepared(labels, scores, codes, patients, n_patients)
    levels = len(np.unique(code))
    counts = [_counts(place, levels) for place in places]
    spread = np.sqrt(np.sum([_variance(block, count) for block, count in zip(blocks, counts, strict=True)], axis=0))
    if not (spread > 1e-12).any():
        raise StatisticsError(NOTHING)
    generator = np.random.default_rng(seed)
    place = np.concatenate([part.ravel() for part in places])
    told = np.empty((draws + 1, levels))
    for draw in range(draws + 1):
        drawn = [generator.permuted(block, axis=1) if draw else block for block in blocks]
        told[draw] = np.bincount(place, weights=np.concatenate([part.ravel() for part in drawn]), minlength=levels)
    size = np.abs(told[:, spread > 1e-12] / spread[spread > 1e-12]).max(axis=1)
    return float((size >= size[0] * (1 - 1e-9)).mean())  # rounding must not undo a tie


def trend_permutation_p(
    labels: ArrayLike,
    scores: ArrayLike,
    attribute: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = DRAWS,
) -> float:
    """P-value of no dependence on a continuous attribute, permuted as in :func:`any_value_permutation_p`.

    Statistic: ``|sum of centred ranks of the score x rank of the attribute|``, two-sided.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)`` not NaN where label and attribute are known.
        attribute: ``(N,)`` any numbers, NaN unknown (ignored).
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the permutations.
        draws: Number of permutations.

    Raises:
        StatisticsError: A NaN score, fewer than two values, or nothing that a permutation would change.

    >>> p = trend_permutation_p([1] * 20, range(20), range(20), range(20), 20, seed=0)
    >>> p < 0.001
    True
    """
    blocks, places, known = _prepared(labels, scores, attribute, patients, n_patients)
    values, counts = np.unique(known, return_counts=True)
    rank = (np.cumsum(counts) - (counts + 1) / 2) / len(known)  # mid-rank of each value
    ranks = [rank[place] for place in places]
    centred = [row - row.mean(axis=1, keepdims=True) for row in ranks]
    spread = sum(
        float(((block**2).sum(axis=1) * (row**2).sum(axis=1)).sum()) for block, row in zip(blocks, centred, strict=True)
    )
    if len(values) < 2 or spread < 1e-24:
        raise StatisticsError(NOTHING)
    generator = np.random.default_rng(seed)
    told = np.empty(draws + 1)
    for draw in range(draws + 1):
        drawn = [generator.permuted(block, axis=1) if draw else block for block in blocks]
        told[draw] = abs(sum(float((block * row).sum()) for block, row in zip(drawn, centred, strict=True)))
    return float((told >= told[0] * (1 - 1e-9)).mean())  # rounding must not undo a tie


def _prepared(
    labels: ArrayLike, scores: ArrayLike, codes: ArrayLike, patients: ArrayLike, n_patients: int
) -> tuple[list[Floats], list[Indices], Floats]:
    """What may be exchanged (see :func:`_exchangeable`) among the cases with a known label and code, and their codes.

    Raises:
        StatisticsError: A NaN score, or fewer than two codes.
    """
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    code = np.asarray(codes, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth) & ~np.isnan(code)
    truth, values, code, patient = truth[known], values[known], code[known], patient[known]
    if np.isnan(values).any():
        raise StatisticsError(f"permutation: {int(np.isnan(values).sum())} cases have no score")
    if len(np.unique(code)) < 2:
        raise StatisticsError(f"permutation: expected two values or more, got {len(np.unique(code))}")
    return *_exchangeable(_centred_ranks(truth, values), truth, code, patient), code


def _centred_ranks(truth: Floats, scores: Floats) -> Floats:
    """Rank of every case among those of its label, from -0.5 to 0.5."""
    centred = np.zeros(len(truth))
    for label in (0.0, 1.0):
        stratum = truth == label
        if stratum.any():
            centred[stratum] = rankdata(scores[stratum]) / (stratum.sum() + 1) - 0.5
    return centred


def _exchangeable(ranks: Floats, truth: Floats, codes: Floats, patients: Indices) -> tuple[list[Floats], list[Indices]]:
    """Sums that may be exchanged within a row, centred, and the value each stands at; one ``(rows, size)`` pair per size.

    A unit is a patient with one value, or an image of a patient with several.
    """
    _, owner = np.unique(patients, return_inverse=True)
    _, code = np.unique(codes, return_inverse=True)
    count = np.bincount(owner)
    first = np.zeros(len(count), dtype=np.int64)
    first[owner] = code
    single = np.bincount(owner, weights=code != first[owner]) == 0
    pattern = how_often(np.bincount(owner, weights=truth == 0)) + OFTEN * how_often(
        np.bincount(owner, weights=truth == 1)
    )
    image = ~single[owner]
    unit = np.r_[np.bincount(owner, weights=ranks)[single], ranks[image]]
    place = np.r_[first[single], code[image]]
    group = np.r_[pattern[single], OFTEN**2 + 2 * owner[image] + (truth[image] == 1)]
    order = np.lexsort((place, group))
    unit, place = unit[order], place[order]
    _, start, sizes = np.unique(group[order], return_index=True, return_counts=True)
    blocks, places = [], []
    for size in np.unique(sizes):
        rows = start[sizes == size][:, None] + np.arange(size)
        blocks.append(unit[rows] - unit[rows].mean(axis=1, keepdims=True))
        places.append(place[rows])
    return blocks, places


def how_often(counts: ArrayLike) -> Indices:
    """Numbers of images in doublings: 0 of none, 1 of one, 2 of two, 3 of three or four, 4 of five to eight, below 64.

    >>> how_often([0, 1, 2, 3, 4, 5, 8, 9]).tolist()
    [0, 1, 2, 3, 3, 4, 4, 5]
    """
    number = np.asarray(counts, dtype=np.float64)
    return np.where(number > 0, np.ceil(np.log2(np.maximum(number, 1))) + 1, 0).astype(np.int64)


def _counts(place: Indices, levels: int) -> Floats:
    """``(rows, levels)`` how often each value stands in a row."""
    rows = np.arange(len(place))[:, None] * levels
    return np.bincount((rows + place).ravel(), minlength=len(place) * levels).reshape(len(place), levels).astype(float)


def _variance(block: Floats, count: Floats) -> Floats:
    """``(levels,)`` variance under permutation of the sum at each value."""
    size = block.shape[1]
    if size < 2:
        return np.zeros(count.shape[1])
    square = (block * block).sum(axis=1, keepdims=True)
    return np.asarray((count * (size - count) * square).sum(axis=0) / (size * (size - 1)))
