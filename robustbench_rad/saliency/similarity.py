"""How alike two saliency maps are: rank correlation and structural similarity, batched.

Maps are compared by strength, not by sign: absolute value, clipped at the 99th percentile, scaled to [0, 1]. A constant map
says nothing and is like nothing: the similarity is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_rad.saliency.maps import blurred

NAN = float("nan")
C1, C2 = 0.01**2, 0.03**2


def normalised(found: Tensor, percentile: float = 0.99) -> Tensor:
    """Absolute maps, clipped at a percentile and divided by it.

    Values are rounded to 1/1000: ranks would otherwise order the rounding dust of flat regions, which differs from one
    batch size to another.

    Args:
        found: ``(N, ...)``.
        percentile: In (0, 1].

    Returns:
        ``(N, ...)`` in [0, 1]; NaN throughout for a constant map.

    >>> normalised(torch.tensor([[-4.0, 0.0, 2.0], [3.0, 3.0, 3.0]]), percentile=1.0).tolist()
    [[1.0, 0.0, 0.5], [nan, nan, nan]]
    """
    flat = found.float().abs().flatten(1)
    low, top = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    constant = ~(top - low > 1e-5 * top)
    clip = flat.kthvalue(math.ceil(percentile * flat.shape[1]), dim=1, keepdim=True).values
    clip = torch.where(clip > low, clip, top)  # a map of a few bright pixels keeps them
    scaled = (flat / clip).clamp(max=1.0).round(decimals=3)
    return torch.where(constant, NAN, scaled).reshape(found.shape)


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Rank correlation of maps, ties at their average rank.

    Args:
        one: ``(N, ...)``.
        other: The same shape.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where either map is constant or holds NaN.

    >>> round(spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])).item(), 4)
    0.5
    """
    return (_rank_vectors(one) * _rank_vectors(other)).sum(1).float()


def spearman_between(one: Tensor, other: Tensor) -> Tensor:
    """Rank correlation ``(N, R)`` of each of N maps with each of R."""
    return (_rank_vectors(one) @ _rank_vectors(other).T).float()


def _rank_vectors(found: Tensor) -> Tensor:
    """Ranks ``(N, M)`` centred and of length 1, so that a correlation is a dot product; NaN for a constant map."""
    flat = found.flatten(1)
    centred = ranks(flat) - (flat.shape[1] + 1) / 2
    length = centred.square().sum(1, keepdim=True).sqrt()
    unknown = flat.isnan().any(1, keepdim=True) | (length == 0)
    return torch.where(unknown, NAN, centred / length)


def ranks(values: Tensor) -> Tensor:
    """Average ranks ``(N, M)`` float32, from 1; exact up to eight million places.

    >>> ranks(torch.tensor([[5.0, 1.0, 5.0, 7.0]])).tolist()
    [[2.5, 1.0, 2.5, 4.0]]
    """
    ordered, order = values.sort(dim=1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    starts = torch.ones_like(order, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = starts.roll(-1, dims=1)
    first = place.where(starts, 0).cummax(1).values
    last = place.where(ends, values.shape[1]).flip(1).cummin(1).values.flip(1)
    tied = (first + last + 2).float() / 2
    return torch.empty_like(tied).scatter_(1, order, tied)


def ssim(one: Tensor, other: Tensor, sigma_px: float = 1.5) -> Tensor:
    """Structural similarity of maps in [0, 1], averaged over the image.

    ``(2 m1 m2 + C1)(2 s12 + C2) / ((m1² + m2² + C1)(s1² + s2² + C2))`` with Gaussian local moments, C1 = 0.01²,
    C2 = 0.03².

    Args:
        one: ``(N, H, W)`` or ``(N, D, H, W)`` in [0, 1]; volumes slice by slice.
        other: The same shape.
        sigma_px: Standard deviation of the Gaussian window.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where either map holds NaN.

    Reference: Wang, Bovik, Sheikh, Simoncelli 2004, doi:10.1109/TIP.2003.819861.

    >>> ssim(torch.eye(8)[None], torch.eye(8)[None]).item()
    1.0
    """
    return _structural(_Local.of(one, sigma_px), _Local.of(other, sigma_px))


def ssim_between(one: Tensor, other: Tensor, sigma_px: float = 1.5) -> Tensor:
    """Structural similarity ``(N, R)`` of each of N maps with each of R; see :func:`ssim`."""
    a = _Local.of(one, sigma_px)
    columns = [_structural(a, _Local.of(each.unsqueeze(0), sigma_px)) for each in other.unbind()]
    return torch.stack(columns, dim=1)


@dataclass(frozen=True, kw_only=True)
class _Local:
    """Maps with their Gaussian local mean and variance."""

    values: Tensor
    mean: Tensor
    variance: Tensor
    sigma_px: float

    @classmethod
    def of(cls, values: Tensor, sigma_px: float) -> _Local:
        mean = blurred(values, sigma_px)
        variance = blurred(values.square(), sigma_px) - mean.square()
        return cls(values=values, mean=mean, variance=variance, sigma_px=sigma_px)


def _structural(a: _Local, b: _Local) -> Tensor:
    covariance = blurred(a.values * b.values, a.sigma_px) - a.mean * b.mean
    means = (2 * a.mean * b.mean + C1) / (a.mean.square() + b.mean.square() + C1)
    return (means * (2 * covariance + C2) / (a.variance + b.variance + C2)).flatten(1).mean(1)
