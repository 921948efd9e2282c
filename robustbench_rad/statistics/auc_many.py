"""Areas under the ROC curve of many findings and conditions in one call, with intervals that hold together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import Ranking, difference_of_rankings, interval, rank
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Many:
    """Estimates of M columns at one joint confidence level.

    Attributes:
        estimates: M estimates; None where the column has none.
        reasons: Column → why it has none; never dropped silently.
        confidence: Level of every single interval, at which all hold together.
    """

    estimates: tuple[Estimate | None, ...]
    reasons: dict[int, str]
    confidence: float


def aucs(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Many:
    """Areas of M score columns, simultaneous.

    Args:
        labels: ``(N,)`` for all columns or ``(N, M)``, one column each; 1, 0 or NaN (that case is ignored there).
        scores: ``(N, M)``; columns are findings, conditions, levels.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the multipliers.
        draws: Of the multipliers.
        confidence: Joint confidence level.

    Raises:
        StatisticsError: Shapes that do not fit together.

    >>> pair = aucs([1, 1, 0, 0], [[4, 1], [3, 2], [2, 3], [1, 4]], range(4), 4, seed=0)
    >>> [e.value for e in pair.estimates]
    [1.0, 0.0]
    """
    truth, values = _columns(labels, scores)
    rankings, reasons = _rankings(truth, values, patients, n_patients)
    joint = _joint([ranking.influence for ranking in rankings.values()], confidence, seed, draws)
    made = {place: interval(ranking, confidence=joint) for place, ranking in rankings.items()}
    estimates = tuple(made.get(place) for place in range(values.shape[1]))
    return Many(estimates=estimates, reasons=reasons, confidence=joint)


def auc_drops(
    labels: ArrayLike,
    clean: ArrayLike,
    altered: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Many:
    """Paired drops ``auc(clean) - auc(altered)`` of M conditions, simultaneous; every column is sorted once.

    Args:
        labels: ``(N,)`` or ``(N, M)``; 1, 0 or NaN.
        clean: ``(N,)`` for all columns or ``(N, M)``.
        altered: ``(N, M)``.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the multipliers.
        draws: Of the multipliers.
        confidence: Joint confidence level.

    Raises:
        StatisticsError: Shapes that do not fit together.
    """
    truth, values = _columns(labels, altered)
    before = np.asarray(clean, dtype=np.float64)
    before = np.broadcast_to(before[:, None] if before.ndim == 1 else before, values.shape)
    after, reasons = _rankings(truth, values, patients, n_patients)
    first, more = _rankings(truth, before, patients, n_patients)
    reasons = {**more, **reasons}
    both = [place for place in after if place in first]
    joint = _joint([first[p].influence - after[p].influence for p in both], confidence, seed, draws)
    made = {p: difference_of_rankings(first[p], after[p], confidence=joint) for p in both}
    estimates = tuple(made.get(place) for place in range(values.shape[1]))
    return Many(estimates=estimates, reasons=reasons, confidence=joint)


def _columns(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    truth = truth[:, None] if truth.ndim == 1 else truth
    if values.ndim != 2 or truth.ndim != 2 or len(truth) != len(values) or truth.shape[1] not in (1, values.shape[1]):
        raise StatisticsError(f"areas: labels of shape {np.shape(labels)} do not fit scores of shape {values.shape}")
    return np.broadcast_to(truth, values.shape), values


def _rankings(
    truth: Floats, scores: Floats, patients: ArrayLike, n_patients: int
) -> tuple[dict[int, Ranking], dict[int, str]]:
    """Rank every column; a column that repeats the one before it (one clean score for many conditions) costs nothing."""
    found: dict[int, Ranking] = {}
    reasons: dict[int, str] = {}
    for place in range(scores.shape[1]):
        if place and _repeats(truth, place) and _repeats(scores, place):
            if place - 1 in found:
                found[place] = found[place - 1]
            else:
                reasons[place] = reasons[place - 1]
            continue
        try:
            found[place] = rank(truth[:, place], scores[:, place], patients, n_patients)
        except StatisticsError as error:
            reasons[place] = error.message
    return found, reasons


def _repeats(columns: Floats, place: int) -> bool:
    """Whether a column is the one before it: the same memory, or equal numbers."""
    return columns.strides[1] == 0 or np.array_equal(columns[:, place], columns[:, place - 1], equal_nan=True)


def _joint(influences: list[Floats], confidence: float, seed: int, draws: int) -> float:
    if len(influences) < 2:
        return confidence
    return joint_confidence(np.stack(influences), confidence, seed=seed, draws=draws)
