"""How much of a known lesion a shift leaves to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


def seen_share(batch: Batch, visible: Tensor) -> Tensor:
    """Share ``(N,)`` of every lesion's pixels that is visible; NaN where no lesion is known.

    Args:
        batch: Its masks are used.
        visible: ``(N, 1, H, W)`` in [0, 1].
    """
    if batch.lesion is None:
        return torch.full((len(batch),), torch.nan, device=batch.device)
    lesion = batch.lesion.to(visible.dtype)
    return ((lesion * visible).sum((1, 2, 3)) / lesion.sum((1, 2, 3))).detach()  # 0 / 0 is NaN
