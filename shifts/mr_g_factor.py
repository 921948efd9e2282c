"""Noise of parallel imaging: amplified where the coils can hardly tell the folded places apart, mostly in the middle.

    σ(r) = σ₀ g(r),      g(r) = 1 + (g_SENSE(r) - 1) (g_max - 1) / (max g_SENSE - 1)

g_SENSE is that of a ring of coils, σ₀ the noise of the image. The noise that fewer lines cost everywhere is not part of it
(``shift.mr.snr``). The image's own noise is there already, so √(g² - 1) σ₀ is added, as Rician noise.

Reference:
    Pruessmann et al. 1999, SENSE: sensitivity encoding for fast MRI, Magn Reson Med 42:952.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.noise import noise_sd
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._mr_coils import g_factor
from robustbench_rad.shifts._mr_inputs import (
    PHASE_OPTIONS,
    MrShift,
    foreground,
    masked_variance,
    phase_axes,
    tissue_mean,
)
from robustbench_rad.shifts.mr_snr import noisy_magnitude

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_MOST_COILS = 64
_NEAR_PEAK = 0.9
_VARIES = 1e-3


@register(
    id="shift.mr.g-factor",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("MR",),
    reference="Pruessmann et al. 1999, SENSE, Magn Reson Med 42:952",
    unit="g",
)
@dataclass(frozen=True, kw_only=True)
class MrGFactor(MrShift):
    """Noise that varies over the image as after parallel imaging.

    A case whose noise cannot be read (or has none), or that is too small for a map of g, is not applicable. Measurements per
    level: ``g_max_requested``, ``g_max`` (noise where g - 1 is within a tenth of its largest, over the native noise, in the
    foreground; it reads lower by as much as g varies there), ``g_mean`` of the map, and ``native_noise_sd``.

    Attributes:
        levels: Largest g in the foreground, mildest first; 1 is the image itself.
        acceleration: R of the map.
        coils: Coils of the ring around the patient.
        reference_snr: Ratio of the foreground's mean to the noise of the source; 0 to read it from the image.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "g"
    neutral = 1.0
    lowest = 1.0
    highest = 20.0

    levels: tuple[Level, ...] = ladder("g", 1.2, 1.5, 2, 2.5, 3)
    acceleration: int = 3
    coils: int = 8
    reference_snr: float = 0.0
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)
        require_positive(self, ("reference_snr",), zero=True)
        if self.acceleration not in range(2, 9) or self.coils not in range(self.acceleration, _MOST_COILS + 1):
            raise ValueError(
                f"acceleration and coils: expected whole numbers, 2 to 8, and from the acceleration to {_MOST_COILS}, "
                f"got {self.acceleration!r} and {self.coils!r}"
            )

    def prepare(self, batch: Batch) -> Alter:
        """Make the maps, read the noise, and draw what the levels share."""
        inside, shape = foreground(batch.images), batch.images.shape[1:]
        own = tissue_mean(batch.images, inside) / self.reference_snr if self.reference_snr else noise_sd(batch.images)
        excess = torch.stack(self._maps(batch)).reshape(len(batch), *[1] * (len(shape) - 2), *shape[-2:]) - 1.0
        top = (excess * inside).flatten(1).amax(1)
        excess = (excess / per_case(top.clamp_min(_VARIES), excess)).expand(batch.images.shape)
        in_phase, quadrature = (
            seeds.normal(shape, batch.device, batch.seeds, self.id, self.version, name)
            for name in ("real", "imaginary")
        )

        def alter(largest: float) -> Change:
            g = 1.0 + (largest - 1.0) * excess
            added = per_case(own.nan_to_num(), g) * (g.square() - 1.0).clamp_min(0.0).sqrt()
            images = noisy_magnitude(batch.images, added, in_phase, quadrature.square())
            near = inside & (excess >= _NEAR_PEAK)
            measured = {
                "g_max_requested": torch.full_like(own, largest),
                "g_max": (1.0 + masked_variance(images - batch.images, near) / own.square()).sqrt(),
                "g_mean": (g * inside).flatten(1).sum(1) / inside.flatten(1).sum(1),
                "native_noise_sd": own,
            }
            return Change(
                images=images,
                measured=measured,
                applicable=(own > 0.0) & (top > _VARIES),
                reason="no noise to be read, or too small for a map of g",
            )

        return alter

    def _maps(self, batch: Batch) -> list[Tensor]:
        """G of SENSE ``(H, W)`` for every case; the ring of coils is turned by a draw."""
        turns = 2.0 * math.pi / self.coils * uniforms(batch, 1, self.id, self.version, "turn")[:, 0]
        shape = (batch.images.shape[-2], batch.images.shape[-1])
        axes = phase_axes(self.phase_encoding, batch)
        options = {"acceleration": self.acceleration, "coils": self.coils}
        return [g_factor(shape, axis, turn=turn, **options) for axis, turn in zip(axes, turns, strict=True)]
