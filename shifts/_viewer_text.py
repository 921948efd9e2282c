"""Words that a viewer burns into what it shows: letters of 5 x 7 dots, drawn with even edges at any size."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_LETTERS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ..##. .#... #.... #####",
    "3": ".###. #...# ....# ..##. ....# #...# .###.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": "..##. .#... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. ..#.. .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ...#. .##..",
    "A": ".###. #...# #...# ##### #...# #...# #...#",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "G": ".###. #...# #.... #.### #...# #...# .###.",
    "I": ".###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.",
    "L": "#.... #.... #.... #.... #.... #.... #####",
    "M": "#...# ##.## #.#.# #.#.# #...# #...# #...#",
    "O": ".###. #...# #...# #...# #...# #...# .###.",
    "R": "####. #...# #...# ####. #.#.. #..#. #...#",
    "S": ".#### #.... #.... .###. ....# ....# ####.",
    "W": "#...# #...# #...# #.#.# #.#.# ##.## #...#",
    "X": "#...# #...# .#.#. ..#.. .#.#. #...# #...#",
    "Z": "##### ....# ...#. ..#.. .#... #.... #####",
    "-": "..... ..... ..... ##### ..... ..... .....",
    ".": "..... ..... ..... ..... ..... .##.. .##..",
    ":": "..... .##.. .##.. ..... .##.. .##.. .....",
    "/": "....# ....# ...#. ..#.. .#... #.... #....",
    " ": "..... ..... ..... ..... ..... ..... .....",
}
LETTERS = frozenset(_LETTERS)


@cache
def dots(words: str) -> Tensor:
    """Dots ``(7, 6 · letters - 1)`` of a line, 0 or 1.

    >>> dots("L:").shape
    torch.Size([7, 11])
    """
    letters = [torch.tensor([[dot == "#" for dot in row] for row in _LETTERS[letter].split(" ")]) for letter in words]
    return torch.cat([functional.pad(letter.float(), (0, 1)) for letter in letters], 1)[:, :-1]


def written(words: str, shape: tuple[int, int], *, height_px: float, top_px: float, left_px: float) -> Tensor:
    """Opacity ``shape`` of a line of words whose upper left corner is given; what does not fit is cut off.

    The share of every pixel that ink covers: a dot smaller than a pixel is grey, not lost.
    """
    size = height_px / 7.0
    ink = dots(words)
    rows, columns = (
        _overlap(pixels, count, start, size)
        for pixels, count, start in zip(shape, ink.shape, (top_px, left_px), strict=True)
    )
    return rows @ ink @ columns.T


def _overlap(pixels: int, count: int, start: float, size: float) -> Tensor:
    """Length that every pixel shares with every dot along one axis, ``(pixels, count)``."""
    pixel, dot = torch.arange(pixels)[:, None], start + size * torch.arange(count)[None, :]
    return (torch.minimum(pixel + 1.0, dot + size) - torch.maximum(pixel + 0.0, dot)).clamp_min(0.0)
