"""A contact sheet as a picture: per level the image, its difference from the original, a zoom, and the physical values."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_rad.errors import PlanError
from robustbench_rad.sheet import Frame, Plane, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
COLUMNS = 6  # frames side by side
INCHES = 2.2  # side of a picture
TEXT_INCHES = 1.05
HEAD_INCHES = 0.45
WIDTH_CHARACTERS = 34
DPI = 150
_TEXT: Any = {"fontsize": 7, "color": "#1c2430", "va": "top", "ha": "left", "parse_math": False}


def write_sheet(sheet: Sheet, path: Path) -> None:
    """Draw a sheet into a PNG, PDF or SVG file; the same sheet gives the same file.

    Raises:
        PlanError: Another suffix, or the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PlanError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    import matplotlib

    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Creator": None}, ".svg": {"Date": None}}
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "robustbench-rad"}):
        figure = _figure(sheet)
        try:
            figure.savefig(path, dpi=DPI, metadata=metadata[path.suffix.lower()])
        except OSError as error:
            raise PlanError(f"{path}: cannot be written: {error.strerror}") from error


def _figure(sheet: Sheet) -> Figure:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(sheet.frames))
    bands = -(-len(sheet.frames) // columns)
    ratio = _ratio(sheet)
    band = INCHES * (2.0 * ratio + 1.0) + TEXT_INCHES
    size = (columns * INCHES, HEAD_INCHES + bands * band)
    figure = Figure(figsize=size, facecolor="white")
    figure.text(0.05 / size[0], 1 - 0.08 / size[1], _head(sheet), **{**_TEXT, "fontsize": 8})
    for number, frame in enumerate(sheet.frames):
        row, column = divmod(number, columns)
        _draw(figure, frame, sheet, (column * INCHES, size[1] - HEAD_INCHES - row * band), size, ratio)
    return figure


def _ratio(sheet: Sheet) -> float:
    """Height over width of the original."""
    shown = sheet.frames[0].image
    return 1.0 if shown is None else shown.shape[0] / shown.shape[1]


def _head(sheet: Sheet) -> str:
    window = f"window {sheet.window[0]:g} to {sheet.window[1]:g}"
    scale = f"differences black to white: ±{sheet.largest_difference:.3g} {sheet.unit}"
    return f"{sheet.shift} on {sheet.name}: image, difference, zoom\n{window}; {scale}"


def _draw(
    figure: Figure, frame: Frame, sheet: Sheet, corner: tuple[float, float], size: tuple[float, float], ratio: float
) -> None:
    """One column: image, difference, zoom, text, from its upper left corner in inches."""
    left, top = corner
    heights = (INCHES * ratio, INCHES * ratio, INCHES)
    scale = sheet.largest_difference or 1.0
    zoomed = None if frame.image is None else _zoom(frame.image, sheet.zoom)
    for height, plane, ends in zip(
        heights, (frame.image, frame.difference, zoomed), ((0, 1), (-scale, scale), (0, 1)), strict=True
    ):
        box = (left / size[0], (top - height) / size[1], (INCHES - 0.04) / size[0], (height - 0.04) / size[1])
        _show(figure.add_axes(box), plane, ends)
        top -= height
    words = [frame.title, *(part for line in frame.lines for part in textwrap.wrap(line, WIDTH_CHARACTERS))]
    figure.text((left + 0.03) / size[0], (top - 0.02) / size[1], "\n".join(words[:8]), **_TEXT)


def _show(axes: Axes, plane: Plane | None, ends: tuple[float, float]) -> None:
    axes.set_axis_off()
    if plane is not None:
        axes.imshow(plane, cmap="gray", vmin=ends[0], vmax=ends[1], interpolation="nearest", aspect="auto")


def _zoom(plane: Plane, zoom: tuple[float, float, float]) -> Plane:
    """A square around the middle, moved inward where it would leave the image."""
    side = max(2, round(zoom[2] * min(plane.shape)))
    side = min(side, *plane.shape)
    starts = [
        int(np.clip(round(middle * extent - side / 2), 0, extent - side))
        for middle, extent in zip(zoom[:2], plane.shape, strict=True)
    ]
    return plane[starts[0] : starts[0] + side, starts[1] : starts[1] + side]
