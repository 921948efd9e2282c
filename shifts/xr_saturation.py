"""Overexposure: the detector saturates, and what received most radiation is burnt out.

The exposure is clipped at the percentile that leaves the asked share of the pixels above it. The display range then begins at
the clip, so that the burnt-out pixels are black, as automatic windowing makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import exposed
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._lesions import seen_share
from robustbench_rad.shifts._percentile import percentile
from robustbench_rad.shifts._radiograph import ExposureShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "% of the pixels"


@register(
    id="shift.xr.saturation",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Shepard et al. 2009, AAPM Report 116",
    unit="% of the pixels",
)
@dataclass(frozen=True, kw_only=True)
class XrSaturation(ExposureShift):
    """Burn-out of the regions that received most radiation.

    Pixels that are saturated in the source do not count and stay as they are. Measured per level: ``burnt_share`` of
    the others as achieved, and ``lesion_share``, how much of a known lesion is not burnt out.

    Attributes:
        levels: Burnt-out share of the pixels in %; 0 is the image itself.
        rescale: Whether the display range then begins at the clip; otherwise burnt-out pixels are an even grey.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a share of the pixels in %"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 60.0

    levels: tuple[Level, ...] = ladder(_UNIT, "1", "3", "6", "10", "15")
    rescale: bool = True

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Where the display ends is the same for all levels."""
        known = exposed(batch.images)
        count = known.sum((1, 2, 3))
        dark_is_much = self.display_curve == "log-linear"

        def render(level: Level) -> Change:
            share = level.value / 100.0
            # a clip of the exposure is a clip of the signal, because the curve is monotone
            clip = percentile(batch.images, share if dark_is_much else 1.0 - share, known).nan_to_num(0.5)
            clip = per_case(clip, batch.images)
            burnt = known & (batch.images <= clip if dark_is_much else batch.images >= clip)
            images = burnt_out(batch.images, clip, dark_is_much=dark_is_much, rescale=self.rescale)
            return Change(
                images=torch.where(known, images, batch.images),
                measured={
                    "burnt_share": burnt.sum((1, 2, 3)) / count,
                    "lesion_share": seen_share(batch, (~burnt).to(images.dtype)),
                },
                applicable=count > 0,
                reason="" if bool((count > 0).all()) else "all pixels are saturated",
            )

        return render


def burnt_out(signal: Tensor, clip: Tensor, *, dark_is_much: bool, rescale: bool) -> Tensor:
    """Signal of a detector that saturates at the exposure of ``clip``, which lies in (0, 1).

    >>> scale = torch.tensor([0.1, 0.2, 0.6, 1.0])
    >>> burnt_out(scale, torch.tensor(0.2), dark_is_much=True, rescale=True)
    tensor([0.0000, 0.0000, 0.5000, 1.0000])
    """
    if dark_is_much:
        clipped = torch.maximum(signal, clip)
        return (clipped - clip) / (1.0 - clip) if rescale else clipped
    clipped = torch.minimum(signal, clip)
    return clipped / clip if rescale else clipped
