"""Where fat lies under the skin: the outer layer of the body, by its depth and its brightness.

A guess: only a fat and water separated acquisition knows. Marrow and fat between organs are not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._mr_inputs import foreground

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

BRIGHT = (0.6, 0.85)
"""Share of the 99.5th percentile at which a bright pixel begins to count as fat, and at which it is all fat."""


def body(inside: Tensor) -> Tensor:
    """Foreground with its holes: what has foreground on all four sides in its plane, in the shape of ``(…, H, W)``.

    >>> ring = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    >>> body(ring).int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    seen = inside.to(torch.uint8)
    enclosed = torch.ones_like(inside)
    for axis in (-2, -1):
        enclosed = enclosed & (seen.cummax(axis).values > 0) & (seen.flip(axis).cummax(axis).values.flip(axis) > 0)
    return inside | enclosed


def skin_layer(inside: Tensor, depth_px: tuple[int, int]) -> Tensor:
    """Outer layer of the body ``(1, …, H, W)`` of one case, so many rows and columns deep."""
    filled = body(inside)
    outside = (~filled).float().reshape(-1, 1, *inside.shape[-2:])
    rows, columns = depth_px
    near = functional.max_pool2d(
        functional.pad(outside, (columns, columns, rows, rows), value=1.0), (2 * rows + 1, 2 * columns + 1), stride=1
    )
    return filled & (near.reshape(inside.shape) > 0.0)


def skin_layers(batch: Batch, depth_mm: float) -> tuple[Tensor, Tensor]:
    """Outer layers in the shape of the images, and ``(N,)`` whether the spacing is known."""
    spacing = in_plane_spacing_mm(batch)
    known = spacing.isfinite().all(1)
    inside = foreground(batch.images)
    layers = []
    for mask, (row, column) in zip(inside, spacing.nan_to_num(1.0).tolist(), strict=True):
        layers.append(skin_layer(mask, (max(1, round(depth_mm / row)), max(1, round(depth_mm / column)))))
    return torch.stack(layers), known


def fat_share(images: Tensor, layers: Tensor) -> Tensor:
    """Share of fat of every pixel, from 0 to 1: bright and in the outer layer; a constant for gradients."""
    flat = images.detach().flatten(1)
    bright = flat.sort(1).values[:, round(0.995 * (flat.shape[1] - 1))]
    relative = flat / bright.clamp_min(torch.finfo(flat.dtype).tiny)[:, None]
    share = ((relative - BRIGHT[0]) / (BRIGHT[1] - BRIGHT[0])).clamp(0.0, 1.0)
    return share.reshape(images.shape) * layers
