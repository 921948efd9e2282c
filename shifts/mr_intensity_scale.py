"""Another receiver gain: MR magnitude has no unit, so a scanner may well give twice the numbers of another.

    I' = g · I

Reference:
    Nyúl and Udupa 1999, On standardizing the MR image intensity scale, Magn Reson Med 42:1072.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_rad.conditions import Batch, Level
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._mr_continuous import ContinuousMrShift
from robustbench_rad.shifts._mr_inputs import tissue_mean


@register(
    id="shift.mr.intensity-scale",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("MR",),
    reference="Nyúl and Udupa 1999, On standardizing the MR image intensity scale",
    unit="× gain",
)
@dataclass(frozen=True, kw_only=True)
class MrIntensityScale(ContinuousMrShift):
    """An arbitrary gain that the pipeline in front of the model does not undo.

    A pipeline that scales every image by its own percentiles undoes a gain altogether; this level shows what happens where
    the percentiles are those of another image, or fixed. Measurements per level: ``gain_requested`` and ``gain``.

    Attributes:
        levels: Gains, mildest first; 1 is the image itself.
    """

    unit = "× gain"
    neutral = 1.0
    lowest = 0.01
    highest = 100.0

    levels: tuple[Level, ...] = ladder("× gain", "0.8", "1.25", "0.67", "1.5", "0.5", "2")

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is drawn."""

        def alter(gain: Value) -> Change:
            images = batch.images * per_case_factor(gain, batch.images)
            return Change(
                images=images,
                measured={
                    "gain_requested": filled(gain, batch.images),
                    "gain": tissue_mean(images) / tissue_mean(batch.images),
                },
            )

        return alter
