"""Slices that nobody declared: groups of alike cases found on one half of the patients, and tested on the other.

Cases are grouped by what the model's last layer holds of them. The group with the lowest sensitivity on the half that it was
found in is a hypothesis and no more, since it was chosen for being low; the other half of the patients says whether it is so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.folds import patient_folds
from robustbench_rad.statistics.proportions import proportion

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

SLICES = 5
COMPONENTS = 10
LEAST = 10
"""Cases that a slice and its rest need in either half: below, an interval spans most of the scale."""
ROUNDS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The worst slice of one half of the patients, tested on the other.

    Attributes:
        members: ``(N,)`` its cases, of both halves.
        tested: ``(N,)`` cases of the half it was tested on.
        chosen_gap: Gap in the half that it was chosen on: too large, for it was chosen by it.
        inside: Share of successes of the slice, on the other half.
        outside: Of the rest.
        gap: ``outside - inside``, Newcombe's hybrid score interval, clustered by patient.
    """

    members: Flags
    tested: Flags
    chosen_gap: float
    inside: Estimate
    outside: Estimate
    gap: Estimate


def worst_slice(
    features: ArrayLike,
    successes: ArrayLike,
    valid: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    slices: int = SLICES,
    confidence: float = 0.95,
) -> Slice:
    """Find the slice with the lowest share of successes on one half of the patients; measure its gap on the other half.

    Features are standardised, reduced to their first ten principal components and grouped by k-means, all by the valid
    cases of the first half alone; cases of the other half join the nearest centre.

    Args:
        features: ``(N, F)``; a row with NaN takes no part.
        successes: ``(N,)`` boolean, e.g. positives that are called.
        valid: ``(N,)`` boolean, the cases that count, e.g. the positives.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the halves and of the first centres.
        slices: Number of slices looked for.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No features, or no slice with ten valid cases, and ten beside it, in both halves.

    Reference:
        Oakden-Rayner et al. 2020, Hidden stratification causes clinically meaningful failures in machine learning for
        medical imaging, doi:10.1145/3368555.3384468.
    """
    table, success = np.asarray(features, dtype=np.float64), np.asarray(successes, dtype=np.bool_)
    if table.ndim != 2 or table.shape[1] == 0 or len(table) != len(success):
        raise StatisticsError(f"slices: expected features of {len(success)} cases, got shape {table.shape}")
    patient = check_patients(patients, len(success), n_patients)
    counted = np.asarray(valid, dtype=np.bool_) & np.isfinite(table).all(axis=1)
    found_on, tested_on = _halves(counted, patient, seed)
    group = _grouped(table, found_on, counted, slices, seed)
    gaps = _gaps(success, group, slices, found_on, tested_on)
    worst = max(gaps, key=lambda number: gaps[number])
    members = group == worst
    outside, inside = (
        proportion(success, tested_on & side, patient, n_patients, confidence=confidence)
        for side in (~members, members)
    )
    return Slice(
        members=members,
        tested=tested_on,
        chosen_gap=gaps[worst],
        inside=inside,
        outside=outside,
        gap=difference(outside, inside),
    )


def _halves(counted: Flags, patient: Indices, seed: int) -> tuple[Flags, Flags]:
    """Counted cases of either half of the patients."""
    half = patient_folds(np.where(counted, 1.0, np.nan), patient, 2, seed) == 0
    found_on, tested_on = counted & half, counted & ~half
    if min(found_on.sum(), tested_on.sum()) < 2 * LEAST:
        raise StatisticsError(
            f"slices: {int(counted.sum())} cases in two halves of the patients, {4 * LEAST} or more are needed"
        )
    return found_on, tested_on


def _gaps(success: Flags, group: Indices, slices: int, found_on: Flags, tested_on: Flags) -> dict[int, float]:
    """Gap, on the half that they were found on, of the slices with enough cases in both."""
    gaps = {}
    for number in range(slices):
        here = group == number
        cells = [(half & side).sum() for half in (found_on, tested_on) for side in (here, ~here)]
        if min(cells) >= LEAST:
            gaps[number] = float(success[found_on & ~here].mean() - success[found_on & here].mean())
    if not gaps:
        raise StatisticsError(f"slices: none has {LEAST} cases, and {LEAST} beside it, in both halves of the patients")
    return gaps


def _grouped(table: Floats, learned_on: Flags, counted: Flags, slices: int, seed: int) -> Indices:
    """Number of the group of each counted case, -1 of the others."""
    learned = table[learned_on]
    centre, spread = learned.mean(axis=0), learned.std(axis=0)
    scale = np.where(spread > 1e-12, spread, np.inf)  # a feature that does not vary says nothing
    _, _, directions = np.linalg.svd((learned - centre) / scale, full_matrices=False)
    reduced = np.full((len(table), min(COMPONENTS, len(directions))), np.nan)
    reduced[counted] = ((table[counted] - centre) / scale) @ directions[: reduced.shape[1]].T
    centres = k_means(reduced[learned_on], slices, seed=seed)
    group = np.full(len(table), -1, dtype=np.int64)
    group[counted] = nearest(reduced[counted], centres)
    return group


def k_means(points: Floats, count: int, *, seed: int) -> Floats:
    """Centres of groups of points, first ones far from each other (k-means++), moved until they stay.

    Args:
        points: ``(N, F)``, finite.
        count: Number of centres.
        seed: Of the first centres.

    Reference:
        Arthur and Vassilvitskii 2007, k-means++: the advantages of careful seeding, SODA 1027-1035.

    >>> k_means(np.array([[0.0], [1.0], [10.0], [11.0]]), 2, seed=0).ravel().round(1).tolist()
    [0.5, 10.5]
    """
    generator = np.random.default_rng(seed)
    centres = points[generator.integers(len(points))][None]
    while len(centres) < count:
        squared = _squared(points, centres).min(axis=1)
        total = squared.sum()
        chance = squared / total if total > 0 else None
        centres = np.vstack([centres, points[generator.choice(len(points), p=chance)]])
    for _ in range(ROUNDS):
        group = nearest(points, centres)
        moved = np.array([points[group == k].mean(axis=0) if (group == k).any() else centres[k] for k in range(count)])
        if np.abs(moved - centres).max() < 1e-9:
            break
        centres = moved
    return np.asarray(centres[np.lexsort(centres.T[::-1])])


def nearest(points: Floats, centres: Floats) -> Indices:
    """Number of the nearest centre of each point."""
    return np.asarray(_squared(points, centres).argmin(axis=1), dtype=np.int64)


def _squared(points: Floats, centres: Floats) -> Floats:
    return np.asarray(((points[:, None] - centres[None]) ** 2).sum(axis=2), dtype=np.float64)
