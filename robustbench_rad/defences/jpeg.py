"""JPEG: encoded and decoded before the network looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_rad.defences.averaging import Average
from robustbench_rad.defences.jpeg_transform import decoded_jpeg
from robustbench_rad.defences.straight_through import straight_through


def through_jpeg(display: Tensor, quality: int) -> Tensor:
    """Display images as an 8-bit grey baseline JPEG shows them; a volume slice by slice.

    Args:
        display: ``(N, C, H, W)`` or ``(N, C, D, H, W)`` in [0, 1]; rounded to 256 grey levels first, as a file holds no more.
        quality: From 1 to 100.
    """
    grey = (display.clamp(0.0, 1.0) * 255.0).round().int()
    planes = decoded_jpeg(grey.flatten(0, -3), quality)
    return planes.reshape(display.shape).to(display.dtype) / 255.0


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """Encodes and decodes forwards, passes straight through backwards.

    Attributes:
        quality: From 1 to 100.

    Reference: Guo et al. 2018, arXiv:1711.00117; broken by passing through in Athalye et al. 2018, arXiv:1802.00420.
    """

    version: ClassVar[int] = 1
    average: ClassVar[Average] = Average.PROBABILITIES
    quality: int

    def views(self, display: Tensor) -> Iterator[Tensor]:
        yield straight_through(display, through_jpeg(display.detach(), self.quality))
