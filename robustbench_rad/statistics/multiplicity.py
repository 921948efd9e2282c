"""Many comparisons on the same patients: one joint critical value, and Holm's correction of p-values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile

_BLOCK = 256  # draws at a time: memory stays below 256 x (patients + comparisons) numbers


def joint_confidence(influences: ArrayLike, confidence: float = 0.95, *, seed: int, draws: int = 2000) -> float:
    """Per-comparison confidence level at which all M intervals hold together.

    Multiplier bootstrap of the largest studentised deviation: ``T = max_m |sum_i w_i d_mi| / sqrt(sum_i d_mi²)`` with
    standard normal w_i, shared by all comparisons. Its quantile c gives the level ``2 Φ(c) - 1``, between
    ``confidence`` (one comparison, or comparisons that move together) and Bonferroni's. Callers evaluate every
    estimator again at this level, so each keeps its own interval method.

    Comparisons without variance (no flip, a perfect area) are left out. That is safe: a check passes only when every
    comparison passes, an intersection that needs no correction, and such comparisons have exact limits of their own.

    Args:
        influences: ``(M, C)`` influence per patient, one row per comparison.
        confidence: Joint confidence level.
        seed: Of the multipliers; the same seed and patients give the same multipliers, so adding a comparison never
            lowers the level.
        draws: Number of multiplier draws.

    Raises:
        StatisticsError: Not a matrix, or NaN in it.

    Reference:
        Chernozhukov, Chetverikov and Kato 2013, Gaussian approximations and multiplier bootstrap for maxima of sums of
        high-dimensional random vectors, doi:10.1214/13-AOS1161.

    >>> two = np.eye(40)[:2]  # independent: Šidák says sqrt(0.95) = 0.9747, Bonferroni 0.975
    >>> 0.97 < joint_confidence(two, seed=0) <= 0.975
    True
    >>> joint_confidence(two[[0, 0, 0]], seed=0) < 0.957
    True
    """
    normal_quantile(confidence)
    rows = np.asarray(influences, dtype=np.float64)
    if rows.ndim != 2 or np.isnan(rows).any():
        raise StatisticsError(f"influences: expected a matrix without NaN, got shape {rows.shape}")
    scale = np.sqrt((rows * rows).sum(axis=1))
    varying = scale > 0
    if varying.sum() < 2:
        return confidence
    unit = (rows[varying] / scale[varying, None]).astype(np.float32)
    largest = np.concatenate([np.abs(w @ unit.T).max(axis=1) for w in _multipliers(draws, rows.shape[1], seed)])
    level = 2 * float(ndtr(np.quantile(largest, confidence))) - 1
    return float(np.clip(level, confidence, 1 - (1 - confidence) / varying.sum()))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values, in the order given.

    Reference:
        Holm 1979, A simple sequentially rejective multiple test procedure, Scand J Stat 6:65-70.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(4).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if np.isnan(p).any() or (p < 0).any() or (p > 1).any():
        raise StatisticsError("Holm: expected p-values between 0 and 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _multipliers(draws: int, patients: int, seed: int) -> Iterator[NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    sizes = [min(_BLOCK, draws - start) for start in range(0, draws, _BLOCK)]
    return (generator.standard_normal((size, patients), dtype=np.float32) for size in sizes)
