"""Shortcut audit A4: a line of text burned into the image, and what the score does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_rad.conditions import Level
from robustbench_rad.glyphs import LETTERS
from robustbench_rad.registry import register
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shortcuts._insertion import Drawn, Insertion, paired_levels
from robustbench_rad.shortcuts._lettering import PLACES, lettered

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_INSET, _SPREAD = 0.015, 0.02


@register(
    id="shortcut.insert-text",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    reference="Zech et al. 2018, doi:10.1371/journal.pmed.1002683; DICOM PS3.3 C.7.6.1.1.5 burned in annotation",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class InsertText(Insertion):
    """Burn a line of text into a corner, white over all; the placebo is its dots without the letters, elsewhere.

    The placebo has as many white dots as the line, in a random order, in an upright strip half way down a lateral border. In a
    volume every slice has the line, as in a screenshot of it.

    Attributes:
        levels: ``top left``, ``top right``, ``bottom left``, ``bottom right`` of the image.
        words: What is written, of the letters A, B, E, L, O, P, R, T and blank.
        height_share: Height of the letters as a share of the image's height; smaller where the line would not fit.
    """

    names: ClassVar[tuple[str, ...]] = tuple(PLACES)
    volumes: ClassVar[bool] = True
    only_projections: ClassVar[bool] = False

    levels: tuple[Level, ...] = paired_levels("top left", "bottom right")
    words: str = "AP PORTABLE"
    height_share: float = 0.03

    def __post_init__(self) -> None:
        """Refuse letters that cannot be drawn.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        require_positive(self, ("height_share",))
        if not isinstance(self.words, str) or not self.words.strip() or not set(self.words) <= set(LETTERS):
            raise ValueError(f"words: expected words of the letters {''.join(LETTERS)}, got {self.words!r}")
        if self.height_share > 0.2:
            raise ValueError(f"height_share: expected at most 0.2 of the height, got {self.height_share}")

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """The line in its corner."""
        height, width = batch.images.shape[-2:]
        insets = (_INSET + _SPREAD * self.draws(batch, 2, "inset")) * min(height, width)
        longest = 0.45 * min(height, width) * 7.0 / (6.0 * len(self.words) - 1.0)
        letters = max(min(self.height_share * height, longest), 1.0)
        sources = self.generators(batch, f"placebo of {name}")
        return lettered(self.words, PLACES[name], insets, letters, (height, width), sources, upright=True)

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """White where the letters are."""
        del name
        return images + drawn * (1.0 - images)
