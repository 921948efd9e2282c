"""Another gain of an ultrasound scanner, in dB, with a slope over the depth (time gain compensation).

    I'(z) = I(z) + g · (1 - t + 2 t z) / DR,      z depth from 0 to 1, DR the dynamic range of the display

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
from robustbench_rad.shifts._us_display import UsShift, depth, in_sector, saturated_percent

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue


@register(
    id="shift.us.gain",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("US",),
    reference="Szabo 2014, Diagnostic Ultrasound Imaging: Inside Out",
    unit="dB",
)
@dataclass(frozen=True, kw_only=True)
class UsGain(ContinuousLadder, UsShift):
    """Too little or too much gain, growing with depth.

    Measurements per level: ``gain_db_requested``, ``gain_db`` (mean change over the sector, less where the display ends) and
    ``saturated_percent`` of the sector.

    Attributes:
        levels: Mean gain in dB, mildest first; 0 is the image itself.
        depth_slope: t: share of the gain that grows with depth; 0 for the same gain everywhere, 1 for none at the skin.
        dynamic_range_db: Range of echo amplitudes that the source shows from black to white.
    """

    unit = "dB"
    lowest = -60.0
    highest = 60.0

    levels: tuple[Level, ...] = ladder("dB", -3, 3, -8, 8, -15, 15)
    depth_slope: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1.0 <= self.depth_slope <= 1.0:
            raise ValueError(f"depth_slope: expected -1 to 1, got {self.depth_slope!r}")

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is drawn."""
        profile = 1.0 - self.depth_slope + 2.0 * self.depth_slope * depth(batch.images)

        def alter(gain_db: Value) -> Change:
            images = self.shown(
                self.decibel(batch.images) + per_case_factor(gain_db, batch.images) * profile, batch.images
            )
            reached = in_sector((images - batch.images) * self.dynamic_range_db, batch.images)
            measured = {
                "gain_db_requested": filled(gain_db, reached),
                "gain_db": reached,
                "saturated_percent": saturated_percent(images, batch.images),
            }
            return Change(images=images, measured=measured)

        return alter
