"""Thicker CT slices made from thin ones: weights of the source slices in every new slice.

A new slice of thickness L at position z counts every source slice by the length that the two share; a source slice reaches over
the distance to its neighbours. The profile of a point is then the box of L convolved with that of the source.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def shared_lengths(positions_mm: Floats, sources_mm: Floats, *, thickness_mm: float, distance_mm: float) -> Floats:
    """Weights ``(positions, sources)`` of slices whose sum over the sources is 1.

    Args:
        positions_mm: Centres of the new slices.
        sources_mm: Centres of the source slices.
        thickness_mm: L.
        distance_mm: Distance of the source slices.

    >>> sources = np.arange(5.0)
    >>> shared_lengths(np.array([2.0]), sources, thickness_mm=2.5, distance_mm=1.0).round(3).tolist()
    [[0.0, 0.3, 0.4, 0.3, 0.0]]
    """
    away = np.abs(positions_mm[:, None] - sources_mm)
    shared = np.minimum((thickness_mm + distance_mm) / 2.0 - away, min(thickness_mm, distance_mm)).clip(0.0)
    weights: Floats = shared / shared.sum(1, keepdims=True)
    return weights


def box_length(thickness_mm: float, source_mm: float, distance_mm: float) -> float:
    """Length L of the box that makes slices of ``thickness_mm``.

    Overlapping source slices resolve the profile: L is the thickness, and so is the width of the profile. Contiguous ones do
    not; there the noise decides, and L is such that independent noise falls by ``√(T₀ / T)`` as it does for a thicker slice
    of the same scan.

    >>> [round(box_length(thickness, 1.0, 1.0), 3) for thickness in (1.5, 3.0, 5.0)]
    [1.243, 3.0, 5.0]
    >>> box_length(1.5, 1.0, 0.5)
    1.5
    """
    if distance_mm < 0.99 * source_mm:
        return thickness_mm
    aim = source_mm / thickness_mm
    low, high = 0.5 * distance_mm, thickness_mm + 2.0 * distance_mm
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if variance_ratio(middle, distance_mm) > aim else (low, middle)
    return (low + high) / 2.0


def variance_ratio(length_mm: float, distance_mm: float) -> float:
    """Variance of independent noise after averaging over ``length_mm``, over that before."""
    reach = math.ceil(length_mm / distance_mm) + 1
    sources = np.arange(-reach, reach + 1) * distance_mm
    weights = shared_lengths(np.zeros(1), sources, thickness_mm=length_mm, distance_mm=distance_mm)
    return float((weights**2).sum())


def profile_width_mm(length_mm: float, source_mm: float, distance_mm: float) -> float:
    """Full width at half maximum of a new slice's profile: source boxes of ``source_mm`` under the weights.

    >>> profile_width_mm(5.0, 1.0, 1.0), round(profile_width_mm(3.0, 1.0, 0.25), 1)
    (5.0, 3.0)
    """
    reach = math.ceil((length_mm + source_mm) / distance_mm) + 1
    sources = np.arange(-reach, reach + 1) * distance_mm
    weights = shared_lengths(np.zeros(1), sources, thickness_mm=length_mm, distance_mm=distance_mm)[0]
    step = min(source_mm, distance_mm) / 64.0
    fine = (np.arange(0.0, reach * distance_mm, step) + step / 2.0)[:, None]
    profile = (weights * (np.abs(fine - sources) < source_mm / 2.0)).sum(1)
    half = profile[0] / 2.0
    # a plateau at just half of the maximum is crossed in its middle
    ends = [(np.cumsum(profile < half * share) == 0).sum() for share in (1.0 - 1e-4, 1.0 + 1e-4)]
    return float(step * sum(ends))


def thicker(count: int, distance_mm: float, *, length_mm: float, apart_mm: float) -> Floats:
    """Matrix ``(count, count)`` from source slices to the image at their positions after making it of thicker slices.

    Args:
        count: Number of source slices.
        distance_mm: Their distance.
        length_mm: Length of the box.
        apart_mm: Distance of the new slices, around the middle of the volume; between them the image is interpolated
            linearly. 0 to make one at every source position.
    """
    sources = (np.arange(count) - (count - 1) / 2.0) * distance_mm
    options = {"thickness_mm": length_mm, "distance_mm": distance_mm}
    if apart_mm <= 0.0:
        return shared_lengths(sources, sources, **options)
    number = max(1, math.floor(count * distance_mm / apart_mm + 1e-6))
    made = (np.arange(number) - (number - 1) / 2.0) * apart_mm
    place = ((sources - made[0]) / apart_mm).clip(0.0, number - 1.0)
    between: Floats = np.maximum(1.0 - np.abs(place[:, None] - np.arange(number)), 0.0)
    weights: Floats = between @ shared_lengths(made, sources, **options)
    return weights
