"""A patient turned about the long axis: one side of the image is darker, and the midline lies to one side.

    E' = E · 10^(g (x - 1/2)),      x' = x + s · 4 x (1 - x),      0 ≤ x ≤ 1 across the field of view,

g the gradient in decades and s the shift of the midline, proportional to g; the borders stay. Exposure control keeps the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import exposed, same_mean
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._radiograph import ExposureShift
from robustbench_rad.shifts._resample import pixel_axes, sampled, sampled_mask

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "decades"


@register(
    id="shift.xr.patient-rotation",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="European Commission 1996, EUR 16260: quality criteria for diagnostic radiographic images",
    unit="decades",
)
@dataclass(frozen=True, kw_only=True)
class XrPatientRotation(ExposureShift):
    """Lateral exposure gradient and displaced midline of a turned patient.

    The side is drawn for each case. Measured per level: ``gradient_decades`` as achieved in the pixels that are not
    saturated, and ``midline_shift``, as a share of the width.

    Attributes:
        levels: Decades of exposure across the field of view; 0 is the image itself.
        midline_shift_per_decade: Shift of the midline as a share of the width, per decade.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a gradient in decades"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = ladder(_UNIT, "0.05", "0.1", "0.15", "0.2", "0.3")
    midline_shift_per_decade: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("midline_shift_per_decade",), zero=True)
        largest = max((level.value for level in self.levels), default=0.0) * self.midline_shift_per_decade
        if largest > 0.2:  # a quarter would fold the image
            raise ValueError(f"midline_shift_per_decade: expected a shift of at most 0.2 of the width, got {largest:g}")

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw the side of every case."""
        side = torch.where(self.uniform(batch, 1, "side")[:, 0] < 0.5, -1.0, 1.0)
        rows, columns = pixel_axes(batch.images)
        width = batch.images.shape[-1]
        place = (columns + 0.5) / width

        def render(level: Level) -> Change:
            shift = level.value * self.midline_shift_per_decade
            source = columns - side[:, None, None] * shift * width * 4.0 * place * (1.0 - place)
            turned = sampled(batch.images, rows, source).clamp(0.0, 1.0)
            before = self.curve.exposure(turned)
            slope = level.value * per_case(side, turned)
            graded = before * 10.0 ** (slope * (place[None] - 0.5))
            images = self.curve.changed(same_mean(graded, before, turned), before, turned)
            achieved = gradient_decades(self.curve.exposure(images), before, exposed(turned) & exposed(images))
            return Change(
                images=images,
                measured={"gradient_decades": achieved, "midline_shift": side * shift},
                anatomy=sampled_mask(batch.anatomy, rows, source),
                lesion=sampled_mask(batch.lesion, rows, source),
            )

        return render


def gradient_decades(exposure: Tensor, before: Tensor, where: Tensor) -> Tensor:
    """Least-squares slope ``(N,)`` of the log exposure ratio across the width, in decades; NaN without two columns."""
    decades = (exposure.detach().clamp_min(1e-12) / before.detach().clamp_min(1e-12)).log10()
    width = exposure.shape[-1]
    place = ((torch.arange(width, device=exposure.device) + 0.5) / width).expand_as(exposure)
    weight = where.to(exposure.dtype)
    count = weight.sum((1, 2, 3), keepdim=True)
    centred = place - (place * weight).sum((1, 2, 3), keepdim=True) / count
    return (weight * centred * decades).sum((1, 2, 3)) / (weight * centred**2).sum((1, 2, 3))
