"""Rigid and affine motion of images in their plane, exact in physical length, with what lies on them moved along.

A pixel centre (row v, column u), in pixels from the centre of the image, is read at ``A · (v, u) + b``. Lengths in the rows
and the columns differ where pixels are not square, so angles and factors are meant in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.shifts._any_image import padding, within_range, without_padding
from robustbench_rad.shifts._inputs import in_plane_spacing_mm

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

FILLS = ("edge", "darkest")


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """Images with their masks after a motion."""

    images: Tensor
    anatomy: Tensor | None
    lesion: Tensor | None


def pixel_aspect(batch: Batch) -> Tensor:
    """Row over column spacing ``(N,)``; 1 where unknown."""
    spacing = in_plane_spacing_mm(batch)
    return (spacing[:, 0] / spacing[:, 1]).nan_to_num(1.0)


def rotation(radians: Tensor, aspect: Tensor) -> Tensor:
    """Matrices ``(N, 2, 2)`` that read an image turned counter-clockwise, as one sees it, by ``radians`` ``(N,)``.

    >>> rotation(torch.tensor([torch.pi / 2]), torch.tensor([2.0])).round(decimals=2)[0].abs().tolist()
    [[0.0, 0.5], [2.0, 0.0]]
    """
    cosine, sine = radians.cos(), radians.sin()
    return torch.stack([torch.stack([cosine, sine / aspect], 1), torch.stack([-sine * aspect, cosine], 1)], 1)


def moved(batch: Batch, matrix: Tensor, offset_px: Tensor, *, fill: str = "darkest") -> Moved:
    """Read images and masks at other places; bicubic for images, nearest for masks.

    Padding of a CT slice belongs to the scanner, not to the patient: it stays where it is, and counts as air.

    Args:
        batch: Images ``(N, 1, H, W)`` or volumes, whose slices move alike.
        matrix: ``(N, 2, 2)``, A.
        offset_px: ``(N, 2)``, b, rows and columns.
        fill: What is read outside of the image: its ``edge``, or its ``darkest`` value.
    """
    places = _places(matrix, offset_px, batch.images.shape[-2:])
    outside, source = padding(batch), without_padding(batch)
    least = source.detach().flatten(1).amin(1).reshape(-1, *[1] * (source.ndim - 1)) if fill == "darkest" else 0.0
    mode = "zeros" if fill == "darkest" else "border"
    read = within_range(_read(source - least, places, "bicubic", mode) + least, source)
    masks = [
        None if mask is None else _read(mask.float(), places, "nearest", "zeros") > 0.5
        for mask in (batch.anatomy, batch.lesion)
    ]
    return Moved(images=torch.where(outside, batch.images, read), anatomy=masks[0], lesion=masks[1])


def _places(matrix: Tensor, offset_px: Tensor, shape: torch.Size) -> Tensor:
    """Where every pixel is read, ``(N, H, W, 2)`` column and row from -1 to 1 across the image."""
    height, width = shape
    v, u = (torch.arange(size, device=matrix.device) - (size - 1) / 2 for size in (height, width))
    centres = torch.stack(torch.meshgrid(v, u, indexing="ij"), -1)
    read = torch.einsum("nij,hwj->nhwi", matrix, centres) + offset_px[:, None, None]
    return torch.stack([read[..., 1] * (2.0 / width), read[..., 0] * (2.0 / height)], -1)


def _read(images: Tensor, places: Tensor, mode: str, outside: str) -> Tensor:
    planes = images.reshape(images.shape[0], -1, *images.shape[-2:])  # slices as channels: they share their places
    read = functional.grid_sample(planes, places.to(planes.dtype), mode=mode, padding_mode=outside, align_corners=False)
    return read.reshape(images.shape)
