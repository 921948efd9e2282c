"""Mirrored images: a display flip, a film read from the wrong side, situs inversus.

Worked in physical space, where a volume has its own slice axis and masks lie on the native grid; a mirror commutes with the
model's windowing and symmetric resizing, so nothing is lost by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.registry import register
from robustbench_rad.shifts._faults import FaultShift, named_levels
from robustbench_rad.shifts._ladder import Change

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

_AXES = {"left-right": -1, "up-down": -2, "slices": -3}
_FLIPS = tuple(_AXES)


@register(
    id="shift.geometry.flip",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
@dataclass(frozen=True, kw_only=True)
class GeometryFlip(FaultShift):
    """A mirrored image or volume.

    A finding of one side (left effusion) changes its meaning when left and right are exchanged, so it is not scored there.

    Attributes:
        levels: ``left-right``, ``up-down``, and ``slices`` for volumes.
        side_specific: Findings of one side, which a ``left-right`` flip leaves without a label.
    """

    faults: ClassVar[tuple[str, ...]] = _FLIPS

    levels: tuple[Level, ...] = named_levels(_FLIPS[:2])
    side_specific: tuple[str, ...] = ()

    def bound(self, plan: Plan) -> Self:
        """Check the names of the findings.

        Raises:
            PlanError: A side-specific finding is not one of the plan's.
        """
        for finding in self.side_specific:
            if finding not in plan.model.names:
                raise PlanError(
                    f"[checks.{self.id!r}] side_specific: {finding!r} is not a finding of the model",
                    hint=suggestion(finding, plan.model.names),
                )
        return self

    def fault(self, batch: Batch, name: str) -> Change:
        """Mirror images and masks along one axis."""
        axis = _AXES[name]
        excluded = self.side_specific if name == "left-right" else ()
        if axis == -3 and (batch.images.ndim == 4 or batch.images.shape[2] == 1):
            return Change(images=batch.images, applicable=_none(batch), reason="there is one slice only")
        sided = f"findings of one side are not scored: {', '.join(excluded)}" if excluded else ""
        return Change(
            images=batch.images.flip(axis),
            anatomy=_mirrored(batch.anatomy, axis),
            lesion=_mirrored(batch.lesion, axis),
            excluded_findings=excluded,
            reason=sided,
        )


def _none(batch: Batch) -> Tensor:
    return torch.zeros(len(batch), dtype=torch.bool, device=batch.device)


def _mirrored(mask: Tensor | None, axis: int) -> Tensor | None:
    return None if mask is None else mask.flip(axis)
