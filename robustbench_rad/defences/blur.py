"""Gaussian blur in the image plane; its gradient is exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from robustbench_rad.defences.averaging import Average

SD_PER_FWHM = 1.0 / math.sqrt(8.0 * math.log(2.0))
REACH_SD = 4.0  # the kernel ends here; what is cut off is below 1e-4


def blurred(display: Tensor, fwhm_px: float) -> Tensor:
    """Convolve the last two axes with a Gaussian of unit sum; the edge is repeated outwards.

    It is written as a sum of shifted images in a fixed order: a convolution may choose another order of summation for another
    size of the batch, and a rounding after it would make a whole grey level of the last bit.

    Args:
        display: ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
        fwhm_px: Full width at half maximum, in pixels of the model's input.

    >>> import torch
    >>> spike = torch.zeros(1, 1, 1, 5); spike[..., 2] = 1.0
    >>> wide = blurred(spike, 2.0)[0, 0, 0]
    >>> round(float(wide[3] / wide[2]), 3)
    0.5
    """
    weights = _weights(fwhm_px)
    planes = display.flatten(0, -3)[:, None]
    return _along(_along(planes, weights, 2), weights, 3).reshape(display.shape)


def _weights(fwhm_px: float) -> list[float]:
    sd = fwhm_px * SD_PER_FWHM
    reach = max(1, math.ceil(REACH_SD * sd))
    bell = [math.exp(-0.5 * (offset / sd) ** 2) for offset in range(-reach, reach + 1)]
    return [value / sum(bell) for value in bell]


def _along(planes: Tensor, weights: list[float], axis: int) -> Tensor:
    reach, length = len(weights) // 2, planes.shape[axis]
    padded = functional.pad(planes, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach), mode="replicate")
    total = padded.narrow(axis, 0, length) * weights[0]
    for offset, weight in enumerate(weights[1:], start=1):
        total = total + padded.narrow(axis, offset, length) * weight
    return total


@dataclass(frozen=True, kw_only=True)
class Blur:
    """Blurs in the image plane.

    Attributes:
        fwhm_px: Full width at half maximum, in pixels of the model's input.
    """

    version: ClassVar[int] = 1
    average: ClassVar[Average] = Average.PROBABILITIES
    fwhm_px: float

    def views(self, display: Tensor) -> Iterator[Tensor]:
        yield blurred(display, self.fwhm_px)
