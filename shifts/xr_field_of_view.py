"""A smaller field of view, not centred, as a limited view or a badly placed detector gives it.

A window of the asked share of the height and width, at a place drawn for each case, is all that is left and fills the image:
the magnification is one over the share. Where the finding lies outside of it, nothing can be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._lesions import seen_share
from robustbench_rad.shifts._radiograph import RadiographShift
from robustbench_rad.shifts._resample import pixel_axes, sampled, sampled_mask

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_UNIT = "% of the side"


@register(
    id="shift.xr.field-of-view",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CR", "DX"),
    reference="European Commission 1996, EUR 16260: quality criteria for diagnostic radiographic images",
    unit="% of the side",
)
@dataclass(frozen=True, kw_only=True)
class XrFieldOfView(RadiographShift):
    """A cut of the field of view, so that the finding may lie outside.

    The places of a case's windows share their draw: a smaller window stands relatively where a larger one does.
    Measured per level: ``lesion_share``, how much of a known lesion is still in the window.

    Attributes:
        levels: What is left of the height and of the width in %; 100 is the image itself.
        centred: Whether the window stays in the middle.
    """

    neutral: ClassVar[float | None] = 100.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "what is left of the side in %"
    lowest: ClassVar[float] = 20.0
    highest: ClassVar[float] = 100.0

    levels: tuple[Level, ...] = ladder(_UNIT, "95", "90", "80", "70", "60")
    centred: bool = False

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw the place of every case's window."""
        places = self.uniform(batch, 2, "place")
        if self.centred:
            places = torch.full_like(places, 0.5)
        rows, columns = pixel_axes(batch.images)
        height, width = batch.images.shape[-2:]

        def render(level: Level) -> Change:
            share = level.value / 100.0
            top, left = (
                place[:, None, None] * (1.0 - share) * side
                for place, side in zip(places.unbind(1), (height, width), strict=True)
            )
            down, across = top + share * (rows + 0.5) - 0.5, left + share * (columns + 0.5) - 0.5
            inside = (rows + 0.5 > top) & (rows + 0.5 < top + share * height)
            inside = inside & (columns + 0.5 > left) & (columns + 0.5 < left + share * width)
            return Change(
                images=sampled(batch.images, down, across).clamp(0.0, 1.0),
                measured={"lesion_share": seen_share(batch, inside[:, None].float())},
                spacing_mm=share * in_plane_spacing_mm(batch),
                anatomy=sampled_mask(batch.anatomy, down, across),
                lesion=sampled_mask(batch.lesion, down, across),
            )

        return render
