"""Frequencies, parametric transfer functions and filtering of images by them.

Frequencies are in cycles per mm; images are real and filtered through their two-dimensional FFT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def radial_frequency_per_mm(shape: tuple[int, int], spacing_mm: Tensor) -> Tensor:
    """Radial frequency of every bin of a real FFT.

    Args:
        shape: Height and width H, W in pixels.
        spacing_mm: ``(N, 2)`` row and column spacing.

    Returns:
        ``(N, 1, H, W // 2 + 1)`` in cycles per mm.
    """
    height, width = shape
    rows = torch.fft.fftfreq(height, device=spacing_mm.device)[:, None] / spacing_mm[:, 0, None, None]
    columns = torch.fft.rfftfreq(width, device=spacing_mm.device) / spacing_mm[:, 1, None, None]
    return torch.hypot(rows, columns)[:, None]


def filtered(images: Tensor, transfer: Tensor) -> Tensor:
    """Multiply the spectrum of ``(…, H, W)`` images by a real transfer function ``(…, H, W // 2 + 1)``."""
    result: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * transfer, s=images.shape[-2:])
    return result


def mean_power(transfer: Tensor, shape: Sequence[int]) -> Tensor:
    """Share ``(N,)`` of white noise power that a transfer function ``(N, 1, H, W // 2 + 1)`` keeps (Parseval)."""
    response: Tensor = torch.fft.irfft2(transfer, s=tuple(shape))
    return response.square().sum((1, 2, 3))


def lorentzian_mtf(frequency_per_mm: Tensor, *, f50_per_mm: float | Tensor) -> Tensor:
    """Transfer function of a scintillator, ``MTF(f) = 1 / (1 + (f / f50)²)``.

    >>> lorentzian_mtf(torch.tensor([0.0, 1.29]), f50_per_mm=1.29).tolist()
    [1.0, 0.5]
    """
    return 1.0 / (1.0 + (frequency_per_mm / f50_per_mm) ** 2)


def stretched_exponential_mtf(frequency_per_mm: Tensor, f50_per_mm: Tensor | float, shape: Tensor | float) -> Tensor:
    """Transfer function of a reconstruction kernel, ``MTF(f) = exp(-ln 2 · (f / f50)ⁿ)``.

    >>> stretched_exponential_mtf(torch.tensor([0.0, 0.34, 0.60]), 0.34, stretch(0.34, 0.60))
    tensor([1.0000, 0.5000, 0.1000])
    """
    exponent: Tensor = (frequency_per_mm / f50_per_mm) ** shape
    return torch.exp(-math.log(2.0) * exponent)


def stretch(f50_per_mm: float, f10_per_mm: float) -> float:
    """Exponent n of the stretched exponential that passes 0.5 at f50 and 0.1 at f10.

    >>> round(stretch(0.34, 0.60), 3)
    2.114
    """
    return math.log(math.log(10.0) / math.log(2.0)) / math.log(f10_per_mm / f50_per_mm)
