"""Speckle of another ultrasound scanner: many scatterers in a resolution cell, whose echoes add with random phases.

    envelope = | PSF ∗ (a · z) |,      I' = 1 + 20 log₁₀(envelope) / DR

z is complex Gaussian, a the local echo strength, the PSF a Gaussian, wider across the beam than along it. The amplitude is
Rayleigh distributed: mean over standard deviation 1.91, and 5.57 dB standard deviation after log compression, whatever the
mean. The source's own speckle is taken away by an average in dB over a larger neighbourhood, whose mean level stays.

Reference:
    Wagner et al. 1983, Statistics of speckle in ultrasound B-scans, 10.1109/T-SU.1983.31404.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._us_display import UsShift, in_sector

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

LOG_SD_DB = 10.0 / math.log(10.0) * math.pi / math.sqrt(6.0)
"""5.57 dB: standard deviation of a log-compressed Rayleigh amplitude."""
_SIGMA_PER_FWHM = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
_EULER = 0.5772156649015329
_MEAN_BELOW_POWER_DB = 10.0 / math.log(10.0) * _EULER  # mean of the level of speckle below the level of its mean power
_MOST_LOOKS = 16


@register(
    id="shift.us.speckle",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("US",),
    reference="Wagner et al. 1983, 10.1109/T-SU.1983.31404",
    unit="px",
)
@dataclass(frozen=True, kw_only=True)
class UsSpeckle(UsShift):
    """Fully developed speckle of a resolution cell of another size.

    Emulated: structure finer than the neighbourhood goes with the old speckle, the cell does not widen with depth.
    Measurements per level: ``cell_px_requested``, and ``speckle_sd_db``, the standard deviation over the sector of the level
    around its local mean (5.57 dB where nothing is cut off at black and one look is taken).

    Attributes:
        levels: Full width at half maximum of the resolution cell along the beam in pixels, mildest first; 0 is the image.
        lateral_ratio: Width of the cell across the beam over that along it.
        looks: Independent images averaged (spatial compounding); contrast of the speckle falls by the root of it.
        neighbourhood_px: Full width at half maximum of the average that takes the source's speckle away.
        dynamic_range_db: Range of echo amplitudes that the source shows from black to white.
    """

    unit = "px"
    highest = 50.0

    levels: tuple[Level, ...] = ladder("px", 1, 2, 3, 4, 5)
    lateral_ratio: float = 2.0
    looks: int = 1
    neighbourhood_px: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("lateral_ratio",))
        require_positive(self, ("neighbourhood_px",), zero=True)
        if isinstance(self.looks, bool) or self.looks not in range(1, _MOST_LOOKS + 1):
            raise ValueError(f"looks: expected a whole number from 1 to {_MOST_LOOKS}, got {self.looks!r}")

    def prepare(self, batch: Batch) -> Alter:
        """Take the source's speckle away, and draw the scatterers that the levels share."""
        local_db = self.local_level_db(batch.images)
        strength = 10.0 ** ((local_db + _MEAN_BELOW_POWER_DB) / 20.0)
        shape = (self.looks, 2, *batch.images.shape[-2:])
        draws = seeds.normal(shape, batch.device, batch.seeds, self.id, self.version, "scatterers") / math.sqrt(2.0)
        inside = (batch.images > 0.0).flatten(1).any(1)

        def alter(cell_px: float) -> Change:
            echoes = blurred(strength[:, None] * draws, cell_px, self.lateral_ratio * cell_px, power=True)
            amplitude = torch.complex(echoes[:, :, 0], echoes[:, :, 1]).abs().mean(1, keepdim=True)
            level_db = 20.0 * amplitude.clamp_min(1e-12).log10()
            images = self.shown(level_db, batch.images)
            scatter = (self.decibel(images) - local_db).detach()
            mean = in_sector(scatter, batch.images)[:, None, None, None]
            deviation = in_sector((scatter - mean).square(), batch.images).sqrt()
            measured = {"cell_px_requested": torch.full_like(deviation, cell_px), "speckle_sd_db": deviation}
            return Change(images=images, measured=measured, applicable=inside, reason="black image")

        return alter

    def local_level_db(self, images: Tensor) -> Tensor:
        """Mean level around every pixel in dB, over the sector only."""
        inside = (images > 0.0).float()
        if self.neighbourhood_px == 0.0:
            return self.decibel(images)
        width = self.neighbourhood_px
        mean = blurred(images * inside, width, width) / blurred(inside, width, width).clamp_min(1e-6)
        return self.decibel(mean)


def blurred(images: Tensor, fwhm_rows: float, fwhm_columns: float, *, power: bool = False) -> Tensor:
    """Gaussian blur of ``(…, H, W)`` with nothing beyond the rim.

    Args:
        images: What is blurred.
        fwhm_rows: Full width at half maximum from row to row, in pixels.
        fwhm_columns: The same along a row.
        power: Keep the power of white noise, at the rim too, instead of the mean.
    """
    result = images
    for axis, fwhm in ((-2, fwhm_rows), (-1, fwhm_columns)):
        weights = _gaussian(fwhm, images.shape[axis], images)
        lines = result.movedim(axis, -1)
        flat = functional.conv1d(lines.reshape(-1, 1, lines.shape[-1]), weights[None, None], padding=len(weights) // 2)
        if power:
            ones = torch.ones_like(flat[:1])
            flat = flat * functional.conv1d(ones, weights.square()[None, None], padding=len(weights) // 2).rsqrt()
        result = flat.reshape(lines.shape).movedim(-1, axis)
    return result


def _gaussian(fwhm: float, count: int, like: Tensor) -> Tensor:
    sigma = fwhm * _SIGMA_PER_FWHM
    reach = min(max(1, math.ceil(4.0 * sigma)), count)
    offsets = torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()
