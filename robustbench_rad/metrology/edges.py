"""Sharpness read from edges: the modulation transfer function of a slanted or curved edge, and its f50.

The pixels around an edge, sorted by their distance from it, sample the edge-spread function finer than the pixels do (slanted
edge). The edge is found row by row and fitted by a parabola, so that the rim of a disc serves as well as a straight edge.

References:
    Samei, Flynn and Reimann 1998, 10.1118/1.598165; Friedman et al. 2013, 10.1118/1.4800795; edges of the patient's skin
    instead of a phantom: Sanders, Hurwitz and Samei 2016, 10.1118/1.4961984.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustbench_rad.errors import DataError

Doubles = npt.NDArray[np.float64]

BIN_PX = 0.25
REACH_PX = 10.0
FLAT_SHARE = 0.6  # of the reach: within it the line-spread function is not windowed
LEAST_ROWS = 9
LARGEST_RESIDUAL_PX = 0.5
LEAST_FILLED = 0.9  # share of the bins that hold a pixel
LEAST_CONTRAST = 8.0  # in standard deviations of the plateaus
_FREQUENCIES = np.linspace(0.0, 1.0, 513)  # cycles per pixel


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeTransfer:
    """Modulation transfer of one edge.

    Attributes:
        frequency_per_mm: ``(F,)``; per pixel where the spacing is 1.
        transfer: ``(F,)``, 1 at zero frequency.
        f50_per_mm: First frequency at which the transfer is 0.5; NaN when there is none below twice the Nyquist frequency.
        contrast: Difference of the two plateaus.
    """

    frequency_per_mm: Doubles
    transfer: Doubles
    f50_per_mm: float
    contrast: float


def edge_transfer(patch: npt.ArrayLike, spacing_mm: float = 1.0) -> EdgeTransfer:
    """Measure the modulation transfer function of the one edge that crosses a patch.

    Args:
        patch: ``(H, W)``; the edge runs roughly along the rows or along the columns, slanted or curved, with flat ground on
            both sides.
        spacing_mm: Side of a square pixel.

    Raises:
        DataError: No single edge, too noisy, or parallel to the pixels so that they do not sample it finer; says which.
    """
    values = _upright(np.asarray(patch, dtype=np.float64))
    low, high = _plateaus(values)
    positions, slopes = _edge_line(values, (low + high) / 2.0)
    columns = np.arange(values.shape[1])
    distance = (columns - positions[:, None]) / np.sqrt(1.0 + slopes[:, None] ** 2)
    spread = _edge_spread(distance, values)
    transfer = _transfer(spread)
    return EdgeTransfer(
        frequency_per_mm=_FREQUENCIES / spacing_mm,
        transfer=transfer,
        f50_per_mm=first_crossing(_FREQUENCIES / spacing_mm, transfer, 0.5),
        contrast=high - low,
    )


def first_crossing(frequency: Doubles, transfer: Doubles, level: float) -> float:
    """First frequency at which a transfer function falls below ``level``, interpolated; NaN when it never does.

    >>> first_crossing(np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.6, 0.2]), 0.5)
    1.25
    """
    below = np.flatnonzero(transfer < level)
    if not below.size or below[0] == 0:
        return math.nan
    right = int(below[0])
    share = (transfer[right - 1] - level) / (transfer[right - 1] - transfer[right])
    return float(frequency[right - 1] + share * (frequency[right] - frequency[right - 1]))


def _upright(patch: Doubles) -> Doubles:
    """Turn the patch so that its values rise from left to right."""
    if patch.ndim != 2 or min(patch.shape) < LEAST_ROWS:
        raise DataError(f"edge: expected a patch of at least {LEAST_ROWS} x {LEAST_ROWS} pixels, got {patch.shape}")
    down, across = np.gradient(patch)
    turned = patch.T if np.abs(down.mean()) > np.abs(across.mean()) else patch
    return turned if np.gradient(turned, axis=1).mean() >= 0 else turned[:, ::-1]


def _plateaus(values: Doubles) -> tuple[float, float]:
    """Mean of the outer fifths on both sides, refused where they are not flat beside the step."""
    width = max(2, values.shape[1] // 5)
    left, right = values[:, :width], values[:, -width:]
    low, high = float(np.median(left)), float(np.median(right))
    rough = max(float(left.std()), float(right.std()))
    if high <= low or high - low < LEAST_CONTRAST * rough:
        raise DataError("edge: no step between two flat sides")
    return low, high


def _edge_line(values: Doubles, middle: float) -> tuple[Doubles, Doubles]:
    """Column at which each row crosses the middle, and its slope, from a parabola through all rows."""
    rows = np.arange(len(values), dtype=np.float64)
    crossings = np.array([_crossing(row, middle) for row in values])
    known = np.isfinite(crossings)
    if known.sum() < LEAST_ROWS:
        raise DataError("edge: does not cross enough rows of the patch")
    fitted = np.polynomial.Polynomial.fit(rows[known], crossings[known], 2)
    near = known & (np.abs(crossings - fitted(rows)) < 1.5)
    if near.sum() < max(LEAST_ROWS, 0.8 * len(rows)):
        raise DataError("edge: more than one edge, or a corner")
    fitted = np.polynomial.Polynomial.fit(rows[near], crossings[near], 2)
    residual = float(np.sqrt(np.mean((crossings[near] - fitted(rows[near])) ** 2)))
    if residual > LARGEST_RESIDUAL_PX:
        raise DataError(f"edge: not straight or round within {LARGEST_RESIDUAL_PX} pixels")
    return fitted(rows), fitted.deriv()(rows)


def _crossing(row: Doubles, middle: float) -> float:
    """The one column at which a smoothed row rises through the middle; NaN where there are none or several."""
    smooth = np.convolve(np.pad(row, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid") - middle
    changes = np.flatnonzero((smooth[:-1] < 0) != (smooth[1:] < 0))
    if len(changes) != 1:
        return math.nan
    left = int(changes[0])
    return float(left + smooth[left] / (smooth[left] - smooth[left + 1]))


def _edge_spread(distance: Doubles, values: Doubles) -> Doubles:
    """Means of the pixels in bins of a quarter pixel across the edge."""
    count = round(2.0 * REACH_PX / BIN_PX)
    index = np.floor((distance + REACH_PX) / BIN_PX).astype(np.int64)
    inside = (index >= 0) & (index < count)
    held = np.bincount(index[inside], minlength=count)
    filled = held > 0
    if filled.mean() < LEAST_FILLED:
        raise DataError("edge: parallel to the pixels, or too near to the border of the patch")
    means = np.bincount(index[inside], weights=values[inside], minlength=count) / np.maximum(held, 1)
    centres = np.arange(count)
    return np.asarray(np.interp(centres, centres[filled], means[filled]), dtype=np.float64)


def _transfer(spread: Doubles) -> Doubles:
    """Normalised spectrum of the windowed line-spread function, freed of the width of the bins and of the difference."""
    line = np.diff(spread)
    place = (np.arange(len(line)) - (len(line) - 1) / 2.0) * BIN_PX
    tails = np.abs(place) > 0.8 * REACH_PX
    line = (line - line[tails].mean()) * _taper(np.abs(place) / REACH_PX)
    waves = np.exp(-2j * np.pi * _FREQUENCIES[:, None] * place)
    spectrum = np.abs(waves @ line)
    return np.asarray(spectrum / spectrum[0] / np.sinc(_FREQUENCIES * BIN_PX) ** 2, dtype=np.float64)


def _taper(share: Doubles) -> Doubles:
    """1 up to :data:`FLAT_SHARE` of the reach, then a quarter of a cosine to 0."""
    fall = np.clip((share - FLAT_SHARE) / (1.0 - FLAT_SHARE), 0.0, 1.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fall), dtype=np.float64)
