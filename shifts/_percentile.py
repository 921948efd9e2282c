"""Percentiles of images of any size, without interpolation between grey levels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def percentile(images: Tensor, share: float, where: Tensor) -> Tensor:
    """Smallest value ``(N,)`` that at least ``share`` of the pixels ``where`` do not exceed; NaN where there are none.

    No gradient flows through it.

    >>> values = torch.arange(10.0).reshape(1, 1, 2, 5)
    >>> percentile(values, 0.5, values > 0).item()
    5.0
    """
    found = []
    for image, mask in zip(images.detach(), where, strict=True):
        values = image[mask]
        place = min(max(math.ceil(share * len(values)), 1), len(values))
        found.append(values.kthvalue(place).values if place else torch.full((), torch.nan, device=images.device))
    return torch.stack(found)
