"""Quantisation: the display range in ``2^bits`` grey levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_rad.defences.averaging import Average
from robustbench_rad.defences.straight_through import straight_through


def quantised(display: Tensor, bits: int) -> Tensor:
    """Round to the nearest of ``2^bits`` evenly spaced grey levels: ``round(x (2^b - 1)) / (2^b - 1)``.

    Args:
        display: Any shape, in [0, 1].
        bits: From 1 to 16.

    Reference: bit-depth reduction of feature squeezing, Xu, Evans and Qi 2018, arXiv:1704.01155.

    >>> import torch
    >>> quantised(torch.tensor([0.1, 0.4, 0.9]), 2)
    tensor([0.0000, 0.3333, 1.0000])
    """
    steps = float(2**bits - 1)
    return (display * steps).round() / steps


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Rounds forwards, passes straight through backwards.

    Attributes:
        bits: Grey levels are ``2^bits``.
    """

    version: ClassVar[int] = 1
    average: ClassVar[Average] = Average.PROBABILITIES
    bits: int

    def views(self, display: Tensor) -> Iterator[Tensor]:
        yield straight_through(display, quantised(display.detach(), self.bits))
