"""A smaller dynamic range of an ultrasound display: more contrast, and weak echoes go black.

    I' = max(0, 1 - (1 - I) · DR / DR')

Reference:
    Szabo 2014, Diagnostic Ultrasound Imaging: Inside Out, ch. 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._us_display import UsShift, saturated_percent

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue


@register(
    id="shift.us.dynamic-range",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("US",),
    reference="Szabo 2014, Diagnostic Ultrasound Imaging: Inside Out",
    unit="dB",
)
@dataclass(frozen=True, kw_only=True)
class UsDynamicRange(ContinuousLadder, UsShift):
    """Fewer decibels from black to white, the brightest echo kept white.

    A source that shows as few already is not applicable. Measurements per level: ``dynamic_range_db`` (exact) and
    ``saturated_percent``, the part of the sector that went black.

    Attributes:
        levels: Dynamic range in dB, mildest first; infinity stands for the image itself.
        dynamic_range_db: That of the source.
    """

    unit = "dB"
    neutral = float("inf")
    lowest = 5.0

    levels: tuple[Level, ...] = ladder("dB", 55, 50, 45, 40, 30)

    @property
    def source_value(self) -> float:
        """The range of the source, which changes nothing."""
        return self.dynamic_range_db

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is drawn."""

        def alter(target_db: Value) -> Change:
            images = (
                1.0 - (1.0 - batch.images) * (self.dynamic_range_db / per_case_factor(target_db, batch.images))
            ).clamp_min(0.0)
            shown_db = filled(target_db, batch.images)
            measured = {
                "dynamic_range_db": shown_db,
                "saturated_percent": saturated_percent(images, batch.images),
            }
            reason = f"the source shows {self.dynamic_range_db:g} dB, not more"
            return Change(images=images, measured=measured, applicable=shown_db < self.dynamic_range_db, reason=reason)

        return alter
