"""Distortion of MR by a main field that is not uniform: places are displaced along the readout, signal piles up or thins out.

    Δ(r) = γ ΔB₀(r) / (bandwidth per pixel),      I'(x + Δ) = I(x) / |1 + dΔ/dx|

ΔB₀ is a smooth polynomial, drawn for each case. In echo-planar images the bandwidth is that of the phase-encoding axis.

References:
    Jezzard and Balaban 1995, Correction for geometric distortion in echo planar images from B0 field variations,
    10.1002/mrm.1910340111.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._displacement import displaced, jacobian
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_fields import polynomial_fields
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, foreground, phase_axes

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_ORDER = 3
_LEAST_WIDTH = 0.2  # of a pixel: below, signal would fold onto itself


@register(
    id="shift.mr.b0-distortion",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("MR",),
    reference="Jezzard and Balaban 1995, 10.1002/mrm.1910340111",
    unit="px",
)
@dataclass(frozen=True, kw_only=True)
class MrB0Distortion(MrShift):
    """Displacement along one axis of the image, with the intensities that go with it.

    Emulated: the field is a polynomial of third order, not that of air in tissue; masks are not moved. A case that is so small
    that places would overtake each other is not applicable. Measurements per level: ``displacement_max_px_requested``,
    ``displacement_max_px`` and ``displacement_rms_px`` in the foreground, and ``signal_kept`` (sum after over before).

    Attributes:
        levels: Largest displacement in the foreground in pixels, mildest first; 0 is the image itself.
        along: ``readout``, or ``phase`` as in echo-planar imaging.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "px"
    highest = 50.0

    levels: tuple[Level, ...] = ladder("px", 0.5, 1, 2, 3, 5)
    along: str = "readout"
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "along", ("readout", "phase"))
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)

    def prepare(self, batch: Batch) -> Alter:
        """Draw the field of every case."""
        axes = phase_axes(self.phase_encoding, batch)
        if self.along == "readout":
            axes = [-3 - axis for axis in axes]
        inside = foreground(batch.images)
        field = polynomial_fields(batch, _ORDER, self.id, self.version)
        largest = (field.abs() * inside).flatten(1).amax(1)
        field = field / per_case(largest.clamp_min(1e-6), field)
        before = batch.images.flatten(1).sum(1)

        def alter(pixels: float) -> Change:
            shifts = pixels * field
            moved = [displaced(*case) for case in zip(batch.images, shifts, axes, strict=True)]
            images = torch.stack(moved)
            narrow = torch.stack([_narrowest(shift, axis) for shift, axis in zip(shifts, axes, strict=True)])
            count = inside.flatten(1).sum(1)
            measured = {
                "displacement_max_px_requested": torch.full_like(before, pixels),
                "displacement_max_px": (shifts.abs() * inside).flatten(1).amax(1),
                "displacement_rms_px": ((shifts.square() * inside).flatten(1).sum(1) / count).sqrt(),
                "signal_kept": images.detach().flatten(1).sum(1) / before,
            }
            return Change(
                images=images,
                measured=measured,
                applicable=(narrow >= _LEAST_WIDTH) & (largest > 1e-6),
                reason="so small that places would overtake each other",
            )

        return alter


def _narrowest(shift_px: Tensor, axis: int) -> Tensor:
    widths = jacobian(shift_px, axis)
    return widths.amin() if widths.numel() else shift_px.new_ones(())
