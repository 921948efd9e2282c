"""A contact sheet as a picture: per level the image, its difference from the original, a zoom, and the physical values."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_rad.errors import PlanError
from robustbench_rad.sheet import Frame, Plane, Sheet, figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
COLUMNS = 6  # frames side by side
INCHES = 2.2  # side of a picture
LINE_INCHES = 0.125
MOST_LINES = 8
HEAD_INCHES = 0.45
WIDTH_CHARACTERS = 38
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
    band = INCHES * (2.0 * ratio + 1.0) + _text_inches(sheet)
    size = (columns * INCHES, HEAD_INCHES + bands * band)
    figure = Figure(figsize=size, facecolor="white")
    figure.text(0.05 / size[0], 1 - 0.08 / size[1], _head(sheet), **{**_TEXT, "fontsize": 8})
    for number, frame in enumerate(sheet.frames):
        row, column = divmod(number, columns)
        _draw(figure, frame, sheet, (column * INCHES, size[1] - HEAD_INCHES - row * band), size, ratio)
    return figure


def _words(frame: Frame) -> list[str]:
    """What is said below a frame, the level apart, in lines that fit."""
    lines = [part for line in frame.lines for part in textwrap.wrap(line, WIDTH_CHARACTERS)]
    return lines[: MOST_LINES - 1]


def _text_inches(sheet: Sheet) -> float:
    """Height of the longest text below a frame."""
    return LINE_INCHES * (1 + max(len(_words(frame)) for frame in sheet.frames)) + 0.1


def _ratio(sheet: Sheet) -> float:
    """Height over width of the original."""
    shown = sheet.frames[0].image
    return 1.0 if shown is None else shown.shape[0] / shown.shape[1]


def _head(sheet: Sheet) -> str:
    window = f"window {sheet.window[0]:g} to {sheet.window[1]:g}"
    return f"{sheet.shift} on {sheet.name}\nimage ({window}), difference from the original, zoom"


def _scale(sheet: Sheet) -> str:
    """What black, grey and white mean in a difference; stands where the original has none."""
    most = f"{figures(sheet.largest_difference)} {sheet.unit}"
    return f"difference\n\nwhite  +{most}\ngrey  0\nblack  −{most}"


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
    place = (left + 0.03) / size[0]
    if frame is sheet.frames[0]:
        figure.text(place, (corner[1] - heights[0] - 0.08) / size[1], _scale(sheet), **_TEXT)
    figure.text(place, (top - 0.02) / size[1], frame.title, **_TEXT, fontweight="bold")
    figure.text(place, (top - 0.02 - LINE_INCHES) / size[1], "\n".join(_words(frame)), **_TEXT)


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
