"""Acoustic shadow in ultrasound: behind bone, gas, calcification or a lost contact, echoes are weaker by some dB.

    I' = I - A · w(x, z) / DR,      w = 1 behind the obstacle, falling to 0 over its sides

The obstacle's depth, place and width are drawn for each case; the beam runs down the rows, as of a linear transducer.

Reference:
    Feldman, Katyal and Blackwood 2009, US artifacts, 10.1148/rg.294085199.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._us_display import UsShift, depth, in_sector

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue

_TOP, _CENTRE, _HALF_WIDTH = (0.1, 0.45), (0.2, 0.8), (0.04, 0.12)  # of the image
_SIDE = 0.15  # of the half width: how soft the sides are
_HEAD = 0.01  # of the depth: how soft the beginning is


@register(
    id="shift.us.shadow",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("US",),
    reference="Feldman, Katyal and Blackwood 2009, 10.1148/rg.294085199",
    unit="dB",
)
@dataclass(frozen=True, kw_only=True)
class UsShadow(ContinuousLadder, UsShift):
    """A dark stripe from a depth to the bottom of the image.

    Emulated: the obstacle itself is not drawn, and the stripe does not widen as behind a curved transducer. Measurements per
    level: ``shadow_db_requested``, ``shadow_db`` (mean change in the core of the shadow, less where the display ends at
    black) and ``shadow_percent`` of the sector.

    Attributes:
        levels: Weakening in dB, mildest first; 0 is the image itself.
        dynamic_range_db: Range of echo amplitudes that the source shows from black to white.
    """

    unit = "dB"
    highest = 100.0

    levels: tuple[Level, ...] = ladder("dB", 3, 6, 10, 15, 20)

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw the obstacles."""
        weights = shadow(batch.images, uniforms(batch, 3, self.id, self.version, "obstacle"))
        core = (weights > 0.99).float()
        area = in_sector(core, batch.images)

        def alter(weakening_db: Value) -> Change:
            images = self.shown(
                self.decibel(batch.images) - per_case_factor(weakening_db, batch.images) * weights, batch.images
            )
            change = (batch.images - images) * self.dynamic_range_db
            measured = {
                "shadow_db_requested": filled(weakening_db, area),
                "shadow_db": in_sector(change * core, batch.images) / area,
                "shadow_percent": 100.0 * area,
            }
            return Change(
                images=images, measured=measured, applicable=area > 0.0, reason="no echoes behind the obstacle"
            )

        return alter


def shadow(images: Tensor, draws: Tensor) -> Tensor:
    """Weights ``(N, 1, H, W)`` of shadows from three draws in [0, 1) for each case: depth, place and width."""
    ranges = zip((_TOP, _CENTRE, _HALF_WIDTH), draws.T, strict=True)
    top, centre, half = (low + (high - low) * draw[:, None, None, None] for (low, high), draw in ranges)
    columns = images.shape[-1]
    across = (torch.arange(columns, device=images.device) + 0.5) / columns
    sides = torch.sigmoid((half - (across - centre).abs()) / (_SIDE * half / 4.0))
    return sides * torch.sigmoid((depth(images) - top) / (_HEAD / 4.0))
