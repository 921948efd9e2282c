"""Percentiles of images of any size, without interpolation between grey levels."""

from __future__ import annotations

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
        values = image[mask].sort().values
        place = min(max(int(-(-share * len(values) // 1)) - 1, 0), len(values) - 1) if len(values) else 0
        found.append(values[place] if len(values) else torch.full((), torch.nan, device=images.device))
    return torch.stack(found)
