"""A spike in MR raw data: one wrong point of k-space, which lays stripes over the whole image.

One point of k-space is one plane wave, so it is added in the image, and then the magnitude is taken:

    I' = | I + A · exp(i (2π (u x / W + v y / H) + φ)) |

In tissue the stripes are ± A; in air the magnitude rises to A everywhere.

Reference:
    Graves and Mitchell 2013, Body MRI artifacts in clinical practice, 10.1002/jmri.24288.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._mr_inputs import MrShift, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_RADII = (0.1, 0.6)  # of the Nyquist frequency: stripes that are seen as stripes


@register(
    id="shift.mr.spike",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Graves and Mitchell 2013, 10.1002/jmri.24288",
    unit="% of the tissue mean",
)
@dataclass(frozen=True, kw_only=True)
class MrSpike(MrShift):
    """Stripes of one point of k-space, drawn for each case; in a volume every slice has them.

    Measurements per level: ``spike_percent_requested`` (exact), and ``spike_row_cycles`` and ``spike_column_cycles`` over
    the field of view.

    Attributes:
        levels: Amplitude in % of the tissue mean, mildest first; 0 is the image itself.
    """

    unit = "% of the tissue mean"
    highest = 1000.0

    levels: tuple[Level, ...] = ladder("% of the tissue mean", 2, 5, 10, 20, 40)

    def prepare(self, batch: Batch) -> Alter:
        """Draw the point of k-space and its phase."""
        cycles, phase = self.points(batch)
        wave = plane_wave(batch.images.shape[-2:], cycles, phase)
        wave = wave[:, None] if batch.images.ndim == 4 else wave[:, None, None]
        mean = tissue_mean(batch.images)

        def alter(percent: float) -> Change:
            amplitude = per_case(percent / 100.0 * mean, batch.images)
            measured = {
                "spike_percent_requested": torch.full_like(mean, percent),
                "spike_row_cycles": cycles[:, 0],
                "spike_column_cycles": cycles[:, 1],
            }
            return Change(
                images=(batch.images + amplitude * wave).abs(),
                measured=measured,
                applicable=cycles.abs().sum(1) > 0,
                reason="too small for stripes",
            )

        return alter

    def points(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Whole cycles over rows and columns ``(N, 2)``, and phases ``(N,)``."""
        draw = uniforms(batch, 3, self.id, self.version, "point")
        radius = _RADII[0] + (_RADII[1] - _RADII[0]) * draw[:, 0]
        angle = math.pi * draw[:, 1]
        height, width = batch.images.shape[-2:]
        cycles = [(radius * angle.sin() * height / 2.0).round(), (radius * angle.cos() * width / 2.0).round()]
        return torch.stack(cycles, 1), 2.0 * math.pi * draw[:, 2]


def plane_wave(shape: torch.Size | tuple[int, int], cycles: Tensor, phase: Tensor) -> Tensor:
    """Complex plane waves of unit amplitude ``(N, H, W)``.

    Args:
        shape: H and W.
        cycles: ``(N, 2)`` whole cycles over the rows and the columns.
        phase: ``(N,)`` in radians.
    """
    height, width = shape
    rows = torch.arange(height, device=cycles.device)[:, None] / height
    columns = torch.arange(width, device=cycles.device) / width
    turns = cycles[:, 0, None, None] * rows + cycles[:, 1, None, None] * columns
    angle = 2.0 * math.pi * turns + phase[:, None, None]
    return torch.polar(torch.ones_like(angle), angle)
