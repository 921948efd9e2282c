"""Ghosts of MR: signal that appears beside the patient along the phase-encoding axis.

``ghost ratio = (mean of the air beside the patient along phase encoding - that along the readout) / mean of the tissue``, after
the percent-signal ghosting of the ACR phantom test. The noise floor of the air cancels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FEWEST_PIXELS = 3  # width of a strip of air
MARGIN = 2  # pixels of air next to the patient that do not count


def ghost_ratio(image: npt.ArrayLike, phase_axis: int = 0) -> float:
    """Ghost signal over tissue signal of one slice ``(H, W)``; NaN where the patient leaves no air on both axes.

    Args:
        image: Magnitude, not below 0.
        phase_axis: 0 when phase is encoded from row to row, 1 from column to column.

    >>> image = np.zeros((40, 40))
    >>> image[10:30, 10:30] = 100.0
    >>> image[:6, 10:30] = 5.0
    >>> image[34:, 10:30] = 5.0
    >>> round(ghost_ratio(image), 4)
    0.0375
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 2:
        return math.nan
    box = _patient(values)
    if box is None:
        return math.nan
    (top, bottom), (left, right) = box
    rows = [values[: max(top - MARGIN, 0), left:right], values[bottom + MARGIN :, left:right]]
    columns = [values[top:bottom, : max(left - MARGIN, 0)], values[top:bottom, right + MARGIN :]]
    ghosts, readout = (rows, columns) if phase_axis == 0 else (columns, rows)
    means = [_mean([strip for strip in strips if min(strip.shape) >= FEWEST_PIXELS]) for strips in (ghosts, readout)]
    tissue = values[top:bottom, left:right]
    signal = float(tissue[tissue > 0.25 * tissue.max()].mean())
    return (means[0] - means[1]) / signal


def _patient(values: npt.NDArray[np.float64]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and last row and column of the tissue, beyond a quarter of the bright end; ghosts stay below it."""
    bright = float(np.quantile(values, 0.99))
    inside = values > 0.25 * bright
    if bright <= 0 or not inside.any():
        return None
    spans = []
    for axis in (1, 0):
        lines = np.flatnonzero(inside.mean(axis=axis) > 0.02)
        if not lines.size:
            return None
        spans.append((int(lines[0]), int(lines[-1]) + 1))
    return spans[0], spans[1]


def _mean(strips: list[npt.NDArray[np.float64]]) -> float:
    return float(np.concatenate([strip.ravel() for strip in strips]).mean()) if strips else math.nan
