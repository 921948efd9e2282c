"""Lead markers on a radiograph: side letters and the words AP or PORTABLE.

Lead letters let little of the exposure through, ``E' = E · (1 - o (1 - 10^-d))``, o the opacity of the letters in a pixel and d
the attenuation of the lead in decades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.glyphs import LETTERS, Glyph, coverage, text_picture
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._radiograph import ExposureShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "% of the height"
_MOST = 4
_INSET, _SPREAD = 0.02, 0.08  # how far from the corner, as a share of the room that a marker has
_ON_IMAGE = {"L": 1.0, "R": 0.0}  # a patient's left is on the right of the image


@register(
    id="shift.xr.marker",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX", "MG"),
    reference="Zech et al. 2018, 10.1371/journal.pmed.1002683",
    unit="% of the height",
)
@dataclass(frozen=True, kw_only=True)
class XrMarker(ExposureShift):
    """Other markers than the hospital's own, in the corners of the image.

    Words, corners and distances are drawn for each case and shared by the levels; larger letters come with more markers,
    one up to 3 % of the height and four from 8 %. Markers that an image has already stay. Measured per level:
    ``markers``, and ``covered_share`` of the image.

    Attributes:
        levels: Height of the letters in % of the image's height; 0 is the image itself.
        words: What is drawn from, of the letters A, B, E, L, O, P, R, T and blank.
        sides: ``correct`` (L on the right of the image), ``swapped``, or ``any``; for the words L and R.
        attenuation_decades: Of the lead.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a height of letters in %"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 30.0

    levels: tuple[Level, ...] = ladder(_UNIT, "3", "4", "5", "6.5", "8")
    words: tuple[str, ...] = ("L", "R", "AP", "PORTABLE")
    sides: str = "correct"
    attenuation_decades: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "sides", ("correct", "swapped", "any"))
        require_positive(self, ("attenuation_decades",))
        words = self.words if isinstance(self.words, tuple) else ()
        if not words or not all(isinstance(word, str) and word.strip() and set(word) <= set(LETTERS) for word in words):
            raise ValueError(f"words: expected a list of words of the letters {''.join(LETTERS)}, got {self.words!r}")

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw words and places of four markers for each case."""
        pictures = {word: Glyph(picture=text_picture(word), height=1.0) for word in self.words}
        chosen = [
            self._markers(row) for row in self.uniform(batch, 4 * _MOST, "markers").reshape(-1, _MOST, 4).tolist()
        ]

        def render(level: Level) -> Change:
            count = marker_count(level.value)
            cases = [_drawn(pictures, markers[:count], level.value / 100.0, batch.images) for markers in chosen]
            opacity = torch.stack(cases)
            ratio = 1.0 - opacity * (1.0 - 10.0**-self.attenuation_decades)
            return Change(
                images=self.curve.signal(ratio, batch.images),
                measured={
                    "markers": opacity.new_tensor([len(markers[:count]) for markers in chosen]),
                    "covered_share": opacity.mean((1, 2, 3)),
                },
            )

        return render

    def _markers(self, draws: Sequence[Sequence[float]]) -> list[tuple[str, float, float]]:
        """Word, and place along rows and columns, of every marker; no two in one corner."""
        corners = [(row, column) for row in (0.0, 1.0) for column in (0.0, 1.0)]
        markers: list[tuple[str, float, float]] = []
        for word_draw, corner_draw, row_draw, column_draw in draws:
            unused = [word for word in self.words if word not in {marker[0] for marker in markers}] or self.words
            word = unused[int(word_draw * len(unused))]
            side = _ON_IMAGE.get(word) if self.sides != "any" else None
            if side is not None and self.sides == "swapped":
                side = 1.0 - side
            free = [corner for corner in corners if side in {None, corner[1]}]
            if not free:  # both corners of the letter's side are taken: the other letter or word would be wrong there
                continue
            row, column = free[int(corner_draw * len(free))]
            corners.remove((row, column))
            insets = (_INSET + _SPREAD * draw for draw in (row_draw, column_draw))
            places = [abs(corner - inset) for corner, inset in zip((row, column), insets, strict=True)]
            markers.append((word, places[0], places[1]))
        return markers


def marker_count(height_percent: float) -> int:
    """How many markers come with letters of a height: one up to 3 %, four from 8 %.

    >>> [marker_count(height) for height in (0, 3, 4, 5, 6.5, 8, 20)]
    [1, 1, 2, 2, 3, 4, 4]
    """
    return min(max(round(1.0 + 3.0 * (height_percent - 3.0) / 5.0), 1), _MOST)


def _drawn(
    pictures: dict[str, Glyph], markers: Sequence[tuple[str, float, float]], height: float, images: Tensor
) -> Tensor:
    """Opacity ``(1, H, W)`` of one case's markers."""
    shape = images.shape[-2:]
    opacity = images.new_zeros(1, *shape)
    for word, row, column in markers:
        size = images.new_full((1, 2), max(height * shape[0], 1.0))
        place = images.new_tensor([[row, column]])
        opacity = torch.maximum(opacity, coverage(pictures[word], place, size, shape)[0, 0])
    return opacity
