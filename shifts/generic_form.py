"""Generic changes of tone and form by their ImageNet-C names: for comparison with published tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional

from robustbench_rad import seeds
from robustbench_rad.defences.jpeg import through_jpeg
from robustbench_rad.defences.straight_through import straight_through
from robustbench_rad.registry import register
from robustbench_rad.shifts._generic import GenericShift, planes
from robustbench_rad.shifts._ladder import uniforms

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@register(
    id="shift.generic.brightness",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericBrightness(GenericShift):
    """A constant added to every pixel."""

    parameter: ClassVar[str] = "added"
    constants: ClassVar[tuple[Any, ...]] = (0.1, 0.2, 0.3, 0.4, 0.5)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda added: batch.images + added


@register(
    id="shift.generic.contrast",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericContrast(GenericShift):
    """Contrast about the mean of each image, multiplied."""

    parameter: ClassVar[str] = "contrast_factor"
    constants: ClassVar[tuple[Any, ...]] = (0.4, 0.3, 0.2, 0.1, 0.05)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        axes = tuple(range(1, batch.images.ndim))
        mean = batch.images.mean(axes, keepdim=True)
        return lambda factor: (batch.images - mean) * factor + mean


@register(
    id="shift.generic.elastic",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericElastic(GenericShift):
    """A smooth random displacement after a random affine map; constants in units of the shorter side."""

    parameter: ClassVar[str] = "amplitude"
    constants: ClassVar[tuple[Any, ...]] = (
        (2.0, 0.7, 0.1),
        (2.0, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        shape = (2, *batch.images.shape[-2:])
        draws = [
            torch.rand(shape, generator=seeds.generator(batch.device, s, self.id, self.version), device=batch.device)
            for s in batch.seeds
        ]
        field = torch.stack(draws) * 2.0 - 1.0
        corners = (uniforms(batch, 6, self.id, self.version, "corners") * 2.0 - 1.0).reshape(-1, 3, 2)
        return lambda constant: warped(batch.images, field, corners, *constant)


@register(
    id="shift.generic.pixelate",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericPixelate(GenericShift):
    """Visible pixels: means of blocks, shown as blocks."""

    parameter: ClassVar[str] = "scale"
    constants: ClassVar[tuple[Any, ...]] = (0.6, 0.5, 0.4, 0.3, 0.25)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        def blocks(scale: float) -> Tensor:
            flat = planes(batch.images)
            size = max(1, int(flat.shape[-2] * scale)), max(1, int(flat.shape[-1] * scale))
            small = functional.adaptive_avg_pool2d(flat, size)
            return functional.interpolate(small, flat.shape[-2:], mode="nearest-exact").reshape(batch.images.shape)

        return blocks


@register(
    id="shift.generic.jpeg",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericJpeg(GenericShift):
    """JPEG as libjpeg shows it, by quality; gradients pass straight through."""

    parameter: ClassVar[str] = "jpeg_quality"
    constants: ClassVar[tuple[Any, ...]] = (25, 18, 15, 10, 7)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda quality: straight_through(batch.images, through_jpeg(batch.images.detach(), quality))


REFERENCE_SIDE = 244.0  # pixels that the constants of ImageNet-C are multiples of


def warped(
    images: Tensor, field: Tensor, corners: Tensor, amplitude: float, smoothness: float, jitter: float
) -> Tensor:
    """Images ``(N, 1, …, H, W)`` sampled at affinely and smoothly displaced places, bilinear, reflected at the border.

    Args:
        images: In [0, 1].
        field: ``(N, 2, H, W)`` uniform in [-1, 1].
        corners: ``(N, 3, 2)`` uniform in [-1, 1]: how three points of each case are moved.
        amplitude: Of the field before it is smoothed, in 244 pixels at a side of 244 pixels.
        smoothness: Standard deviation of the smoothing as a share of the side.
        jitter: Largest move of a corner as a share of the side.
    """
    height, width = images.shape[-2:]
    side = float(min(height, width))
    pixels = smoothed(field, smoothness * side) * amplitude * REFERENCE_SIDE * (side / REFERENCE_SIDE) ** 2
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None].expand(height, width)
    columns = torch.arange(width, device=images.device, dtype=images.dtype).expand(height, width)
    places = torch.stack([rows, columns])[None] + pixels
    matrix = _affine(corners.to(images) * jitter * side, (height, width))
    ones = torch.ones_like(places[:, :1])
    source = torch.einsum("nij,njhw->nihw", matrix, torch.cat([places, ones], 1))
    ends = source.new_tensor([max(height - 1, 1), max(width - 1, 1)])[:, None, None]
    grid = (2.0 * source / ends - 1.0).flip(1).movedim(1, -1)
    slices = images.reshape(len(images), -1, height, width)
    sampled = functional.grid_sample(slices, grid, padding_mode="reflection", align_corners=True)
    return sampled.reshape(images.shape)


def _affine(moves_px: Tensor, shape: tuple[int, int]) -> Tensor:
    """Matrices ``(N, 2, 3)`` from the places of the result to those of the image, by three points that were moved."""
    middle = moves_px.new_tensor([shape[0] // 2, shape[1] // 2])
    reach = max(1.0, min(shape) / 3.0)
    points = middle + reach * moves_px.new_tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = torch.cat([points + moves_px, torch.ones_like(moves_px[..., :1])], -1)
    solved: Tensor = torch.linalg.solve(moved, points.expand_as(moves_px))
    return solved.transpose(1, 2)


def smoothed(field: Tensor, sd_px: float) -> Tensor:
    """Gaussian smoothing of ``(…, H, W)`` with mirrored borders, through the spectrum of the mirrored field."""
    mirrored = torch.cat([field, field.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    rows = torch.fft.fftfreq(mirrored.shape[-2], device=field.device)[:, None]
    columns = torch.fft.rfftfreq(mirrored.shape[-1], device=field.device)
    transfer = torch.exp(-2.0 * (torch.pi * sd_px) ** 2 * (rows**2 + columns**2))
    whole: Tensor = torch.fft.irfft2(torch.fft.rfft2(mirrored) * transfer, s=mirrored.shape[-2:])
    return whole[..., : field.shape[-2], : field.shape[-1]]
