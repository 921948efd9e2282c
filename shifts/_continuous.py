"""One value per case, beside the loop over levels: what shifts share that can be differentiated by their level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level, Variant
from robustbench_rad.continuous import Value, unchanged_value
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, LadderShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.continuous import AtValues

NO_LEVEL = Level(name="", value=math.nan, unit="")

AlterValue = Callable[[Value], Change]
"""One value for all cases of the batch it was prepared for, or one for each."""


class ContinuousLadder(LadderShift):
    """Base of the shifts whose :meth:`prepare` makes an alteration that takes one value for all cases or one for each."""

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw and measure what the levels share."""
        raise NotImplementedError

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`."""
        self.refuse(batch)
        alter, own = self.prepare(batch), unchanged_value(self)

        def at(values: Tensor) -> Variant:
            change = alter(values)
            applicable = everywhere(batch) if change.applicable is None else change.applicable
            images = kept_where(batch, change.images, applicable & (values.detach() != own))
            return change.variant(NO_LEVEL, images, applicable)

        return at


def everywhere(batch: Batch) -> Tensor:
    """All of the cases, ``(N,)``."""
    return torch.ones(len(batch), dtype=torch.bool, device=batch.device)


def kept_where(batch: Batch, images: Tensor, changed: Tensor) -> Tensor:
    """Altered images, and those of the batch for the cases ``(N,)`` that are not changed."""
    return torch.where(per_case(changed, images), images, batch.images)
