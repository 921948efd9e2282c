"""Shifts of MR that can be differentiated by their level."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from robustbench_rad.shifts._continuous import ContinuousLadder
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._mr_inputs import MrShift, _on_scale

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.continuous import AtValues


class ContinuousMrShift(ContinuousLadder, MrShift):
    """Base of the MR shifts that take one value for all cases or one for each."""

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`; like the levels, from the true zero of the magnitude."""
        if batch.zero_signal is None:
            return super().continuous(batch)
        zero = per_case(batch.zero_signal, batch.images)
        from_zero = replace(batch, images=batch.images - zero, zero_signal=None)
        at = super().continuous(from_zero)
        return lambda values: _on_scale(at(values), batch, from_zero, zero)
