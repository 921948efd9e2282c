"""k-space of magnitude images along the phase-encoding axis: lines, their weights, truncation, the way back.

Magnitude has lost its phase, so k-space of it is that of an image with none. Slices of a volume are encoded one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def line_numbers(count: int, device: torch.device) -> Tensor:
    """Number of every line of an FFT, 0 in the centre of k-space, ``(count,)`` int64.

    >>> line_numbers(5, torch.device("cpu")).tolist()
    [0, 1, 2, -2, -1]
    """
    numbers = torch.arange(count, device=device)
    return torch.where(numbers < (count + 1) // 2, numbers, numbers - count)


def along(weights: Tensor, axis: int) -> Tensor:
    """Shape ``(lines,)`` so that it broadcasts along ``axis`` (-2 or -1) of an image."""
    return weights[:, None] if axis == -2 else weights


def weighted_lines(image: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Multiply the lines of k-space along ``axis`` by ``weights`` ``(lines,)``, real or complex; a complex image."""
    lines: Tensor = torch.fft.fft(image, dim=axis) * along(weights, axis)
    result: Tensor = torch.fft.ifft(lines, dim=axis)
    return result


def half_width(count: int, share: float) -> int:
    """Highest line number h of the central share of ``count`` lines: 2 h + 1 lines, symmetric, at least one.

    >>> half_width(256, 0.75), half_width(5, 0.1)
    (96, 0)
    """
    return max(0, min(count // 2, round((count * share - 1.0) / 2.0)))


def central_lines(count: int, half: int, device: torch.device, *, hamming: bool = False) -> Tensor:
    """Weights ``(count,)`` of a k-space cut to the lines up to ``half``; optionally tapered by a Hamming window.

    >>> central_lines(5, 1, torch.device("cpu")).tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0]
    """
    distance = line_numbers(count, device).abs().to(torch.float32)
    taper = 0.54 + 0.46 * torch.cos(torch.pi * distance / (half + 0.5)) if hamming else torch.ones_like(distance)
    return (distance <= half) * taper


def outer_energy(image: Tensor, axis: int, half: int) -> Tensor:
    """Share of the energy of k-space beyond line ``half`` along ``axis``; 0 for an image of zeros."""
    energy = torch.fft.fft(image.detach(), dim=axis).abs().square()
    outer = along(line_numbers(image.shape[axis], image.device).abs() > half, axis)
    share: Tensor = (energy * outer).sum() / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
    return share
