"""CT noise made in the image: white noise with the spectrum of the reconstruction and the local strength of the scan.

The variance of a pixel is the mean, over the views, of the variance of the ray through it, times that of the reconstruction,

    σ²(x) = σ²_water · ⟨var(θ, x · θ)⟩,      NPS(f) ∝ f · A(f)².

This gives the strength everywhere, but the same texture in all directions: no streaks through shoulders or hips.

Reference:
    Divel and Pelc 2020, Accurate image domain noise insertion in CT images, IEEE Trans Med Imaging 39:1906.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.seeds import normal
from robustbench_rad.shifts._spectral import filtered, mean_power, radial_frequency_per_mm
from robustbench_rad.shifts.ct_projector import COARSENING

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.shifts._ct_noise import Scan
    from robustbench_rad.shifts.ct_projector import ScanGeometry

_VIEWS = 32  # taken up at a time: few calls for a GPU, little memory for a CPU


def unit_noise_in_image(scan: Scan, stream: tuple[object, ...]) -> tuple[Tensor, Tensor]:
    """Quantum and electronic noise ``(S, H, W)`` in HU at one photon per ray and σ_e = 1.

    Args:
        scan: The slices.
        stream: What the draw is for.
    """
    parts = [_slice_noise(part, stream) for part in scan.one_by_one()]
    quantum, electronic = zip(*parts, strict=True)
    return torch.cat(quantum), torch.cat(electronic)


def _slice_noise(part: Scan, stream: tuple[object, ...]) -> tuple[Tensor, Tensor]:
    inverse = part.transmission().reciprocal()
    variances = inverse, inverse.square() * part.readings[:, None, None]
    texture = _textures(part, stream)
    scale = part.water_variance()[:, None, None]
    means = mean_over_views(torch.cat(variances), part.geometry).chunk(2)
    quantum, electronic = (
        (scale * part.cropped(mean)).sqrt() * part.cropped(white) for mean, white in zip(means, texture, strict=True)
    )
    return quantum, electronic


def _textures(part: Scan, stream: tuple[object, ...]) -> list[Tensor]:
    """Two fields ``(S, pixels, pixels)`` of unit variance with the noise spectrum of the reconstruction."""
    side = part.geometry.pixels
    spacing = torch.ones(1, 2, device=part.slices_hu.device)
    frequency = radial_frequency_per_mm((side, side), spacing)[0, 0]  # per pixel
    held = frequency <= 0.5 / part.geometry.pitch_px
    apodisation = part.apodised(frequency.flatten()).reshape(-1, 1, *frequency.shape)
    amplitude = (frequency * held).sqrt() * apodisation
    amplitude = amplitude / mean_power(amplitude, (side, side)).sqrt().reshape(-1, 1, 1, 1)
    fields = [
        normal((1, side, side), part.slices_hu.device, part.seeds, *stream, name) for name in ("white", "readout")
    ]
    return [filtered(white, amplitude)[:, 0] for white in fields]


def mean_over_views(rays: Tensor, geometry: ScanGeometry) -> Tensor:
    """Mean over the views of what the rays through every pixel hold.

    Args:
        rays: ``(S, views, channels)``.
        geometry: The sampling.

    Returns:
        ``(S, pixels, pixels)``, computed at a quarter of the resolution and interpolated.
    """
    device, count = rays.device, geometry.pixels // COARSENING
    coarse = functional.avg_pool2d(rays[:, None], (COARSENING, 1))[:, 0]
    angles = torch.from_numpy(geometry.angles.reshape(-1, COARSENING).mean(1)).float().to(device)
    side = (torch.arange(count, device=device) - (count - 1) / 2.0) * COARSENING
    total = rays.new_zeros(rays.shape[0], count, count)
    for first in range(0, len(angles), _VIEWS):
        views = slice(first, first + _VIEWS)
        cosine, sine = (part[views, None, None] for part in (angles.cos(), angles.sin()))
        place = side * cosine + side[:, None] * sine
        place = (place / geometry.pitch_px + (geometry.channels - 1) / 2.0).clamp(0.0, geometry.channels - 1.001)
        lower = place.long()
        share = place - lower
        held = _taken(coarse[:, views], lower) * (1.0 - share) + _taken(coarse[:, views], lower + 1) * share
        for view in held.unbind(1):  # one after the other, so that the sum does not depend on the device's order
            total += view
    return functional.interpolate(
        total[:, None] / len(angles), size=(geometry.pixels,) * 2, mode="bilinear", align_corners=False
    )[:, 0]


def _taken(rays: Tensor, channel: Tensor) -> Tensor:
    """Values ``(S, views, n, n)`` of rays ``(S, views, channels)`` at one channel of each view and place ``(views, n, n)``."""
    taken = rays.gather(2, channel.flatten(1).expand(len(rays), -1, -1))
    return taken.reshape(len(rays), *channel.shape)
