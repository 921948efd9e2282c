"""What the audits that cover anatomy share: the masks of a batch, and levels that have no meaning for any of its cases."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Level, Variant
from robustbench_rad.errors import DataError


def own_masks(batch: Batch) -> Tensor:
    """Masks of the shape of the images; all False where a case has none.

    Raises:
        DataError: Masks of another size than the images.
    """
    if batch.anatomy is None:
        return torch.zeros_like(batch.images, dtype=torch.bool)
    if batch.anatomy.shape != batch.images.shape:
        raise DataError(
            f"anatomy masks of cases {batch.case_ids[0]!r} …: expected the shape of the display images "
            f"{tuple(batch.images.shape)}, got {tuple(batch.anatomy.shape)}",
            hint="A mask must have the size of its image before both are brought to the model's input.",
        )
    return batch.anatomy.bool()


def nothing(levels: tuple[Level, ...], batch: Batch, reason: str) -> Iterator[Variant]:
    """Variants that say why there is nothing to score; NaN margins, so that no pass of the model is spent."""
    for level in levels:
        yield Variant(
            level=level,
            margins=torch.full_like(batch.labels, float("nan")),
            applicable=torch.zeros(len(batch), dtype=torch.bool, device=batch.device),
            reason=reason,
        )
