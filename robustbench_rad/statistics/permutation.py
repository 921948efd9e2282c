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
    """P-value of no dependence on any value: values are permuted among patients that have the same labels.

    Statistic: the largest over the values of ``|sum of centred ranks| / its permutation SD``, so all values are tried
    and need no further correction. The observed order counts as one draw; the least p is ``1 / (draws + 1)``. Patients
    stay whole, with all their images.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)`` not NaN where label and code are known.
        codes: ``(N,)`` number of the value, NaN unknown (ignored); one value per patient.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the permutations.
        draws: Number of permutations.

    Raises:
        StatisticsError: A patient with two values, a NaN score, fewer than two values, or no two patients of the same
            labels and different values: then nothing can be permuted.

    Reference:
        Phipson and Smyth 2010, Permutation p-values should never be zero, doi:10.2202/1544-6115.1585; Westfall and Young
        1993, Resampling-based multiple testing (largest statistic).

    >>> scores = np.r_[np.arange(20.0), np.arange(20.0)]
    >>> p = any_value_permutation_p([1] * 20 + [0] * 20, scores, scores >= 10, range(40), 40, seed=0)
    >>> p < 0.001
    True
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
    sums, pattern, value = _by_patient(truth, values, code, patient)
    groups = [_Group(sums[pattern == number], value[pattern == number]) for number in np.unique(pattern)]
    spread = np.sqrt(np.sum([group.variance for group in groups], axis=0))
    if not (spread > 0).any():
        raise StatisticsError("permutation: no two patients with the same labels differ in the attribute and the score")
    generator = np.random.default_rng(seed)
    told = np.empty((draws + 1, value.shape[1]))
    told[0] = np.sum([group.observed for group in groups], axis=0)
    for draw in range(1, draws + 1):
        told[draw] = np.sum([group.permuted(generator) for group in groups], axis=0)
    size = np.abs(told[:, spread > 0] / spread[spread > 0]).max(axis=1)
    return float((size >= size[0] * (1 - 1e-9)).mean())  # rounding must not undo a tie


class _Group:
    """Patients with the same labels: their centred rank sums, in order of the value they have."""

    def __init__(self, sums: Floats, value: NDArray[np.bool_]) -> None:
        count = value.sum(axis=0)
        order = np.argsort(value.argmax(axis=1), kind="stable")
        self.sums = (sums - sums.mean())[order]
        self.present = np.flatnonzero(count)
        self.starts = np.r_[0, np.cumsum(count[self.present])[:-1]]
        self.width, n = value.shape[1], len(sums)
        square = float(self.sums @ self.sums)
        self.variance = count * (n - count) * square / (n * (n - 1)) if n > 1 else np.zeros(self.width)

    @property
    def observed(self) -> Floats:
        return self._told(self.sums)

    def permuted(self, generator: np.random.Generator) -> Floats:
        return self._told(generator.permutation(self.sums))

    def _told(self, sums: Floats) -> Floats:
        found = np.zeros(self.width)
        found[self.present] = np.add.reduceat(sums, self.starts)
        return found


def _by_patient(
    truth: Floats, scores: Floats, codes: Floats, patients: Indices
) -> tuple[Floats, Indices, NDArray[np.bool_]]:
    """Centred rank sums, label pattern (1 negatives, 2 positives, 3 both) and one-hot value of every patient used."""
    centred = np.zeros(len(truth))
    for label in (0.0, 1.0):
        stratum = truth == label
        if stratum.any():
            ranks = rankdata(scores[stratum]) / (stratum.sum() + 1)
            centred[stratum] = ranks - ranks.mean()
    _, owner = np.unique(patients, return_inverse=True)
    levels = np.unique(codes)
    has = [np.bincount(owner, weights=codes == level) > 0 for level in levels]
    value = np.column_stack(has)
    mixed = int((value.sum(axis=1) > 1).sum())
    if mixed:
        raise StatisticsError(
            f"{mixed} patient(s) have several values of the attribute",
            hint="The permutation test needs one value per patient; the interval does not.",
        )
    pattern = (np.bincount(owner, weights=truth == 0) > 0) + 2 * (np.bincount(owner, weights=truth == 1) > 0)
    sums = np.bincount(owner, weights=centred)
    return np.asarray(sums, dtype=np.float64), np.asarray(pattern, dtype=np.int64), value
