"""A CT number scale that has drifted: an offset, or a gain, on the Hounsfield scale.

    HU' = HU + o        or        HU' = HU · (1 + g)

Water is accepted within ±5 HU of 0 in quality control; beyond that a scanner is out of order, or a rescale slope is wrong.

Reference:
    American College of Radiology, Computed Tomography Quality Control Manual, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.continuous import per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import NO_LEVEL
from robustbench_rad.shifts._inputs import CLIPPED, clipped_hu, per_case, require_hounsfield, require_physical
from robustbench_rad.shifts._planes import reconstructed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.continuous import AtValues

_GAIN = "gain"


def _calibration_level(value: float | str) -> Level:
    words = str(value).split()
    gain = len(words) == 2 and words[0] == _GAIN
    number = float(words[-1] if gain else value)
    largest, unit = (20.0, "%") if gain else (200.0, "HU")
    if not abs(number) <= largest:
        raise ValueError(f"expected at most ±{largest:g} {unit}, got {value}")
    return Level(name=str(value), value=number, unit=unit)


@register(
    id="shift.ct.hu-calibration",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="American College of Radiology 2017, Computed Tomography Quality Control Manual",
    unit="HU",
)
@dataclass(frozen=True, kw_only=True)
class CtHuCalibration(Condition):
    """CT numbers that are off by an offset or a gain.

    Attributes:
        levels: Offsets in HU, of either sign; or gains in per cent as ``"gain 2"`` or ``"gain -0.5"``; 0 is the image itself.

    >>> [str(CtHuCalibration.level(value)) for value in (5, "gain -0.5")]
    ['5 HU', 'gain -0.5 %']
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = tuple(_calibration_level(offset) for offset in (3, 5, 10, 20, 40))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from an offset in HU, or from a gain such as ``"gain 2"`` in per cent."""
        return _calibration_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Rescale images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU; padding stays as it is, nothing is clipped.

        Measurements per level: ``water_hu`` and ``bone_error_hu``, what water (0 HU) has become and what is wrong at 1000 HU.

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        self._refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def continuous(self, batch: Batch) -> AtValues:
        """Values are offsets in HU; see :class:`robustbench_rad.continuous.Continuous`."""
        self._refuse(batch)
        whole = ~clipped_hu(batch)
        inside = reconstructed(batch.images) & per_case(whole, batch.images)

        def at(values: Tensor) -> Variant:
            images = batch.images + per_case_factor(values, batch.images)
            return Variant(
                level=NO_LEVEL,
                images=torch.where(inside, images, batch.images),
                applicable=whole,
                reason="" if bool(whole.all()) else CLIPPED,
            )

        return at

    def _refuse(self, batch: Batch) -> None:
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        whole = ~clipped_hu(batch)
        inside = reconstructed(batch.images) & per_case(whole, batch.images)
        applicable, reason = (None, "") if bool(whole.all()) else (whole, CLIPPED)
        known = batch.images.new_tensor([0.0, 1000.0])
        for level in self.levels:
            images = batch.images
            if level.value != 0.0:
                images = torch.where(inside, rescaled(images, level), images)
            water, bone = (rescaled(known, level) - known).tolist()
            measurements += [
                Measurement(
                    quantity=name,
                    values=torch.where(whole, torch.full((len(batch),), value, device=batch.device), torch.nan),
                    level=level.name,
                )
                for name, value in (("water_hu", water), ("bone_error_hu", bone))
            ]
            yield Variant(level=level, images=images, applicable=applicable, reason=reason)


def rescaled(images_hu: Tensor, level: Level) -> Tensor:
    """CT numbers on the scale of a level.

    >>> rescaled(torch.tensor([-1000.0, 0.0, 50.0]), CtHuCalibration.level("gain 2")).tolist()
    [-1020.0, 0.0, 51.0]
    """
    return images_hu * (1.0 + level.value / 100.0) if level.unit == "%" else images_hu + level.value
