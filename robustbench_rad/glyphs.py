"""Small pictures of what lies on radiographs beside the patient: letters, a tube, electrodes, border text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

FINE = 2  # picture elements per dot of a letter
SAMPLES = 2  # per pixel and axis, so that small letters have even edges
LETTERS = {
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "B": "####. #...# #...# ####. #...# #...# ####.",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "O": ".###. #...# #...# #...# #...# #...# .###.",
    "P": "####. #...# #...# ####. #.... #.... #....",
    "R": "####. #...# #...# ####. #.#.. #..#. #...#",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    " ": "..... ..... ..... ..... ..... ..... .....",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Glyph:
    """A picture to lay over an image.

    Attributes:
        picture: ``(h, w)`` opacity in [0, 1].
        height: In units of the marker's size.
        border: Whether it stands at the upper or the lower border only.
    """

    picture: Tensor
    height: float
    border: bool = False

    @property
    def width(self) -> float:
        """In units of the marker's size."""
        return self.height * self.picture.shape[1] / self.picture.shape[0]


def text_picture(words: str) -> Tensor:
    """Opacity ``(14, 12 n - 2)`` of n letters of 5 x 7 dots, one dot apart; only those of :data:`LETTERS`.

    >>> text_picture("AP").shape
    torch.Size([14, 22])
    """
    letters = [torch.tensor([[dot == "#" for dot in row] for row in LETTERS[letter].split(" ")]) for letter in words]
    spaced = [functional.pad(letter.float(), (0, 1)) for letter in letters]
    dots = torch.cat(spaced, 1)[:, :-1]
    return dots.repeat_interleave(FINE, 0).repeat_interleave(FINE, 1)


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return rows, columns


def _tube() -> Tensor:
    """A slightly bent line with a denser stripe, 4 sizes long: a catheter or a tube."""
    rows, columns = _places(192, 64)
    middle = 32 + 20 * torch.sin(rows / 192 * math.pi * 1.2)
    away = (columns - middle).abs()
    return 0.5 * (away < 7).float() + 0.5 * (away < 2).float()


def _electrodes() -> Tensor:
    """Three discs with a dense button in the middle, and the rim of the pad."""
    rows, columns = _places(120, 120)
    opacity = torch.zeros(120, 120)
    for row, column in ((22, 22), (22, 98), (98, 60)):
        radius = ((rows - row) ** 2 + (columns - column) ** 2).sqrt()
        opacity += 0.35 * (radius < 20).float() + 0.65 * (radius < 8).float()
    return opacity.clamp(0, 1)


@cache
def glyphs() -> dict[str, Glyph]:
    """All of them by name, in a fixed order."""
    return {
        "L": Glyph(picture=text_picture("L"), height=1.0),
        "R": Glyph(picture=text_picture("R"), height=1.0),
        "tube": Glyph(picture=_tube(), height=4.0),
        "electrodes": Glyph(picture=_electrodes(), height=3.0),
        "text": Glyph(picture=text_picture("PORTABLE"), height=0.6, border=True),
    }


def coverage(glyph: Glyph, centre: Tensor, size: Tensor, shape: Sequence[int]) -> Tensor:
    """Opacity ``(L, M, 1, H, W)`` of a glyph laid over images.

    Args:
        glyph: Which.
        centre: ``(M, 2)`` shares of the room that the glyph has to move in, along rows and columns; 0 and 1 are the edges.
        size: ``(L, 2)`` of the marker, in pixels along rows and columns.
        shape: H and W.
    """
    picture, device = glyph.picture.to(size), size.device
    extent = size * torch.tensor([glyph.height, glyph.width], device=device)
    room = torch.tensor(list(shape), device=device) - extent
    middle = extent[:, None] / 2 + centre.to(device) * room.clamp_min(0)[:, None] + room.clamp(max=0)[:, None] / 2
    places = middle.flatten(0, 1)
    extents = extent[:, None].expand(*middle.shape).flatten(0, 1)
    opacity = laid(picture.expand(len(places), -1, -1), places, extents, shape)
    return opacity.reshape(*middle.shape[:2], 1, *shape)


def laid(pictures: Tensor, middle: Tensor, extent: Tensor, shape: Sequence[int]) -> Tensor:
    """Opacity ``(M, 1, H, W)`` of pictures laid over images, one each; what lies beyond the image is cut off.

    Args:
        pictures: ``(M, h, w)`` opacity in [0, 1].
        middle: ``(M, 2)`` row and column of their centres, in pixels.
        extent: ``(M, 2)`` their height and width in pixels.
        shape: H and W.
    """
    rows, columns = (
        2
        * ((torch.arange(pixels * SAMPLES, device=extent.device) + 0.5) / SAMPLES - middle[:, axis, None])
        / extent[:, axis, None]
        for axis, pixels in enumerate(shape)
    )
    height, width = (pixels * SAMPLES for pixels in shape)
    places = torch.stack([columns[:, None].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], -1)
    drawn = functional.grid_sample(pictures[:, None], places, padding_mode="zeros", align_corners=False)
    return functional.avg_pool2d(drawn, SAMPLES)
