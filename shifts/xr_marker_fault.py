"""The markers that a radiograph has, missing or on the wrong side.

Lead letters absorb in addition to the patient, so under a log-linear display curve they are an offset of the signal: what they
add to the smooth continuation of their surroundings. It is taken away, or put down again at the mirror-image place, not
mirrored itself: an L on the patient's right is still read as an L.

References:
    Zech et al. 2018, Variable generalization performance of a deep learning model to detect pneumonia in chest radiographs,
    10.1371/journal.pmed.1002683.
    Serra 1982, Image Analysis and Mathematical Morphology (top-hat, with which the letters are found).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.errors import suggestion
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import Change
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._radiograph import RadiographShift
from robustbench_rad.shortcuts._beside import Search, marker_masks
from robustbench_rad.shortcuts.anatomy import continued, dilated

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import AlterLevel

REMOVED, SWAPPED = (
    Level(name=name, value=float(place), unit="") for place, name in enumerate(("removed", "swapped"), 1)
)
_LEVELS = {level.name: level for level in (REMOVED, SWAPPED)}
_SOUGHT_PX = 512  # the shorter side of the image that letters are sought in
_GLOW = 0.012  # of the shorter side: a letter is grown by this, for its blurred rim
_SQUARE = np.ones((3, 3), dtype=np.bool_)
_WORD_GAP = 0.03  # of the shorter side: letters nearer to each other are one marker


@register(
    id="shift.xr.marker-fault",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CR", "DX", "MG"),
    reference="Zech et al. 2018, 10.1371/journal.pmed.1002683; Serra 1982",
)
@dataclass(frozen=True, kw_only=True)
class XrMarkerFault(RadiographShift):
    """The image's own markers missing (``removed``), or at the mirror-image place (``swapped``): a fault that is there or not.

    Markers are found as bright, steep, small letters near the border that do not lie on the declared anatomy; text burned in by
    the console is found too. A case where none is found is not applicable, and a search can miss: look at a sheet. Measured per
    level: ``markers`` found, and ``covered_share`` of the image.

    Attributes:
        levels: ``removed``, ``swapped``.
        contrast: Least brightness of a letter above its surroundings, in shares of the display range.
        brightness: Least brightness, likewise.
        border_share: A marker's centre lies within this share of a border.
    """

    levels: tuple[Level, ...] = (REMOVED, SWAPPED)
    contrast: float = 0.2
    brightness: float = 0.45
    border_share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("contrast", "brightness", "border_share"))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from its name.

        Raises:
            ValueError: Neither ``removed`` nor ``swapped``.
        """
        if str(value) not in _LEVELS:
            raise ValueError(f"expected removed or swapped, got {value}. {suggestion(str(value), _LEVELS)}".rstrip())
        return _LEVELS[str(value)]

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Find the markers of every case, and what is behind them."""
        search = Search(contrast=self.contrast, brightness=self.brightness, border=self.border_share)
        found = markers(batch.images, batch.anatomy, search)
        without = torch.where(found, continued(batch.images, 1.0 - found.to(batch.images)), batch.images)
        moved, counts = zip(*map(_at_the_mirror_place, batch.images - without, found), strict=True)
        ink, count = torch.stack(moved), batch.images.new_tensor(counts)
        covered = found.flatten(1).float().mean(1)

        def render(level: Level) -> Change:
            images = without if level == REMOVED else without + ink
            return Change(
                images=images.clamp(0.0, 1.0),
                measured={"markers": count, "covered_share": covered},
                applicable=count > 0,
                reason="no marker found near the border",
            )

        return render


def markers(images: Tensor, anatomy: Tensor | None, search: Search) -> Tensor:
    """Where letters are, with their blurred rims, ``(N, 1, H, W)``; sought in an image of 512 pixels a side."""
    shape = images.shape[-2:]
    shorter = min(shape)
    size = [max(1, round(side * min(1.0, _SOUGHT_PX / shorter))) for side in shape]
    small = images.detach().float()
    if size != list(shape):
        small = functional.interpolate(small, size, mode="area")
        anatomy = None if anatomy is None else functional.interpolate(anatomy.float(), size, mode="area") > 0.5
    found = marker_masks(small, anatomy, search)
    grown = dilated(found, max(round(_GLOW * min(size)), 1))
    return grown if size == list(shape) else functional.interpolate(grown.float(), shape, mode="nearest") > 0.5


def _at_the_mirror_place(ink: Tensor, found: Tensor) -> tuple[Tensor, int]:
    """What markers ``(1, H, W)`` add, each moved to the mirror image of its place as it is; and how many there are."""
    mask = found[0].cpu().numpy()
    gap = max(1, round(_WORD_GAP * min(mask.shape) / 2))
    joined = ndimage.binary_dilation(mask, _SQUARE, iterations=gap)
    names, count = ndimage.label(joined, _SQUARE)
    width, moved = mask.shape[1], torch.zeros_like(ink)
    for name in range(1, count + 1):
        part = (names == name) & mask
        columns = np.flatnonzero(part.any(0))
        shift = width - 1 - int(columns[0]) - int(columns[-1])
        own = ink * torch.from_numpy(part).to(ink)
        moved = moved + functional.pad(own, (max(shift, 0), max(-shift, 0)))[..., max(-shift, 0) :][..., :width]
    return moved, count
