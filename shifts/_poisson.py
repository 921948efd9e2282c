"""Poisson counts as a smooth coupling to normal noise.

A count is drawn by its quantile at Φ(z). One normal field z then gives counts for every mean: levels share their draw, the
law is that of Poisson, and for large means the count becomes mean + √mean · z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_EXACT_BELOW = 25.0
_LARGEST = 128  # a mean of 25 reaches it with probability 1e-46


def poisson_quantile(mean: Tensor, z: Tensor) -> Tensor:
    """Counts of a Poisson law at the probability Φ(z).

    Exact for means below 25; above, the Cornish-Fisher expansion ``λ + √λ z + (z² - 1) / 6 + (z - z³) / (72 √λ)``, whose
    moments are those of Poisson to 0.1 %.

    Args:
        mean: λ > 0, any shape.
        z: Standard normal values of the same shape.

    Returns:
        Counts ≥ 0, float32; whole numbers below a mean of 25.

    >>> poisson_quantile(torch.tensor([0.5, 3.0, 1e4]), torch.tensor([0.0, 0.0, 1.0])).tolist()
    [0.0, 3.0, 10100.0]
    """
    root = mean.sqrt()
    counts = mean + root * z + (z**2 - 1.0) / 6.0 + (z - z**3) / (72.0 * root)
    counts = counts.clamp_min(0.0)
    few = mean < _EXACT_BELOW
    counts[few] = _search(mean[few].double(), torch.special.ndtr(z[few].double()))
    return counts


def _search(mean: Tensor, probability: Tensor) -> Tensor:
    """Smallest k with P(count ≤ k) ≥ probability, by bisection; P(count ≤ k) = Q(k + 1, mean)."""
    low, high = torch.zeros_like(mean), torch.full_like(mean, _LARGEST - 1)
    for _ in range(_LARGEST.bit_length()):
        middle = torch.floor((low + high) / 2.0)
        reached = torch.special.gammaincc(middle + 1.0, mean) >= probability
        high = torch.where(reached, middle, high)
        low = torch.where(reached, low, torch.minimum(middle + 1.0, high))
    return high.float()
