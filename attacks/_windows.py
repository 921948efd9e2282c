"""Boxes and windows of pixels, in planes and volumes of any aspect; and how many queries fit into a round."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


def round_sizes(queries: int, candidates: int) -> tuple[int, ...]:
    """Queries of each round: ``candidates`` of them, fewer in the last.

    >>> round_sizes(10, 4)
    (4, 4, 2)
    """
    whole, rest = divmod(queries, candidates)
    return (candidates,) * whole + ((rest,) if rest else ())


def boxes(planes: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """The boxes around the pixels that may be touched: first pixel and extent ``(L, d)``, int64; all of it for None."""
    sizes = planes.shape[2:]
    if allowed is None:
        whole = torch.tensor(sizes, device=planes.device).expand(len(planes), -1)
        return torch.zeros_like(whole), whole
    first, extents = [], []
    for axis, size in enumerate(sizes):
        used = allowed.movedim(axis + 2, 1).flatten(2).any(2).int()
        first.append(used.argmax(1))
        extents.append(size - used.flip(1).argmax(1) - first[-1])
    return torch.stack(first, 1), torch.stack(extents, 1)


def window_sides(share: float, extents: Tensor) -> Tensor:
    """Sides of the windows that hold a share of boxes, as near to a cube as the boxes allow.

    Args:
        share: Of the pixels of the box, in (0, 1].
        extents: ``(L, d)`` sides of the boxes in pixels.

    Returns:
        ``(L, d)`` int64, from 1 to the side of the box.

    >>> window_sides(0.5, torch.tensor([[8, 8], [2, 32], [32, 2]])).tolist()
    [[6, 6], [2, 16], [16, 2]]
    """
    ordered, place = extents.double().sort(dim=1)
    pixels, sides = share * ordered.prod(1), []
    for axis in range(extents.shape[1]):
        side = torch.minimum(pixels.pow(1 / (extents.shape[1] - axis)), ordered[:, axis])
        sides.append(side)
        pixels = pixels / side
    whole = torch.stack(sides, 1).round().clamp(min=1).long()
    return torch.empty_like(whole).scatter_(1, place, whole)


def windows(draws: Tensor, sides: Tensor, first: Tensor, extents: Tensor, sizes: Sequence[int]) -> Tensor:
    """Windows of given sides at random places of boxes.

    Args:
        draws: ``(L, M, d)`` in [-1, 1], the place along each axis.
        sides: ``(L, d)`` of the windows in pixels.
        first: ``(L, d)`` first pixel of each box.
        extents: ``(L, d)`` sides of the boxes.
        sizes: d sides of the image.

    Returns:
        ``(L, M, 1, *sizes)`` boolean; every place of the box is as likely as any other.
    """
    free = (extents - sides)[:, None]
    start = first[:, None] + torch.minimum(((draws + 1) / 2 * (free + 1)).floor().long(), free)
    spans = []
    for axis, size in enumerate(sizes):
        place = torch.arange(size, device=draws.device) - start[..., axis, None]
        span = (place >= 0) & (place < sides[:, axis, None, None])
        shape = [1] * len(sizes)
        shape[axis] = size
        spans.append(span.reshape(*span.shape[:2], 1, *shape))
    return reduce(torch.logical_and, spans)
