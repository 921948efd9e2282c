"""Numbers that tell how an image was made rather than what it shows: grey levels, noise, spectrum, borders, coarse layout."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

THUMBNAIL_PX = 32
LAYOUT = 16
"""Low frequencies of the thumbnail's cosine transform that are kept, per axis."""
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
BANDS_PER_PX = tuple(0.5 * 2 ** (-n / 2) for n in range(10, -1, -1))
"""Edges of the radial bands in cycles/px, half an octave each, up to the Nyquist frequency."""
BANDS_PER_MM = tuple(0.02 * 2 ** (n / 2) for n in range(15))
"""Edges in cycles/mm: 0.02 to 2.56."""
BORDER = 0.04
"""Width of the ring, of the shorter side."""
CORNER = 0.15
FLOOR = 1e-12
"""Added to powers before the logarithm; far below the power of one grey level of 16 bits."""


def image_numbers(images: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
    """Everything a probe of the image reads, float32.

    Layout (256), quantiles (11), mean and SD, noise, shares of pure black and white, four borders and four corners, ten radial
    bands in cycles/px and fourteen in cycles/mm, the last NaN where the spacing is not known or a band holds no frequency.

    Args:
        images: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)``, of which the middle slice is read.
        spacing_mm: ``(N, 2)`` or ``(N, 3)``, NaN where unknown, or None.

    Returns:
        ``(N, 304)``.
    """
    plane = planes(images).double()
    parts = [
        layout(plane),
        quantiles(plane),
        torch.stack([plane.mean((1, 2)), plane.std((1, 2), correction=0), noise_level(plane)], dim=1),
        torch.stack([(plane <= 0).double().mean((1, 2)), (plane >= 1).double().mean((1, 2))], dim=1),
        margins_and_corners(plane),
        *spectra(plane, None if spacing_mm is None else spacing_mm[:, -2:].double()),
    ]
    return torch.cat(parts, dim=1).float()


def planes(images: Tensor) -> Tensor:
    """``(N, H, W)``: the image, or the middle slice of a volume."""
    plane = images[:, 0]
    return plane if plane.ndim == 3 else plane[:, plane.shape[1] // 2]


def thumbnails(plane: Tensor, size: int = THUMBNAIL_PX) -> Tensor:
    """``(N, size, size)`` means of areas; exact whatever the size of the image."""
    return adaptive_avg_pool2d(plane[:, None], size)[:, 0]


def cosine_basis(count: int, size: int, like: Tensor) -> Tensor:
    """``(count, size)`` first rows of the orthonormal cosine transform (DCT-II).

    >>> bool(torch.allclose(cosine_basis(8, 8, torch.zeros(1)) @ cosine_basis(8, 8, torch.zeros(1)).T, torch.eye(8), atol=1e-5))
    True
    """
    place = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (math.pi / size)
    rows = torch.cos(torch.arange(count, device=like.device, dtype=like.dtype)[:, None] * place)
    rows[0] /= math.sqrt(2)
    return rows * math.sqrt(2 / size)


def layout(plane: Tensor) -> Tensor:
    """``(N, 256)`` lowest frequencies of the thumbnail."""
    basis = cosine_basis(LAYOUT, THUMBNAIL_PX, plane)
    return (basis @ thumbnails(plane) @ basis.T).flatten(1)


def quantiles(plane: Tensor) -> Tensor:
    """``(N, 11)`` grey levels below which these shares of the pixels lie."""
    ordered = plane.flatten(1).sort(1).values
    return ordered[:, [round(share * (ordered.shape[1] - 1)) for share in QUANTILES]]


def noise_level(plane: Tensor) -> Tensor:
    """``(N,)`` logarithm of the noise SD by a second difference along both axes, which edges hardly reach.

    Reference:
        Immerkaer 1996, Fast noise variance estimation, doi:10.1006/cviu.1996.0060.
    """
    if min(plane.shape[1:]) < 3:
        return plane.new_full((len(plane),), math.log(1e-6))
    down = plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]
    both = down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return (both.abs().mean((1, 2)) * math.sqrt(math.pi / 2) / 6 + 1e-6).log()


def margins_and_corners(plane: Tensor) -> Tensor:
    """``(N, 8)`` means of the four borders and the four corners."""
    side = min(plane.shape[1:])
    ring, corner = max(1, round(BORDER * side)), max(1, round(CORNER * side))
    near, far = slice(None, corner), slice(-corner, None)
    parts = [plane[:, :ring], plane[:, -ring:], plane[:, :, :ring], plane[:, :, -ring:]]
    parts += [plane[:, row, column] for row in (near, far) for column in (near, far)]
    return torch.stack([part.mean((1, 2)) for part in parts], dim=1)


def spectra(plane: Tensor, spacing_mm: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log mean power in radial bands: ``(N, 10)`` per cycles/px, ``(N, 14)`` per cycles/mm, NaN for an empty band."""
    size = plane.shape[1:]
    centred = plane - plane.mean((1, 2), keepdim=True)
    window = torch.outer(*(torch.hann_window(n, periodic=False, dtype=plane.dtype, device=plane.device) for n in size))
    power = torch.fft.rfft2(centred * window).abs().square() / (size[0] * size[1])
    rows = torch.fft.fftfreq(size[0], device=plane.device, dtype=plane.dtype)[:, None]
    columns = torch.fft.rfftfreq(size[1], device=plane.device, dtype=plane.dtype)
    per_px = (rows.square() + columns.square()).sqrt().expand(len(plane), -1, -1)
    if spacing_mm is None:
        unknown = plane.new_full((len(plane), len(BANDS_PER_MM) - 1), float("nan"))
        return band_means(power, per_px, BANDS_PER_PX), unknown
    height, width = spacing_mm[:, 0, None, None], spacing_mm[:, 1, None, None]
    per_mm = ((rows / height).square() + (columns / width).square()).sqrt()
    return band_means(power, per_px, BANDS_PER_PX), band_means(power, per_mm, BANDS_PER_MM)


def band_means(power: Tensor, frequency: Tensor, edges: tuple[float, ...]) -> Tensor:
    """``(N, len(edges) - 1)`` logarithm of the mean power between edges; NaN where no frequency lies there.

    Args:
        power: ``(N, H, W)``.
        frequency: ``(N, H, W)`` NaN where unknown.
        edges: Rising.
    """
    inside = torch.bucketize(
        frequency.contiguous(), torch.tensor(edges, device=power.device, dtype=power.dtype), right=True
    )
    means = []
    for number in range(1, len(edges)):
        chosen = ((inside == number) & frequency.isfinite()).to(power.dtype)
        means.append((power * chosen).sum((1, 2)) / chosen.sum((1, 2)))
    return (torch.stack(means, dim=1) + FLOOR).log()
