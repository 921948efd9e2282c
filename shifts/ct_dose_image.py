"""A lower CT dose in the image alone: the local strength and the spectrum of the noise, without its direction.

Faster than :mod:`robustbench_rad.shifts.ct_dose` where no gridding is wanted, and approximate: the standard deviation agrees
within some per cent, streaks between dense parts of the body and photon starvation are missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_rad.registry import register
from robustbench_rad.shifts._image_noise import unit_noise_in_image
from robustbench_rad.shifts.ct_dose import CtDose

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.shifts._ct_noise import Scan


@register(
    id="shift.ct.dose-image",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CT",),
    reference="Divel and Pelc 2020, IEEE Trans Med Imaging 39:1906",
    unit="of the dose",
)
@dataclass(frozen=True, kw_only=True)
class CtDoseImage(CtDose):
    """Noise of a lower tube current made in the image domain; options and measurements as for ``shift.ct.dose``."""

    def unit_noise(self, scan: Scan) -> tuple[Tensor, Tensor, list[float]]:
        """Noise at I₀ = 1 and σ_e = 1; no ray is starved, for no ray is made."""
        quantum, electronic = unit_noise_in_image(scan, (self.id, self.version))
        return quantum, electronic, [float("inf")] * len(scan.seeds)
