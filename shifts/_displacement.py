"""Displacement along one axis that keeps every bit of signal: what is squeezed gets brighter, what is stretched darker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def displaced(image: Tensor, shift_px: Tensor, axis: int) -> Tensor:
    """Carry the signal of ``(…, H, W)`` along ``axis`` to where each place is displaced to.

    Exact for a signal that is constant in every pixel and a displacement that is linear between pixel edges; what leaves the
    image is lost. Intensities follow the Jacobian because sums are carried, not values.

    Args:
        image: Signal.
        shift_px: Displacement in pixels, in the shape of the image; places must not overtake each other.
        axis: -2 or -1.

    >>> displaced(torch.tensor([[0.0, 1.0, 2.0, 0.0]]), torch.full((1, 4), 0.5), -1)
    tensor([[0.0000, 0.5000, 1.5000, 1.0000]])
    """
    signal, shift = image.movedim(axis, -1), shift_px.movedim(axis, -1)
    count = signal.shape[-1]
    lines, shifts = signal.reshape(-1, count), shift.expand_as(signal).reshape(-1, count)
    edges = torch.arange(count + 1, device=image.device, dtype=image.dtype)
    middle = (shifts[:, 1:] + shifts[:, :-1]) / 2.0
    moved = edges + torch.cat([shifts[:, :1], middle, shifts[:, -1:]], dim=1)
    source = _inverse(moved, edges.expand_as(moved).contiguous())
    collected = functional.pad(lines.cumsum(1), (1, 0))
    reached = _interpolated(collected, source)
    return reached.diff(dim=1).reshape(signal.shape).movedim(-1, axis)


def jacobian(shift_px: Tensor, axis: int) -> Tensor:
    """Width that each step between neighbouring pixels along ``axis`` gets; 1 where nothing is stretched."""
    return 1.0 + shift_px.diff(dim=axis)


def _inverse(moved: Tensor, wanted: Tensor) -> Tensor:
    """Edge (a fraction of one) that moved to each wanted place, ``(L, E)``; the first or last where none did."""
    last = moved.shape[1] - 1
    place = torch.searchsorted(moved.contiguous(), wanted, right=True).sub(1).clamp(0, last - 1)
    start, end = moved.gather(1, place), moved.gather(1, place + 1)
    part = (wanted - start) / (end - start).clamp_min(torch.finfo(moved.dtype).eps)
    return (place + part.clamp(0.0, 1.0)).clamp(0.0, last)


def _interpolated(values: Tensor, places: Tensor) -> Tensor:
    below = places.detach().floor().long().clamp(0, values.shape[1] - 2)
    part = places - below
    return values.gather(1, below) * (1.0 - part) + values.gather(1, below + 1) * part
