"""How alike two saliency maps are: rank correlation and structural similarity, batched.

Maps are compared by strength, not by sign: absolute value, clipped at the 99th percentile, scaled to [0, 1]. A constant map
says nothing and is like nothing: the similarity is NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_rad.saliency.maps import blurred

NAN = float("nan")


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
    clip = torch.quantile(flat, percentile, dim=1, keepdim=True)
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

    >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])).item()
    0.5
    """
    a, b = (ranks(values.flatten(1)) for values in (one, other))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = a.square().sum(1).sqrt() * b.square().sum(1).sqrt()
    correlation = ((a * b).sum(1) / spread).float()
    unknown = one.flatten(1).isnan().any(1) | other.flatten(1).isnan().any(1) | (spread == 0)
    return torch.where(unknown, NAN, correlation)


def ranks(values: Tensor) -> Tensor:
    """Average ranks ``(N, M)`` float64, from 1.

    >>> ranks(torch.tensor([[5.0, 1.0, 5.0, 7.0]])).tolist()
    [[2.5, 1.0, 2.5, 4.0]]
    """
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values.contiguous(), right=False)
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + up_to + 1).double() / 2


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
    c1, c2 = 0.01**2, 0.03**2
    a, b = one.double(), other.double()

    def local(values: Tensor) -> Tensor:
        return blurred(values, sigma_px)

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    means = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (means * structure).flatten(1).mean(1).float()
