"""Pixels of the report's pictures: planes made small, set against an original, and written as JPEG within a budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_rad.result import Domain, Panel, PanelLine, Picture

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_PX = 256
LEAST_DIFFERENCE = 1 / 255  # of the display range: smaller ones are not blown up
BUDGET = 2_300_000  # characters of base64 of all pictures together; the page has 5 MB
SIZES = ((LONGEST_PX, 85), (192, 80), (160, 75), (128, 70), (96, 65), (64, 60))  # longest side in pixels, JPEG quality
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """One image of a strip: grey values ``(H, W)``, and its difference from the first, mid-grey where there is none."""

    name: str
    image: Bytes
    difference: Bytes | None = None
    lines: tuple[PanelLine, ...] = ()
    group: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strip:
    """Images that belong together."""

    check: str
    domain: Domain
    caption: str
    tiles: tuple[Tile, ...]
    field: bool = False


def grey(plane: Tensor) -> Bytes:
    """Grey values 0 to 255 of a plane ``(H, W)`` in [0, 1], at most 256 pixels on its longer side."""
    return _smaller((plane.clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8), LONGEST_PX)


def difference(plane: Tensor, original: Tensor, scale: float) -> Bytes:
    """Mid-grey where both are alike; white where the plane is brighter by ``scale``, black where it is darker by it."""
    return grey(0.5 + (plane - original) / (2.0 * scale))


def largest_difference(planes: Sequence[Tensor], original: Tensor) -> float:
    """What is black and white in the differences: the largest of a plane, left out half a percent of its changed pixels."""
    sizes = [(plane - original).abs().flatten().double() for plane in planes]
    changed = [size[size > LEAST_DIFFERENCE / 2] for size in sizes]
    return max([*(float(size.quantile(0.995)) for size in changed if len(size)), LEAST_DIFFERENCE])


def encoded(strips: Sequence[Strip], budget: int = BUDGET) -> list[Picture]:
    """Strips as pictures, made smaller and coarser until all of them fit into a budget, as far as that goes."""
    pictures: list[Picture] = []
    for longest, quality in SIZES:
        pictures = [_picture(strip, longest, quality) for strip in strips]
        if sum(size(picture) for picture in pictures) <= budget:
            break
    return pictures


def size(picture: Picture) -> int:
    """Characters of base64."""
    panels = sum(len(panel.jpeg_base64) + len(panel.difference_base64) for panel in picture.panels)
    return len(picture.png_base64) + panels


def _picture(strip: Strip, longest: int, quality: int) -> Picture:
    return Picture(
        check=strip.check,
        domain=strip.domain,
        caption=strip.caption,
        field=strip.field,
        panels=[
            Panel(
                name=tile.name,
                jpeg_base64=_jpeg(tile.image, longest, quality),
                difference_base64="" if tile.difference is None else _jpeg(tile.difference, longest, quality),
                lines=list(tile.lines),
                group=tile.group,
            )
            for tile in strip.tiles
        ],
    )


def _jpeg(pixels: Bytes, longest: int, quality: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(_smaller(pixels, longest)).save(buffer, format="JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _smaller(pixels: Bytes, longest: int) -> Bytes:
    """The picture with at most so many pixels on its longer side; never enlarged."""
    height, width = pixels.shape
    factor = longest / max(height, width)
    if factor >= 1.0:
        return pixels
    shape = (max(round(width * factor), 1), max(round(height * factor), 1))
    return np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BOX))
