"""The spike: a small known marker that is put into a corner of an image, and how much of it is still there.

Pure tensor functions on display images ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` in [0, 1]; nothing is changed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIDE_FRACTION = 0.06  # of the shorter side: about the height of a lead letter
INSET_FRACTION = 0.02
SQUARES = 4  # a side of the chequerboard: no anatomy and no lead letter looks like it


def pattern(shorter_side: int, device: torch.device) -> Tensor:
    """Chequerboard of black and white squares, ``(S, S)``, at least one pixel a square.

    >>> pattern(64, torch.device("cpu")).int().tolist()
    [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    """
    pixels = max(1, round(SIDE_FRACTION * shorter_side / SQUARES))
    index = torch.arange(SQUARES * pixels, device=device) // pixels
    return ((index[:, None] + index) % 2).float()


def implanted(images: Tensor) -> Tensor:
    """The images with the marker in their upper left corner; in every slice of a volume.

    >>> implanted(torch.full((1, 1, 16, 16), 0.5))[0, 0, :3, :3].tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    marker = pattern(min(images.shape[-2:]), images.device)
    rows, columns = _place(images)
    altered = images.clone()
    altered[..., rows, columns] = marker
    return altered


def response(images: Tensor) -> Tensor:
    """How much of the marker an image shows, ``(N,)``: 1 as implanted, 0 for a flat corner, linear in the image.

    The matched filter ``<x, m - mean(m)> / <m, m - mean(m)>`` at the marker's place; averaged over the slices of a volume.

    >>> image = torch.full((1, 1, 16, 16), 0.5)
    >>> response(image).item(), response(implanted(image)).item()
    (0.0, 1.0)
    """
    marker = pattern(min(images.shape[-2:]), images.device).double()
    centred = marker - marker.mean()
    rows, columns = _place(images)
    seen = (images[..., rows, columns].double() * centred).sum((-2, -1)) / (marker * centred).sum()
    return seen.flatten(1).mean(1)


def _place(images: Tensor) -> tuple[slice, slice]:
    side = min(images.shape[-2:])
    inset, length = round(INSET_FRACTION * side), len(pattern(side, images.device))
    inset = min(inset, max(0, side - length))
    return slice(inset, inset + length), slice(inset, inset + length)
