"""CT images and volumes as stacks of slices: padding, noise read per case, smoothing in the plane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.shifts._ct_noise import noise_support
from robustbench_rad.shifts._native_noise import NoiseProbe

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


def slices_of(images: Tensor) -> Tensor:
    """``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` as ``(N, D, H, W)``."""
    return images.reshape(images.shape[0], -1, *images.shape[-2:])


def reconstructed(images_hu: Tensor) -> Tensor:
    """Pixels that are not padding, boolean in the shape of the images."""
    values = images_hu.detach()
    return noise_support(values.reshape(-1, *values.shape[-2:])).reshape(values.shape)


def noise_probes(batch: Batch, spacing_mm: Tensor) -> list[NoiseProbe]:
    """Where the noise of every case is read; a spacing that is not known counts as 1 mm."""
    cases = zip(slices_of(batch.images.detach()), spacing_mm.nan_to_num(1.0).tolist(), strict=True)
    return [NoiseProbe.placed(slices, spacing) for slices, spacing in cases]


def native_noise_hu(probes: list[NoiseProbe], images: Tensor) -> Tensor:
    """Global noise level ``(N,)`` in HU; NaN where there is no homogeneous soft tissue."""
    cases = zip(probes, slices_of(images.detach()), strict=True)
    return images.new_tensor([probe.level(case) if probe.soft_tissue else math.nan for probe, case in cases])


def gaussian_in_plane(images: Tensor, *, sigma_px: float) -> Tensor:
    """Smooth every slice of ``(N, 1, …, H, W)`` with a Gaussian; edges are replicated.

    >>> float(gaussian_in_plane(torch.full((1, 1, 5, 5), 7.0), sigma_px=1.0).std()) < 1e-5
    True
    """
    radius = max(1, math.ceil(3.0 * sigma_px))
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (steps / sigma_px) ** 2)
    weights = weights / weights.sum()
    planes = images.reshape(-1, 1, *images.shape[-2:])
    wide = functional.pad(planes, [radius] * 4, mode="replicate")
    rows = functional.conv2d(wide, weights.reshape(1, 1, -1, 1))
    return functional.conv2d(rows, weights.reshape(1, 1, 1, -1)).reshape(images.shape)


def box_mean(images: Tensor, *, side_px: int) -> Tensor:
    """Mean over squares of odd side around every pixel, in the plane; outside of the image nothing counts."""
    planes = images.reshape(-1, 1, *images.shape[-2:])
    means = functional.avg_pool2d(planes, side_px, stride=1, padding=side_px // 2, count_include_pad=False)
    return means.reshape(images.shape)
