"""Filtered backprojection by gridding: the central-slice theorem with a Kaiser-Bessel kernel.

Each filtered view is a line through the origin of the two-dimensional spectrum. The lines are gridded on a twofold
oversampled Cartesian spectrum, transformed, and divided by the transform of the gridding kernel. The cost is some 40
times below that of interpolating backprojection, and the noise power is not altered by an interpolation:

    NPS(f) = (π / views) · σ² · pitch · f · A(f)²      for white noise of variance σ² on the rays and apodisation A.

Only half of the spectrum is filled, because views of a real object are Hermitian.

References:
    O'Sullivan 1985, A fast sinc function gridding algorithm for Fourier inversion, 10.1109/TMI.1985.4307723.
    Kijewski and Judy 1987, The noise power spectrum of CT images, 10.1088/0031-9155/32/5/003.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import i0

from robustbench_rad.shifts._gather import Gather

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from robustbench_rad.shifts.ct_projector import ScanGeometry

_WIDTH = 4  # support of the Kaiser-Bessel kernel in grid cells
_BETA = math.pi * math.sqrt((_WIDTH / 2.0) ** 2 * 1.5**2 - 0.8)  # Beatty et al. 2005, twofold oversampling


def frequencies_per_px(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Frequencies of a transformed view from 0 to its Nyquist frequency, cycles per pixel."""
    return np.arange(_samples(geometry) // 2 + 1, dtype=np.float64) / (_samples(geometry) * geometry.pitch_px)


def filtered_backprojection(sinogram: Tensor, geometry: ScanGeometry, apodisation: Tensor | None = None) -> Tensor:
    """Reconstruct a sinogram; linear and differentiable.

    Args:
        sinogram: ``(B, views, channels)`` line integrals with lengths in pixels.
        geometry: The sampling.
        apodisation: ``(B or 1, F)`` factor A on the ramp at :func:`frequencies_per_px`; None for the bare ramp.

    Returns:
        ``(B, pixels, pixels)`` attenuation per pixel length.
    """
    gridder = _gridder(geometry, sinogram.device)
    spectrum = torch.fft.rfft(sinogram, n=_samples(geometry))
    if apodisation is not None:
        spectrum = spectrum * apodisation[:, None, :]
    return _image(gridder, spectrum * gridder.filter, geometry)


def _samples(geometry: ScanGeometry) -> int:
    """Length of a padded view: a power of two that holds the view, and the ramp's tail across the image."""
    return int(2 ** math.ceil(math.log2(max(geometry.channels, 1.5 * geometry.pixels / geometry.pitch_px))))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gridder:
    """What one geometry needs.

    Attributes:
        filter: ``(views, F)`` complex: ramp, scale, and the phases of detector and pixel centre.
        gather: From ``(view, frequency)`` to rows of the upper half of the oversampled spectrum.
        deapodisation: ``(pixels, pixels)``.
    """

    filter: Tensor
    gather: Gather
    deapodisation: Tensor


@lru_cache(maxsize=4)
def _gridder(geometry: ScanGeometry, device: torch.device) -> _Gridder:
    deapodisation = _deapodisation(geometry)
    return _Gridder(
        filter=torch.from_numpy(_filter(geometry)).to(device),
        gather=_gather(geometry).to(device),
        deapodisation=torch.from_numpy(np.outer(deapodisation, deapodisation).astype(np.float32)).to(device),
    )


def _image(gridder: _Gridder, spectrum: Tensor, geometry: ScanGeometry) -> Tensor:
    """Grid lines of the spectrum ``(B, views, F)`` and transform them to ``(B, pixels, pixels)``."""
    batch, grid, half = spectrum.shape[0], 2 * geometry.pixels, geometry.pixels // 2
    values = torch.view_as_real(spectrum).permute(1, 2, 0, 3).reshape(-1, 2 * batch).contiguous()
    rows = gridder.gather(values).reshape(-1, grid, batch, 2).permute(2, 0, 1, 3).contiguous()
    lines = _centred(torch.fft.ifft(torch.view_as_complex(rows), norm="forward"), half, dim=2)
    image = torch.fft.irfft(_folded(lines, grid), n=grid, dim=1, norm="forward")
    return _centred(image, half, dim=1) * gridder.deapodisation


def _folded(lines: Tensor, grid: int) -> Tensor:
    """Bring rows -2 … grid/2 + 2 of the spectrum to the rows 0 … grid/2 that a real transform expects.

    The image is the real part of the sum over the rows, and a row at -k has the real part of the conjugate at k. A real
    transform counts the inner rows twice, so the others are doubled and all are halved.
    """
    margin, top = _WIDTH // 2, grid // 2
    inner = lines[:, margin : margin + top + 1] * 0.5
    below = lines[:, :margin].conj().flip(1) * 0.5
    above = lines[:, margin + top + 1 :].conj().flip(1) * 0.5
    zeros = inner.new_zeros(inner.shape[0], top - 1 - 2 * margin, inner.shape[2])
    edge = zeros.new_zeros(inner.shape[0], 1, inner.shape[2])
    inner = inner + torch.cat([edge, below, zeros, above, edge], dim=1)
    return torch.cat([inner[:, :1] * 2.0, inner[:, 1:-1], inner[:, -1:] * 2.0], dim=1)


def _centred(values: Tensor, half: int, *, dim: int) -> Tensor:
    """The ``2 · half`` samples around the origin of a transform, in spatial order."""
    return torch.cat([values.narrow(dim, values.shape[dim] - half, half), values.narrow(dim, 0, half)], dim=dim)


def _filter(geometry: ScanGeometry) -> NDArray[np.complex64]:
    """Ramp, scale and phases.

    The ramp is the transform of the band-limited ramp sampled in space, ``h[0] = 1 / 4p²``, ``h[odd] = -1 / (πkp)²``; the
    analytic |f| would shift water by some 30 HU. The bin at zero belongs to both halves and is halved.
    """
    samples, pitch = _samples(geometry), geometry.pitch_px
    index = np.minimum(np.arange(samples), samples - np.arange(samples))
    kernel = np.zeros(samples)
    kernel[0] = 0.25 / pitch**2
    odd = index % 2 == 1
    kernel[odd] = -1.0 / (math.pi * index[odd] * pitch) ** 2
    ramp = np.fft.rfft(kernel).real * pitch
    ramp[0] *= 0.5
    frequency, angle = frequencies_per_px(geometry), geometry.angles[:, None]
    # detector samples start at -(channels - 1) / 2 · pitch, pixel centres lie half a pixel beside the grid's origin
    phase = (geometry.channels - 1) / 2 * pitch + 0.5 * (np.cos(angle) + np.sin(angle))
    scale = 2.0 * (math.pi / geometry.views) / samples
    result: NDArray[np.complex64] = (scale * ramp * np.exp(2j * math.pi * frequency * phase)).astype(np.complex64)
    return result


def _gather(geometry: ScanGeometry) -> Gather:
    """Kaiser-Bessel weights from polar samples to rows -2 … grid/2 + 2 of the oversampled spectrum."""
    grid, margin = 2 * geometry.pixels, _WIDTH // 2
    frequency, angle = frequencies_per_px(geometry)[None, :], geometry.angles[:, None]
    x, y = frequency * np.cos(angle) * grid, frequency * np.sin(angle) * grid
    # beyond the pixel's own Nyquist frequency there is nothing that the image could show
    samples = np.flatnonzero((np.abs(x) < grid / 2) & (np.abs(y) < grid / 2))
    x, y = x.reshape(-1)[samples], y.reshape(-1)[samples]
    rows, weights = [], []
    for row, row_weight in _neighbours(y):
        for column, column_weight in _neighbours(x):
            rows.append((row + margin) * grid + np.mod(column, grid))
            weights.append((row_weight * column_weight).astype(np.float32))
    columns = np.tile(samples.astype(np.int32), _WIDTH**2)
    shape = ((grid // 2 + 1 + 2 * margin) * grid, geometry.views * frequency.size)
    return Gather.from_entries(np.concatenate(rows).astype(np.int32), columns, np.concatenate(weights), shape)


def _neighbours(position: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Grid cells within the kernel's support, with their weights."""
    first = np.ceil(position - _WIDTH / 2).astype(np.int64)
    cells = [first + offset for offset in range(_WIDTH)]
    return [(cell, _kaiser_bessel(position - cell)) for cell in cells]


def _kaiser_bessel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(1.0 - (2.0 * distance / _WIDTH) ** 2, 0.0, None)
    weights: NDArray[np.float64] = i0(_BETA * np.sqrt(inside)) / _WIDTH
    return weights


def _deapodisation(geometry: ScanGeometry) -> NDArray[np.float64]:
    """Inverse of the transform of the Kaiser-Bessel kernel at every pixel; the image fills half of the grid."""
    position = (np.arange(geometry.pixels) - geometry.pixels // 2) / (2 * geometry.pixels)
    argument = np.sqrt(_BETA**2 - (math.pi * _WIDTH * position) ** 2)  # real: β > π · width / 4
    inverse: NDArray[np.float64] = argument / np.sinh(argument)
    return inverse
