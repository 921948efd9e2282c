"""Exact answers for a health that is linear in the pixels, inside the box and the pixels that may be touched.

For a gradient ``g`` the change that lowers ``g . d`` most for its size runs along a path: every pixel against the sign of
its gradient by ``min(t, room)`` (L-infinity), ``min(t |g|, room)`` (L2), or pixel after pixel to the edge of the box, by
falling ``|g|`` (L1) or ``|g| room`` (L0). On linear models the answers are exact; elsewhere they are where a search begins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_rad.attacks._threat import Threat

NEWTON_STEPS = 30  # at most as many as there are pixels; a handful is what it takes
SETTLED = 1e-6  # relative: a smaller step is the noise of a float32 sum


def room(planes: Tensor, gradient: Tensor, threat: Threat) -> Tensor:
    """How far each pixel can go against its gradient before it leaves the box; 0 where it may not be touched."""
    down, up = planes - threat.centre.clamp(max=0.0), threat.centre.clamp(min=1.0) - planes
    free = torch.where(gradient > 0, down, up).clamp_min(0.0) * (gradient != 0)
    return free if threat.allowed is None else free * threat.allowed


def waterline(rates: Tensor, caps: Tensor, total: Tensor) -> Tensor:
    """The smallest ``t`` ``(R,)`` with ``sum min(t rates, caps) = total``; infinite where all caps are not enough.

    The sum is concave and piecewise linear in ``t``, so Newton's method from 0 never goes too far and ends exactly, without
    sorting the pixels. A row that has settled stays as it is, whatever its companions do.

    >>> round(waterline(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([1.75])).item(), 3)
    0.75
    """
    t = torch.zeros_like(total)
    for _ in range(NEWTON_STEPS):
        filled = t[:, None] * rates
        free = filled < caps
        lacking = total - torch.minimum(filled, caps).sum(1)
        step = lacking / (rates * free).sum(1).clamp_min(1e-30)
        moved = (step > SETTLED * t) & free.any(1)
        t = torch.where(moved, t + step, t)
        if t.device.type == "cpu" and not bool(moved.any()):  # elsewhere the host would have to wait
            break
    return torch.where(caps.sum(1) < total, torch.inf, t)


def steepest(norm: str, gradient: Tensor, reach: Tensor, radius: Tensor) -> Tensor:
    """The change of at most ``radius`` that lowers a linear health most.

    Args:
        norm: ``linf``, ``l2`` (RMS), ``l1`` (mean) or ``l0`` (pixels).
        gradient: ``(R, 1, ...)``.
        reach: What :func:`room` gave.
        radius: ``(R,)``.

    Returns:
        ``(R, 1, ...)``.

    >>> g, free = torch.tensor([[[[3.0, -1.0]]]]), torch.ones(1, 1, 1, 2)
    >>> steepest("l1", g, free, torch.tensor([0.75])).tolist()
    [[[[-1.0, 0.5]]]]
    """
    slope, free = gradient.abs().flatten(1), reach.flatten(1)
    match norm:
        case "linf":
            amount = torch.minimum(radius[:, None], free)
        case "l2":
            squared = radius.square() * slope.shape[1]
            t = waterline(slope.square(), free.square(), squared).sqrt()
            amount = _along(t, slope, free)
        case "l1":
            amount = _prefix(slope, free, torch.ones_like(slope), radius * slope.shape[1])
        case _:
            amount = _prefix(slope * free, free, None, radius)
    return -gradient.sign() * amount.reshape(gradient.shape)


def nearest(norm: str, gradient: Tensor, reach: Tensor, health: Tensor) -> Tensor:
    """The smallest change that takes a linear health down by ``health`` ``(R,)``; as far as the box allows where none does.

    >>> g, free = torch.tensor([[[[3.0, -1.0]]]]), torch.ones(1, 1, 1, 2)
    >>> nearest("linf", g, free, torch.tensor([2.0])).tolist()
    [[[[-0.5, 0.5]]]]
    """
    slope, free = gradient.abs().flatten(1), reach.flatten(1)
    gain, needed = slope * free, health.clamp_min(0.0)
    match norm:
        case "linf":
            amount = torch.minimum(waterline(slope, gain, needed)[:, None], free)
        case "l2":
            amount = _along(waterline(slope.square(), gain, needed), slope, free)
        case "l1":
            amount = _prefix(slope, free, slope, needed)
        case _:
            amount = _until(gain, free, needed)
    return -gradient.sign() * amount.reshape(gradient.shape)


def _along(t: Tensor, slope: Tensor, free: Tensor) -> Tensor:
    return torch.where(slope > 0, torch.minimum(t[:, None] * slope.clamp_min(1e-30), free), 0.0)


def _prefix(rank: Tensor, free: Tensor, price: Tensor | None, total: Tensor) -> Tensor:
    """Take pixels by falling rank to the end of their room until ``total`` is spent, the last one in part.

    ``price``: what a unit of change costs; None: every pixel costs 1 and is taken whole.
    """
    order = rank.argsort(dim=1, descending=True, stable=True)
    ordered = free.gather(1, order)
    if price is None:
        place = torch.arange(ordered.shape[1], device=ordered.device)
        taken = torch.where(place < total[:, None], ordered, 0.0)
    else:
        unit = price.gather(1, order).double()
        left = total.double()[:, None] - _before(unit * ordered)
        taken = torch.minimum((left / unit.clamp_min(1e-30)).clamp_min(0.0), ordered.double()).to(ordered.dtype)
    return torch.zeros_like(free).scatter_(1, order, taken)


def _until(gain: Tensor, free: Tensor, needed: Tensor) -> Tensor:
    """Take whole pixels by falling gain until the gains reach what is needed."""
    order = gain.argsort(dim=1, descending=True, stable=True)
    missing = _before(gain.gather(1, order).double()) < needed.double()[:, None]
    return torch.zeros_like(free).scatter_(1, order, torch.where(missing, free.gather(1, order), 0.0))


def _before(ordered: Tensor) -> Tensor:
    """Sum of all that stand before."""
    return ordered.cumsum(1) - ordered
