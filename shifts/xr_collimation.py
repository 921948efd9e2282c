"""A narrower collimation: blades or electronic shutters over the border, and the display range set anew inside.

The open field is a rectangle of ``1 - 2 b`` of the height and width, turned by a few degrees, with a penumbra. Outside lies the
shutter. The console then stretches what is left: the 1st and 99th percentile of the open field take the places that those of
the whole field had.
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
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._percentile import percentile
from robustbench_rad.shifts._radiograph import RadiographShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "% per side"
_LOW, _HIGH = 0.01, 0.99
_LEAST_RANGE = 0.05  # a field that is nearly flat is not stretched


@register(
    id="shift.xr.collimation",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="DICOM PS3.3 C.7.6.11 display shutter, C.8.7.3 X-ray collimator",
    unit="% per side",
)
@dataclass(frozen=True, kw_only=True)
class XrCollimation(RadiographShift):
    """Shutters over the border of the image.

    The same turn of the field serves all levels of a case. Measured per level: ``open_share`` of the image, and
    ``lesion_share``, how much of a known lesion is still in the open field.

    Attributes:
        levels: Border in % of the height and width, on each side; 0 is the image itself.
        largest_turn_deg: The field is turned by up to this many degrees either way, drawn for each case.
        penumbra: Width of the edge as a share of the shorter side.
        shutter_value: Signal outside: 0 for black shutters, 1 for the white of unexposed film.
        rescale: Whether the console stretches what is left.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a border in % per side"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 45.0

    levels: tuple[Level, ...] = ladder(_UNIT, "2", "5", "8", "12", "18")
    largest_turn_deg: float = 3.0
    penumbra: float = 0.005
    shutter_value: float = 0.0
    rescale: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("largest_turn_deg", "penumbra", "shutter_value"), zero=True)
        if self.largest_turn_deg > 45.0 or self.shutter_value > 1.0:
            raise ValueError(
                "largest_turn_deg and shutter_value: expected at most 45 and 1, "
                f"got {self.largest_turn_deg} and {self.shutter_value}"
            )

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw the turn of every field."""
        turns = torch.deg2rad((2.0 * self.uniform(batch, 1, "turn")[:, 0] - 1.0) * self.largest_turn_deg)

        whole = _display_range(batch.images, torch.ones_like(batch.images, dtype=torch.bool))

        def render(level: Level) -> Change:
            opening = open_field(batch.images, turns, level.value / 100.0, self.penumbra)
            inside = _stretched(batch.images, opening > 0.5, whole) if self.rescale else batch.images
            images = self.shutter_value + opening * (inside - self.shutter_value)
            return Change(
                images=images,
                measured={"open_share": opening.mean((1, 2, 3)), "lesion_share": seen_share(batch, opening)},
            )

        return render


def open_field(images: Tensor, turns_rad: Tensor, border: float, penumbra: float) -> Tensor:
    """Openness ``(N, 1, H, W)`` in [0, 1] of a turned rectangle.

    Args:
        images: ``(N, 1, H, W)``, for their shape.
        turns_rad: ``(N,)``.
        border: Share of the height and width that is covered on each side.
        penumbra: Width of the edge as a share of the shorter side; at least one pixel.
    """
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) + 0.5 - height / 2)[:, None]
    columns = torch.arange(width, device=images.device) + 0.5 - width / 2
    cosine, sine = per_case(turns_rad.cos(), images), per_case(turns_rad.sin(), images)
    down, across = rows * cosine - columns * sine, rows * sine + columns * cosine
    inward = torch.minimum(
        height * (0.5 - border) - down.abs(),
        width * (0.5 - border) - across.abs(),
    )
    return (0.5 + inward / max(1.0, penumbra * min(height, width))).clamp(0.0, 1.0)


def _display_range(signal: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Percentiles ``(N,)`` that automatic windowing goes by; saturated pixels do not count."""
    known = exposed(signal) & where
    return percentile(signal, _LOW, known), percentile(signal, _HIGH, known)


def _stretched(signal: Tensor, inside: Tensor, whole: tuple[Tensor, Tensor]) -> Tensor:
    """Give the percentiles of the open field the places of those of the whole; saturated pixels stay as they are."""
    (low, high), (new_low, new_high) = whole, _display_range(signal, inside)
    usable = new_high - new_low >= _LEAST_RANGE  # False for NaN
    gain = torch.where(usable, (high - low) / (new_high - new_low), 1.0)
    offset = torch.where(usable, low - gain * new_low, 0.0)
    stretched = (per_case(gain, signal) * signal + per_case(offset, signal)).clamp(0.0, 1.0)
    return torch.where(exposed(signal), stretched, signal)
