"""Exact patient-cluster bootstrap by counts: the oracle of the clustered variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients


def bootstrap_auc(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, n_patients: int, *, draws: int, seed: int
) -> NDArray[np.float64]:
    """AUCs of ``draws`` samples of patients, drawn with replacement with all their images.

    The scores are sorted once. A draw is a count per patient; the AUC is the weighted share of positive-negative pairs in
    order, from one cumulative sum over the negatives and a look-up at the positives. Exact, ties counted half.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit; only those used are drawn.
        draws: Number of samples.
        seed: Of the draws.

    Returns:
        ``(draws,)``; NaN where a draw holds one class only.

    Raises:
        StatisticsError: One class only, or a NaN score with a known label.
    """
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth)
    truth, values = truth[known], values[known]
    owner, patient = np.unique(patient[known], return_inverse=True)
    if len(np.unique(truth)) != 2 or np.isnan(values).any():
        raise StatisticsError("bootstrap: expected both classes and a score for every known label")
    order = np.argsort(values, kind="stable")
    positive = truth[order] == 1
    negative_scores, negative_owner = values[order][~positive], patient[order][~positive]
    positive_scores, positive_owner = values[order][positive], patient[order][positive]
    first = np.searchsorted(negative_scores, positive_scores, "left")
    last = np.searchsorted(negative_scores, positive_scores, "right")
    below = np.zeros(len(negative_scores) + 1)
    generator = np.random.default_rng(seed)
    areas = np.empty(draws)
    for draw in range(draws):
        count = np.bincount(generator.integers(0, len(owner), len(owner)), minlength=len(owner))
        np.cumsum(count[negative_owner], out=below[1:])
        weight = count[positive_owner]
        pairs = float(weight.sum() * below[-1])
        areas[draw] = weight @ (below[first] + below[last]) / (2 * pairs) if pairs else np.nan
    return areas
