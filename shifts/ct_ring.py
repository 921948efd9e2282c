"""Rings: detector channels whose gain is off by a little, the same in every view.

A channel that reads 1 + ε times its signal is off by ``-ln(1 + ε)`` in all views, so its error reconstructs to a ring around
the centre of rotation. Over a full turn a ray is read by the channels on both sides, whose errors are averaged.

Reference:
    Sijbers and Postnov 2004, Reduction of ring artefacts in high resolution micro-CT, Phys Med Biol 49:N247.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.seeds import generator, normal
from robustbench_rad.shifts._ct_artefact import AlterCase, CtArtefact, ErrorScan
from robustbench_rad.shifts._ladder import ladder
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

_UNIT = "% of gain"
_CHANNEL_MM = 0.6


@register(
    id="shift.ct.ring",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Sijbers and Postnov 2004, Phys Med Biol 49:N247",
    unit="% of gain",
)
@dataclass(frozen=True, kw_only=True)
class CtRing(CtArtefact):
    """Rings of badly calibrated detector channels; each slice of a volume has its own detector row.

    Measured per level: ``gain_sd_percent_requested``, ``gain_sd_percent`` as drawn for channels of 0.6 mm, and
    ``ring_sd_hu`` over the body.

    Attributes:
        levels: Standard deviation of the gain over the channels, in percent; 0 is the image itself.
        defective_channels: Channels that are off by ``defect_percent`` on top of it at every level.
        defect_percent: Their gain error.
    """

    unit: ClassVar[str] = _UNIT
    highest: ClassVar[float] = 10.0

    levels: tuple[Level, ...] = ladder(_UNIT, 0.02, 0.05, 0.1, 0.2, 0.5)
    defective_channels: int = 0
    defect_percent: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("defective_channels",), zero=True)
        require_positive(self, ("defect_percent",))
        if not isinstance(self.defective_channels, int) or self.defect_percent >= 100.0:
            raise ValueError("defective_channels, defect_percent: expected a whole number, and less than 100 %")

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Draw the gains of the channels of every slice."""
        width = math.sqrt(_CHANNEL_MM / (scan.scan.geometry.pitch_px * scan.spacing_mm))
        draws = [self._draws(scan, number) for number in range(len(scan.parts))]

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            gains = [value / 100.0 * own + self.defect_percent / 100.0 * defect for own, defect in draws]
            change = scan.reconstructed([ring_error(gain * width, scan.scan.geometry.views) for gain in gains])
            drawn = 100.0 * float(torch.stack(gains).std())
            measured = {"gain_sd_percent_requested": value, "gain_sd_percent": drawn}
            return scan.with_error(change), {**measured, "ring_sd_hu": scan.sd_in_body(change)}

        return alter

    def _draws(self, scan: ErrorScan, number: int) -> tuple[Tensor, Tensor]:
        """Gain errors of a slice's channels in units of the level, and 1 at its defective channels."""
        part = scan.parts[number]
        channels = part.geometry.channels
        gains = normal((channels,), scan.hu.device, part.seeds, self.id, self.version, "gain")[0]
        order = torch.randperm(channels, generator=generator("cpu", part.seeds[0], self.id, self.version, "defect"))
        defect = torch.zeros(channels)
        defect[order[: self.defective_channels]] = 1.0
        return gains, defect.to(gains.device)


def ring_error(gain_error: Tensor, views: int) -> Tensor:
    """Projections ``(1, views, channels)`` of gain errors ``(channels,)``, the two sides of the detector averaged.

    >>> ring_error(torch.tensor([0.0, 0.02]), 1).mul(1000).round().flatten().tolist()
    [-10.0, -10.0]
    """
    error = -(1.0 + gain_error.clamp_min(-0.99)).log()
    return (0.5 * (error + error.flip(0))).expand(1, views, -1)
