"""Filtering of images that are continued by their mirror image, so that nothing wraps around and the mean is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Transfer = Callable[["Tensor", "Tensor"], "Tensor"]
"""Real, even transfer function of the row and column frequency (cycles per unit of the spacing), which broadcast."""


def mirrored(images: Tensor, spacing: Tensor, transfer: Transfer, *, reach: float | None = None) -> Tensor:
    """Multiply the spectrum of every image by a transfer function.

    Args:
        images: ``(N, 1, H, W)``.
        spacing: ``(N, 2)`` row and column spacing, in any unit.
        transfer: Of frequencies in cycles per that unit.
        reach: Distance in the spacing's unit over which the impulse response dies away; None to mirror the whole image,
            which keeps the mean exactly where the transfer function is 1 at zero frequency.

    Returns:
        ``(N, 1, H, W)``; differentiable.

    >>> ramp = torch.arange(12.0).reshape(1, 1, 3, 4)
    >>> smooth = mirrored(ramp, torch.ones(1, 2), lambda v, u: 1 / (1 + 9 * (v**2 + u**2)))
    >>> round(smooth.mean().item(), 5)
    5.5
    """
    # one case at a time: less memory, and a transform of several images at once rounds differently
    cases = zip(images, spacing, strict=True)
    return torch.stack([_mirrored_case(image, distance, transfer, reach) for image, distance in cases])


def _mirrored_case(image: Tensor, spacing: Tensor, transfer: Transfer, reach: float | None) -> Tensor:
    height, width = image.shape[-2:]
    steps = spacing.tolist()
    (rows, top), (columns, left) = (
        _folded(pixels, None if reach is None else int(reach / step) + 1, image.device)
        for pixels, step in zip((height, width), steps, strict=True)
    )
    wide = image[:, rows][:, :, columns]
    vertical = torch.fft.fftfreq(len(rows), steps[0], device=image.device)[:, None]
    horizontal = torch.fft.rfftfreq(len(columns), steps[1], device=image.device)
    changed: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(wide) * transfer(vertical, horizontal), s=(len(rows), len(columns))
    )
    return changed[:, top : top + height, left : left + width]


def _folded(pixels: int, margin: int | None, device: torch.device) -> tuple[Tensor, int]:
    """Index of every pixel of the continued axis, and where the image begins on it."""
    if margin is None or margin * 2 >= pixels:
        places, start = torch.arange(2 * pixels, device=device), 0
    else:
        places, start = torch.arange(-margin, pixels + margin, device=device) % (2 * pixels), margin
    return torch.where(places >= pixels, 2 * pixels - 1 - places, places), start
