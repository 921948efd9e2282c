"""B-mode ultrasound as it is shown: log-compressed echo amplitude, 0 dB at 1 and minus the dynamic range at 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._inputs import require_physical, require_signal_range
from robustbench_rad.shifts._ladder import LadderShift
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@dataclass(frozen=True, kw_only=True)
class UsShift(LadderShift):
    """Base of the ultrasound shifts: log-compressed images ``(N, 1, H, W)`` in [0, 1], the transducer at the top.

    Pixels that are exactly 0 lie outside the sector or below the display, and stay. What the display cannot show ends at 0
    and 1, as on the scanner.

    Attributes:
        dynamic_range_db: Range of echo amplitudes that the source shows from black to white.
    """

    dynamic_range_db: float = 60.0

    def __post_init__(self) -> None:
        require_positive(self, ("dynamic_range_db",))

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not a grey image in [0, 1]."""
        require_physical(batch, shift=self.id, unit=Unit.SIGNAL, ndim=(4,))
        require_signal_range(batch, shift=self.id)

    def decibel(self, signal: Tensor) -> Tensor:
        """Echo level in dB, 0 for white."""
        return (signal - 1.0) * self.dynamic_range_db

    def shown(self, decibel: Tensor, source: Tensor) -> Tensor:
        """Image of an echo level; black pixels of the source stay black."""
        signal = (1.0 + decibel / self.dynamic_range_db).clamp(0.0, 1.0)
        return torch.where(source > 0.0, signal, source)


def depth(images: Tensor) -> Tensor:
    """Depth ``(H, 1)`` from 0 at the transducer to 1."""
    rows = images.shape[-2]
    return ((torch.arange(rows, device=images.device) + 0.5) / rows)[:, None]


def in_sector(values: Tensor, images: Tensor) -> Tensor:
    """Mean ``(N,)`` of ``values`` over the pixels of the sector; NaN for a black image."""
    inside = (images > 0.0).flatten(1)
    return (values.detach().expand_as(images).flatten(1) * inside).sum(1) / inside.sum(1)


def saturated_percent(images: Tensor, source: Tensor) -> Tensor:
    """Share ``(N,)`` of the sector in % that is black or white and was not."""
    ends = ((images <= 0.0) | (images >= 1.0)) & (source > 0.0) & (source < 1.0)
    return 100.0 * in_sector(ends.float(), source)
