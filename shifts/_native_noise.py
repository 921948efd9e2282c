"""Global noise level: the noise of an image read from its soft tissue, without a phantom.

The standard deviation is taken in small windows whose mean is that of soft tissue. Edges and vessels form the tail of the
histogram of these values, homogeneous tissue its mode; the noise is read in the windows near the mode. Noise made for the
image is read in the same windows, so that the two can be compared wherever the noise varies over the body.

Reference:
    Christianson et al. 2015, Automated technique to measure noise in clinical CT examinations, 10.2214/AJR.14.13613.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

SOFT_TISSUE_HU = (0.0, 170.0)
_WINDOW_MM = 6.0
_FEWEST_WINDOWS = 200
_HOMOGENEOUS = 0.3  # relative distance from the mode: twice the scatter of the deviation in one window
_BINS = 150


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseProbe:
    """Windows in which the noise of one case is read, for the image and for noise added to it alike.

    Attributes:
        side: Side of a window in pixels; they stand a third of it apart.
        chosen: Which of the windows count, ``(D, rows, columns)`` boolean.
        soft_tissue: Whether these are windows of homogeneous soft tissue; where there are too few, all count.
    """

    side: int
    chosen: Tensor
    soft_tissue: bool

    @classmethod
    def placed(cls, slices_hu: Tensor, spacing_mm: float) -> Self:
        """Choose the homogeneous windows of soft tissue in ``(D, H, W)``."""
        side = window_px(spacing_mm)
        mean, deviation = _moments(slices_hu, side)
        soft = (mean >= SOFT_TISSUE_HU[0]) & (mean <= SOFT_TISSUE_HU[1])
        mode = _mode(deviation[soft])
        homogeneous = soft & ((deviation - mode).abs() <= _HOMOGENEOUS * mode)
        enough = int(homogeneous.sum()) >= _FEWEST_WINDOWS
        return cls(side=side, chosen=homogeneous if enough else torch.ones_like(soft), soft_tissue=enough)

    def level(self, slices: Tensor) -> float:
        """Root mean square of the standard deviations in the windows of ``(D, H, W)``; NaN where no window fits."""
        return float(self.deviations(slices).square().mean().sqrt())

    def deviations(self, slices: Tensor) -> Tensor:
        """Standard deviation in each of the windows of ``(D, H, W)``."""
        _, deviation = _moments(slices, self.side)
        return deviation[self.chosen]


def window_px(spacing_mm: float) -> int:
    """Side of a window: odd, about 6 mm, at least 5 pixels.

    >>> window_px(0.7), window_px(3.0)
    (9, 5)
    """
    return max(5, 2 * int(_WINDOW_MM / spacing_mm / 2.0) + 1)


def _moments(slices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in every window; empty when the slice is smaller than a window."""
    if min(slices.shape[-2:]) < side:
        return slices[:, :0, :0], slices[:, :0, :0]
    values = slices.detach()[:, None]
    mean, square = _means(values, side), _means(values.square(), side)
    unbiased = side**2 / (side**2 - 1)
    return mean, ((square - mean.square()).clamp_min(0.0) * unbiased).sqrt()


def _means(values: Tensor, side: int) -> Tensor:
    """Means ``(D, rows, columns)`` of ``(D, 1, H, W)`` in windows a third of their side apart."""
    stride = side // 3
    if side % 3 == 0:  # of nine blocks each, which neighbours share
        return functional.avg_pool2d(functional.avg_pool2d(values, stride), 3, stride=1)[:, 0]
    return functional.avg_pool2d(values, side, stride=stride)[:, 0]


def _mode(values: Tensor) -> float:
    """Mode of values not below 0: the peak of a smoothed histogram up to three medians."""
    if values.numel() == 0:
        return float("nan")
    top = 3.0 * float(values.median())
    if top <= 0.0:
        return 0.0
    histogram = torch.histc(values[values < top].float(), bins=_BINS, min=0.0, max=top)
    offsets = torch.arange(-9, 10, device=values.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / 3.0) ** 2)
    smooth = functional.conv1d(histogram[None, None], kernel[None, None], padding=9)[0, 0]
    return (int(smooth.argmax()) + 0.5) / _BINS * top
