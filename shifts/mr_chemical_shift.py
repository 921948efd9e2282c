"""Chemical shift of MR: fat precesses 3.5 ppm slower than water and is shown some pixels beside its place.

    I'(x) = W(x) + F(x - Δ),      Δ = 3.5 ppm · γ B₀ / (2π · bandwidth per pixel)

along the readout: a dark band on one side of a boundary of fat, a bright one on the other. The sum of the signal stays.

Reference:
    Hood et al. 1999, Chemical shift: the artifact and clinical tool revisited, 10.1148/radiographics.19.2.g99mr07357.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._displacement import displaced
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._mr_fat import fat_share, skin_layers
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, phase_axes

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_FEWEST_PIXELS = 16.0


@register(
    id="shift.mr.chemical-shift",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MR",),
    reference="Hood et al. 1999, 10.1148/radiographics.19.2.g99mr07357",
    unit="px",
)
@dataclass(frozen=True, kw_only=True)
class MrChemicalShift(MrShift):
    """Fat displaced along the readout, to the side that a draw chooses.

    Approximate: fat is what is bright in the outer layer of the body, so only images without fat suppression show a change; a
    case without such fat, or of unknown spacing, is not applicable. Measurements per level: ``displacement_px`` (exact) and
    ``fat_percent`` of the signal.

    Attributes:
        levels: Displacement in pixels, mildest first; 0 is the image itself.
        depth_mm: How deep the fat under the skin may reach.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``; fat moves along the other axis.
    """

    unit = "px"
    highest = 50.0

    levels: tuple[Level, ...] = ladder("px", 0.5, 1, 2, 3, 5)
    depth_mm: float = 8.0
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)
        require_positive(self, ("depth_mm",))

    def prepare(self, batch: Batch) -> Alter:
        """Find the fat, and draw the side it moves to."""
        axes = [-3 - axis for axis in phase_axes(self.phase_encoding, batch)]
        layers, known = skin_layers(batch, self.depth_mm)
        share = fat_share(batch.images, layers)
        fat, water = batch.images * share, batch.images * (1.0 - share)
        sides = torch.where(uniforms(batch, 1, self.id, self.version, "side")[:, 0] < 0.5, -1.0, 1.0)
        total = batch.images.detach().flatten(1).sum(1)
        percent = 100.0 * fat.detach().flatten(1).sum(1) / total
        enough = share.flatten(1).sum(1) >= _FEWEST_PIXELS

        def alter(pixels: float) -> Change:
            moved = [
                displaced(part, torch.full_like(part, pixels) * side, axis)
                for part, side, axis in zip(fat, sides, axes, strict=True)
            ]
            return Change(
                images=water + torch.stack(moved),
                measured={"displacement_px": torch.full_like(total, pixels), "fat_percent": percent},
                applicable=known & enough,
                reason="pixel spacing unknown, or no bright fat under the skin",
            )

        return alter
