"""Shortcut audit A4: a lead side marker in a corner of the radiograph, and what the score does.

Lead lets a little of the exposure through, so a marker adds to the signal as in ``shift.xr.marker``: almost white on tissue,
light grey on air.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import DisplayCurve
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shortcuts._insertion import Drawn, Insertion, paired_levels
from robustbench_rad.shortcuts._lettering import PLACES, lettered

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_INSET, _SPREAD = 0.03, 0.05


@register(
    id="shortcut.insert-marker",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    modalities=("CR", "DX", "MG"),
    reference="Zech et al. 2018, doi:10.1371/journal.pmed.1002683; DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class InsertMarker(Insertion):
    """Lay a lead letter, L or R on its own side, into each corner; the placebo is its ink without the letter, elsewhere.

    The placebo has as many dots of lead as the letter, in a random order, half way down a lateral border.

    Attributes:
        levels: ``top left``, ``top right``, ``bottom left``, ``bottom right`` of the image.
        height_share: Height of the letter as a share of the image's height.
        attenuation_decades: Of the lead.
    """

    names: ClassVar[tuple[str, ...]] = tuple(PLACES)

    levels: tuple[Level, ...] = paired_levels(*PLACES)
    height_share: float = 0.05
    attenuation_decades: float = 1.2

    def __post_init__(self) -> None:
        """Refuse a height or an attenuation without meaning.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        require_positive(self, ("height_share", "attenuation_decades"))
        if self.height_share > 0.2:
            raise ValueError(f"height_share: expected at most 0.2 of the height, got {self.height_share}")

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """The letter in its corner; a patient's left is on the right of the image."""
        height, width = batch.images.shape[-2:]
        corner = PLACES[name]
        insets = (_INSET + _SPREAD * self.draws(batch, 2, "inset")) * min(height, width)
        word = "L" if corner[1] == 1.0 else "R"
        sources = self.generators(batch, f"placebo of {name}")
        return lettered(word, corner, insets, max(self.height_share * height, 1.0), (height, width), sources)

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """Lead where the letter is."""
        del name
        return DisplayCurve().signal(1.0 - drawn * (1.0 - 10.0**-self.attenuation_decades), images)
