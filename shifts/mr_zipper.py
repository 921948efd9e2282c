"""A zipper in MR: radio interference of one frequency, a line of noise across the image along the phase-encoding axis.

Interference of one frequency lies at one place of the readout. It has another phase in every line of k-space, so that along the
phase-encoding axis it is complex Gaussian noise:

    I' = | I + A · n(y) · exp(-½ (x - x₀)² / s²) |,      E|n|² = 1

Reference:
    Graves and Mitchell 2013, Body MRI artifacts in clinical practice, 10.1002/jmri.24288.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, phase_axes, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_MIDDLE = (0.2, 0.8)  # of the readout: interference at the rim of the field of view harms nothing


@register(
    id="shift.mr.zipper",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Graves and Mitchell 2013, 10.1002/jmri.24288",
    unit="% of the tissue mean",
)
@dataclass(frozen=True, kw_only=True)
class MrZipper(MrShift):
    """A line of interference at a place of the readout that is drawn for each case; slices of a volume have it at one place.

    Measurements per level: ``zipper_percent_requested``, ``zipper_percent`` (root mean square of the interference in its line,
    over the tissue mean) and ``zipper_position``, the pixel of the readout.

    Attributes:
        levels: Root mean square of the interference in % of the tissue mean, mildest first; 0 is the image itself.
        width_px: Standard deviation s of its profile across the line.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "% of the tissue mean"
    highest = 1000.0

    levels: tuple[Level, ...] = ladder("% of the tissue mean", 2, 5, 10, 20, 40)
    width_px: float = 0.7
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)
        require_positive(self, ("width_px",))

    def prepare(self, batch: Batch) -> Alter:
        """Draw the place and the interference."""
        axes = phase_axes(self.phase_encoding, batch)
        draw = uniforms(batch, 1, self.id, self.version, "place")[:, 0]
        parts = [self._line(batch, *case) for case in zip(batch.images, axes, batch.seeds, draw, strict=True)]
        waves = torch.stack([wave for wave, _, _ in parts])
        positions = torch.stack([position for _, position, _ in parts])
        strength = torch.stack([rms for _, _, rms in parts])
        mean = tissue_mean(batch.images)

        def alter(percent: float) -> Change:
            measured = {
                "zipper_percent_requested": torch.full_like(mean, percent),
                "zipper_percent": percent * strength,
                "zipper_position": positions,
            }
            amplitude = per_case(percent / 100.0 * mean, batch.images)
            return Change(images=(batch.images + amplitude * waves).abs(), measured=measured)

        return alter

    def _line(self, batch: Batch, image: Tensor, axis: int, seed: int, draw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Complex interference in the shape of an image, its place, and its root mean square in the line."""
        lines, samples = image.shape[axis], image.shape[-3 - axis]
        slices = image.shape[1] if image.ndim == 4 else 1
        noise = seeds.normal((2, slices, lines), batch.device, [seed], self.id, self.version, "interference")[0]
        noise = torch.complex(noise[0], noise[1]) / math.sqrt(2.0)
        place = ((_MIDDLE[0] + (_MIDDLE[1] - _MIDDLE[0]) * draw) * (samples - 1)).round()
        offset = torch.arange(samples, device=image.device) - place
        profile = torch.exp(-0.5 * (offset / self.width_px).square())
        plane = noise[:, :, None] * profile if axis == -2 else noise[:, None, :] * profile[:, None]
        return plane.reshape(image.shape), place, noise.abs().square().mean().sqrt()
