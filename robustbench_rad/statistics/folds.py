"""Folds for cross-fitting: a patient is in one fold with all their images, and every fold has its share of positives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def patient_folds(labels: Floats, patients: Indices, folds: int, seed: int) -> Indices:
    """Fold of every case: patients in random order, those with a positive first, dealt in turn.

    Args:
        labels: ``(N,)`` 1, 0 or NaN.
        patients: ``(N,)`` patient index.
        folds: Number of folds.
        seed: Of the order.

    >>> patient_folds(np.array([1.0, 0, 1, 0, 0, 0]), np.array([0, 0, 1, 2, 3, 3]), 2, seed=0).tolist()
    [0, 0, 1, 0, 1, 1]
    """
    owner, place = np.unique(patients, return_inverse=True)
    positive = np.bincount(place, weights=labels == 1) > 0
    order = np.random.default_rng(seed).permutation(len(owner))
    order = order[np.argsort(~positive[order], kind="stable")]
    fold = np.empty(len(owner), dtype=np.int64)
    fold[order] = np.arange(len(owner)) % folds
    return fold[place]
