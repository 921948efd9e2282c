"""The noise an image already has, read from the image itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

NORMAL_MAD = 0.6744897501960817  # median of |z| of a standard normal z
FOREGROUND_SHARE = 0.1  # of the 99.5th percentile: brighter is patient, darker is air
FEWEST = 64  # places
ROUNDING = 1e-5  # of the bright end: coefficients that differ by less are one step of grey levels


def noise_sd(images: Tensor) -> Tensor:
    """Standard deviation ``(N,)`` of the noise of images ``(N, 1, ...)`` in their own unit; NaN where nothing can be read.

    The finest diagonal Haar coefficients ``(a - b - c + d) / 2`` of 2 x 2 blocks hold hardly any anatomy, and have the
    standard deviation of white noise: ``median |coefficient| / 0.6745`` over the blocks that lie in the foreground. Volumes
    are read slice by slice and pooled. Noise that was smoothed (a soft kernel, resizing) is correlated and reads low;
    blocks that are all at the edge of the range (clipped) do not count. 0: the foreground is flat.

    Source:
        Donoho and Johnstone 1994, Ideal spatial adaptation by wavelet shrinkage, doi:10.1093/biomet/81.3.425.

    >>> noisy = 0.5 + 0.02 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    >>> round(noise_sd(noisy).item(), 3)
    0.02
    """
    return torch.stack([_noise_sd(image) for image in images]) if len(images) else images.new_empty(0)


def _noise_sd(image: Tensor) -> Tensor:
    planes = image.detach().double().reshape(-1, *image.shape[-2:])
    planes = planes[:, : planes.shape[1] // 2 * 2, : planes.shape[2] // 2 * 2]
    a, b, c, d = (planes[:, row::2, column::2] for row in (0, 1) for column in (0, 1))
    if not a.numel():
        return image.new_tensor(float("nan"))
    corners = torch.stack([a, b, c, d])
    bright = planes.flatten().sort().values[round(0.995 * (planes.numel() - 1))]
    low, high = planes.min(), planes.max()
    clipped = ((corners == low) | (corners == high)).all(0)
    inside = (corners.mean(0) > FOREGROUND_SHARE * bright) & ~clipped
    coefficients = ((a - b - c + d) / 2)[inside].abs()
    if len(coefficients) < FEWEST:
        return image.new_tensor(float("nan"))
    return (_median(coefficients, same=ROUNDING * bright.abs()) / NORMAL_MAD).to(image.dtype)


def _median(values: Tensor, same: Tensor) -> Tensor:
    """Median of values not below 0; of grey levels, which come in steps, interpolated within the step it falls on."""
    middle = values.median()
    smaller, larger = values[values < middle - same], values[values > middle + same]
    equal = len(values) - len(smaller) - len(larger)
    if equal in (1, len(values)):
        return middle
    low = (middle + smaller.max()) / 2 if len(smaller) else middle
    high = (middle + larger.min()) / 2 if len(larger) else middle
    return low + (len(values) / 2 - len(smaller)) / equal * (high - low)
