"""Bilinear look-up of images at places in pixels, with the border continued."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def sampled(images: Tensor, rows: Tensor, columns: Tensor, *, nearest: bool = False) -> Tensor:
    """Look images up at places.

    Args:
        images: ``(N, 1, H, W)``.
        rows: Row of every place, ``(N, h, w)`` or what broadcasts to it; 0 is the centre of the first pixel.
        columns: The same for columns.
        nearest: Take the nearest pixel, for masks.

    Returns:
        ``(N, 1, h, w)``.

    >>> sampled(torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25)).item()
    0.25
    """
    height, width = images.shape[-2:]
    shape = (len(images), max(rows.shape[1], columns.shape[1]), max(rows.shape[2], columns.shape[2]))
    across, down = (2.0 * columns + 1.0) / width - 1.0, (2.0 * rows + 1.0) / height - 1.0
    places = torch.stack([across.expand(shape), down.expand(shape)], -1).to(images.dtype)
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(images, places, mode=mode, padding_mode="border", align_corners=False)


def sampled_mask(mask: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor | None:
    """The same for boolean masks; None stays None."""
    return None if mask is None else sampled(mask.float(), rows, columns, nearest=True) > 0.5


def pixel_axes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row ``(1, H, 1)`` and column ``(1, 1, W)`` of every pixel."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=images.dtype, device=images.device)[None, :, None]
    columns = torch.arange(width, dtype=images.dtype, device=images.device)[None, None]
    return rows, columns
