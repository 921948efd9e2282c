"""Edges that serve for measuring sharpness, found in an image without a test object.

The sharpest places of the image are tried; those with one clean edge between two flat sides count. Anatomy has soft edges of
its own, so outside of CT, where the rim of the body against air is nearly a step, the f50 is that of the image's edges and
no more than a lower bound for the detector's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from robustbench_rad.errors import DataError
from robustbench_rad.metrology.edges import Doubles, edge_transfer

TRIED = 300
APART_PX = 8
ALONG_PX, ACROSS_PX = 10, 16  # half sides of a patch
FEWEST_EDGES = 5
AIR_HU, BODY_HU = -800.0, -300.0


@dataclass(frozen=True, kw_only=True)
class EdgeSharpness:
    """f50 over the edges of an image.

    Attributes:
        f50_per_mm: Median; NaN when fewer than :data:`FEWEST_EDGES` edges serve.
        lower, upper: Quartiles over the edges.
        edges: How many served.
    """

    f50_per_mm: float
    lower: float
    upper: float
    edges: int


def edge_sharpness(image: npt.ArrayLike, spacing_mm: float = 1.0, *, hounsfield: bool = False) -> EdgeSharpness:
    """Median f50 of the edges of an image ``(H, W)``.

    Args:
        image: Any unit.
        spacing_mm: Side of a square pixel; 1 gives cycles per pixel.
        hounsfield: Take only edges between air (below -800 HU) and the body (above -300 HU).
    """
    values = np.asarray(image, dtype=np.float64)
    found = [f50 for place in _places(values) if math.isfinite(f50 := _f50(values, place, spacing_mm, hounsfield))]
    if len(found) < FEWEST_EDGES:
        return EdgeSharpness(f50_per_mm=math.nan, lower=math.nan, upper=math.nan, edges=len(found))
    lower, median, upper = (float(value) for value in np.quantile(found, (0.25, 0.5, 0.75)))
    return EdgeSharpness(f50_per_mm=median, lower=lower, upper=upper, edges=len(found))


def _places(values: Doubles) -> list[tuple[int, int, bool]]:
    """Row, column and whether the edge runs down, of the steepest places, at least :data:`APART_PX` apart."""
    if min(values.shape) <= 2 * ACROSS_PX:
        return []
    down, across = (ndimage.gaussian_filter(values, 1.0, order=order) for order in ((1, 0), (0, 1)))
    steep = np.hypot(down, across)
    peaks = (steep == ndimage.maximum_filter(steep, size=2 * APART_PX + 1)) & (steep > 0)
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-steep[rows, columns], kind="stable")[:TRIED]
    runs_down = np.abs(across) >= np.abs(down)
    return [(int(r), int(c), bool(runs_down[r, c])) for r, c in zip(rows[order], columns[order], strict=True)]


def _f50(values: Doubles, place: tuple[int, int, bool], spacing_mm: float, hounsfield: bool) -> float:
    row, column, runs_down = place
    half_rows, half_columns = (ALONG_PX, ACROSS_PX) if runs_down else (ACROSS_PX, ALONG_PX)
    top, left = row - half_rows, column - half_columns
    bottom, right = row + half_rows + 1, column + half_columns + 1
    if top < 0 or left < 0 or bottom > values.shape[0] or right > values.shape[1]:
        return math.nan
    patch = values[top:bottom, left:right]
    if hounsfield and not (np.quantile(patch, 0.1) < AIR_HU and np.quantile(patch, 0.9) > BODY_HU):
        return math.nan
    try:
        return edge_transfer(patch, spacing_mm).f50_per_mm
    except DataError:
        return math.nan
