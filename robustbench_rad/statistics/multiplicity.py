"""Many comparisons on the same patients: one joint critical value, and Holm's correction of p-values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile

_BLOCK = 256  # draws at a time: memory stays below 256 x (patients + comparisons) numbers


def joint_confidence(
    influences: ArrayLike, confidence: float = 0.95, *, seed: int, draws: int = 2000, exact: int = 0
) -> float:
    """Per-comparison confidence level at which all M intervals hold together.

    Multiplier bootstrap of the largest studentised deviation: ``T = max_m |sum_i w_i d_mi| / sqrt(sum_i d_mi²)`` with
    standard normal w_i, shared by all comparisons. Its quantile c gives the level ``2 Φ(c) - 1``, between
    ``confidence`` (one comparison, or comparisons that move together) and Bonferroni's. Callers evaluate every
    estimator again at this level, so each keeps its own interval method.

    A comparison without variance (no flip, a perfect area, no pair that changed order) has an exact limit instead and
    no T. Only one of its limits can err, each with probability ``(1 - level) / 2``, so E of them are charged by the
    union bound: the level solves ``P(T > c) + E (1 - level) / 2 = 1 - confidence``, and is never below ``confidence``.
    Two exact comparisons alone need no correction; n of them get ``(1 - confidence) / n`` each.

    Args:
        influences: ``(M, C)`` influence per patient, one row per comparison; a row without variance is an exact one.
        confidence: Joint confidence level.
        seed: Of the multipliers; the same seed and patients give the same multipliers, so adding a comparison never
            lowers the level.
        draws: Number of multiplier draws.
        exact: Exact comparisons beside the rows.

    Raises:
        StatisticsError: Not a matrix, NaN in it, or a negative number of exact comparisons.

    Reference:
        Chernozhukov, Chetverikov and Kato 2013, Gaussian approximations and multiplier bootstrap for maxima of sums of
        high-dimensional random vectors, doi:10.1214/13-AOS1161.

    >>> two = np.eye(40)[:2]  # independent: Šidák says sqrt(0.95) = 0.9747, Bonferroni 0.975
    >>> 0.97 < joint_confidence(two, seed=0) <= 0.975
    True
    >>> joint_confidence(two[[0, 0, 0]], seed=0) < 0.957
    True
    >>> round(joint_confidence(np.zeros((10, 40)), seed=0), 4)  # ten exact limits share 0.05
    0.99
    """
    normal_quantile(confidence)
    rows = np.asarray(influences, dtype=np.float64)
    if rows.ndim != 2 or np.isnan(rows).any():
        raise StatisticsError(f"influences: expected a matrix without NaN, got shape {rows.shape}")
    if exact < 0:
        raise StatisticsError(f"exact comparisons: expected none or more, got {exact}")
    scale = np.sqrt((rows * rows).sum(axis=1))
    varying = scale > 0
    count, limits = int(varying.sum()), exact + int((~varying).sum())
    bonferroni = max(confidence, 1 - (1 - confidence) / max(count + limits / 2, 1))
    if count == 0 or (count == 1 and limits == 0):
        return bonferroni
    unit = (rows[varying] / scale[varying, None]).astype(np.float32)
    largest = np.concatenate([np.abs(w @ unit.T).max(axis=1) for w in _multipliers(draws, rows.shape[1], seed)])
    return float(np.clip(_shared_level(largest, 1 - confidence, limits), confidence, bonferroni))


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Comparisons that are to hold together.

    Attributes:
        influences: One ``(C,)`` influence per comparison that varies.
        exact: Comparisons with exact limits; see :func:`joint_confidence`.
    """

    influences: tuple[NDArray[np.float64], ...] = ()
    exact: int = 0

    @classmethod
    def joined(cls, families: Iterable[Family]) -> Family:
        """All comparisons of several families as one."""
        every = list(families)
        return cls(
            influences=tuple(row for family in every for row in family.influences),
            exact=sum(family.exact for family in every),
        )

    def joint_confidence(self, confidence: float, *, seed: int) -> float:
        """Level of every single interval at which all hold together; the same in whatever order they come."""
        # A product of matrices may round a row by where it stands, so rows are put in an order of their own.
        ordered = sorted(self.influences, key=lambda row: sha256(np.ascontiguousarray(row).data).digest())
        rows = np.stack(ordered) if ordered else np.zeros((0, 1))
        return joint_confidence(rows, confidence, seed=seed, exact=self.exact)


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


def _shared_level(largest: NDArray[np.float64], alpha: float, limits: int) -> float:
    """The level whose chance that any interval errs, drawn for those that vary and added up for exact limits, is alpha."""

    def level(part: float) -> float:
        return 2 * float(ndtr(np.quantile(largest, 1 - part))) - 1

    if not limits:
        return level(alpha)
    low, high = 0.0, alpha  # alpha's part that is left for the comparisons that vary
    for _ in range(40):
        part = (low + high) / 2
        low, high = (part, high) if part + limits * (1 - level(part)) / 2 <= alpha else (low, part)
    # Beyond the largest draw there is no quantile; there the exact limits alone have used up alpha.
    return level(low) if low > 0 else 1.0
