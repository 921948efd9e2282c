"""Generic blur by its ImageNet-C names: for comparison with published tables; pixels are those of the model's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.registry import register
from robustbench_rad.shifts._generic import GenericShift, gaussian_blurred, planes
from robustbench_rad.shifts._ladder import uniforms

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@register(
    id="shift.generic.gaussian-blur",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericGaussianBlur(GenericShift):
    """Gaussian blur."""

    parameter: ClassVar[str] = "blur_sd_px"
    constants: ClassVar[tuple[Any, ...]] = (1.0, 2.0, 3.0, 4.0, 6.0)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda sd: gaussian_blurred(batch.images, sd)


@register(
    id="shift.generic.defocus-blur",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericDefocusBlur(GenericShift):
    """A lens out of focus: a disc with a soft rim."""

    parameter: ClassVar[str] = "radius_px"
    constants: ClassVar[tuple[Any, ...]] = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda constant: _convolved(batch.images, disc(*constant).to(batch.images))


@register(
    id="shift.generic.motion-blur",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericMotionBlur(GenericShift):
    """A one-sided Gaussian smear in a direction that is drawn for each case, between -45 and 45 degrees."""

    parameter: ClassVar[str] = "radius_px"
    constants: ClassVar[tuple[Any, ...]] = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        angles = (uniforms(batch, 1, self.id, self.version)[:, 0] * 90.0 - 45.0).deg2rad()

        def smeared(constant: tuple[int, float]) -> Tensor:
            cases = zip(batch.images, angles.tolist(), strict=True)
            return torch.stack([smear(image, angle, *constant) for image, angle in cases])

        return smeared


@register(
    id="shift.generic.zoom-blur",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericZoomBlur(GenericShift):
    """A lens zoomed while the picture was taken: the mean of enlargements about the middle."""

    parameter: ClassVar[str] = "largest_zoom"
    constants: ClassVar[tuple[Any, ...]] = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.33, 0.03))

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda constant: zoomed_through(batch.images, *constant)


def disc(radius: int, rim_sd_px: float) -> Tensor:
    """Kernel of a disc, blurred at its rim, ``(K, K)`` with sum 1."""
    reach = max(8, radius)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = ((axis[:, None] ** 2 + axis**2) <= radius**2).float()
    kernel = gaussian_blurred((kernel / kernel.sum())[None, None], rim_sd_px, truncate=1.0 if radius <= 8 else 2.0)[
        0, 0
    ]
    return kernel / kernel.sum()


def _convolved(images: Tensor, kernel: Tensor) -> Tensor:
    reach = kernel.shape[-1] // 2
    wide = functional.pad(planes(images), (reach,) * 4, mode="replicate")
    return functional.conv2d(wide, kernel[None, None]).reshape(images.shape)


def smear(image: Tensor, angle_rad: float, radius: int, sd_px: float) -> Tensor:
    """Mean of an image ``(…, H, W)`` moved by whole pixels along a line, Gaussian weights from one end."""
    steps = torch.arange(2 * radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / sd_px) ** 2)
    weights = weights / weights.sum()
    down = (steps * torch.sin(torch.tensor(angle_rad))).round().long()
    right = (steps * torch.cos(torch.tensor(angle_rad))).round().long()
    height, width = image.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    result = torch.zeros_like(image)
    for weight, dy, dx in zip(weights.tolist(), down, right, strict=True):
        at_rows = (rows + dy).clamp(0, height - 1).to(image.device)
        at_columns = (columns + dx).clamp(0, width - 1).to(image.device)
        result = result + weight * image.index_select(-2, at_rows).index_select(-1, at_columns)
    return result


def zoomed_through(images: Tensor, largest: float, step: float) -> Tensor:
    """Mean of the images and their enlargements from 1 to below ``largest``."""
    flat = planes(images)
    total, count = flat.clone(), 1
    for number in range(round((largest - 1.0) / step)):
        scale = 1.0 / (1.0 + number * step)
        theta = flat.new_tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]]).expand(len(flat), 2, 3)
        grid = functional.affine_grid(theta, list(flat.shape), align_corners=False)
        total = total + functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
        count += 1
    return (total / count).reshape(images.shape)
