"""The loop over the levels that most shifts share: prepare once per batch, alter once per level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Variant, fraction
from robustbench_rad.shifts._inputs import per_case

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State


def bounded_level(value: float | str, unit: str, lowest: float, highest: float, *, what: str = "") -> Level:
    """Make a level from a number or a fraction.

    Args:
        value: What a plan says.
        unit: Unit of the number.
        lowest: Least number that has meaning.
        highest: Largest number that has meaning.
        what: What the number is, with its article and unit; "" where the unit says it.

    Raises:
        ValueError: Not a number, or not within the bounds; says what was expected and what came.

    >>> str(bounded_level("0.5", "mm", 0, 50, what="a length in mm"))
    '0.5 mm'
    """
    number = fraction(value)
    if not lowest <= number <= highest:
        expected = f"{what} from {lowest:g} to {highest:g}" if what else f"{lowest:g} to {highest:g} {unit}".rstrip()
        raise ValueError(f"expected {expected}, got {value}")
    return Level(name=str(value), value=number, unit=unit)


def ladder(unit: str, *values: float | str) -> tuple[Level, ...]:
    """Levels of one unit, mildest first.

    >>> [str(level) for level in ladder("dB", -3, 15)]
    ['-3 dB', '15 dB']
    """
    return tuple(bounded_level(value, unit, -math.inf, math.inf) for value in values)


def uniforms(batch: Batch, count: int, *parts: object) -> Tensor:
    """Numbers in [0, 1), ``(N, count)``, drawn for each case on the CPU: few parameters, the same on every device."""
    draws = [torch.rand(count, generator=seeds.generator("cpu", seed, *parts)) for seed in batch.seeds]
    return torch.stack(draws).to(batch.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """What one level makes of a batch.

    Attributes:
        images: Altered images; those of cases where the level has no meaning are not used.
        measured: Values ``(N,)`` by quantity.
        applicable: ``(N,)`` boolean, or None: for all cases.
        reason: Why some cases are not applicable.
        attributes: DICOM keyword to text, as the header of the altered image would say.
        case_attributes: The same for each case.
        spacing_mm: ``(N, 2)`` or ``(N, 3)`` spacing of the altered images where it is another.
        anatomy: Masks of the anatomy where the level moves them.
        lesion: The same for the lesions.
        excluded_findings: Findings that the level has no meaning for.
    """

    images: Tensor
    measured: Mapping[str, Tensor] = field(default_factory=dict)
    applicable: Tensor | None = None
    reason: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    case_attributes: tuple[Mapping[str, str], ...] = ()
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None
    excluded_findings: tuple[str, ...] = ()

    def variant(self, level: Level, images: Tensor, applicable: Tensor | None) -> Variant:
        """The level with these images ``(N, 1, ...)``, of which those of the cases ``(N,)`` count, and what else it changes."""
        return Variant(
            level=level,
            images=images,
            applicable=applicable,
            reason=self.reason,
            attributes=self.attributes,
            case_attributes=self.case_attributes,
            spacing_mm=self.spacing_mm,
            anatomy=self.anatomy,
            lesion=self.lesion,
            excluded_findings=self.excluded_findings,
        )


Alter = Callable[[float], Change]
"""One level, named by its value, applied to the batch it was prepared for."""

AlterLevel = Callable[[Level], Change]
"""The same for a level that is more than its value."""


@dataclass(frozen=True, kw_only=True)
class LadderShift(Condition):
    """Base of shifts that are prepared once per batch and then applied level by level.

    A case where a level has no meaning comes back unchanged. The neutral level gives the very tensor of the batch.
    """

    unit: ClassVar[str] = ""
    what: ClassVar[str] = ""
    """What a level's number is, with its article and unit, for the message that refuses one; "" where the unit says it."""
    neutral: ClassVar[float | None] = 0.0
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = math.inf
    measures_neutral: ClassVar[bool] = False
    """Whether the neutral level has measurements, and a meaning for some cases only, like every other level."""

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number between the lowest and the highest that have meaning.

        Raises:
            ValueError: Not a number, or outside of them.
        """
        return bounded_level(value, cls.unit, cls.lowest, cls.highest, what=cls.what)

    def refuse(self, batch: Batch) -> None:
        """Raise for a batch that is not of the shift's domain."""
        raise NotImplementedError

    def prepare(self, batch: Batch) -> Alter:
        """Draw and measure what the levels share."""
        raise NotImplementedError

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """The same as :meth:`prepare`, for shifts whose levels are more than their values."""
        alter = self.prepare(batch)
        return lambda level: alter(level.value)

    def about(self, batch: Batch) -> list[Measurement]:
        """Measurements that belong to no level."""
        del batch
        return []

    def is_neutral(self, level: Level) -> bool:
        """Whether a level gives back the very images."""
        return level.value == self.neutral

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Apply every level; see the class for the unit, the shapes, and what is measured.

        Raises:
            DataError: Another space, unit or shape than the shift works in.
            ImageError: Pixels outside its domain; names the cases.
        """
        del query, state
        self.refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        alter = self.prepare_levels(batch)
        measurements += self.about(batch)
        for level in self.levels:
            neutral = self.is_neutral(level)
            if neutral and not self.measures_neutral:
                yield Variant(level=level, images=batch.images)
                continue
            change = alter(level)
            measurements += _measurements(change, level)
            if neutral:
                yield Variant(level=level, images=batch.images, applicable=change.applicable, reason=change.reason)
            else:
                yield _variant(change, level, batch)


def _measurements(change: Change, level: Level) -> Iterator[Measurement]:
    """What was measured, NaN for the cases where the level has no meaning."""
    for name, values in change.measured.items():
        kept = values if change.applicable is None else torch.where(change.applicable, values, torch.nan)
        yield Measurement(quantity=name, values=kept, level=level.name)


def _variant(change: Change, level: Level, batch: Batch) -> Variant:
    """The level with the images as they were for the cases where it has no meaning."""
    images = change.images
    if change.applicable is not None:
        images = torch.where(per_case(change.applicable, images), images, batch.images)
    return change.variant(level, images, change.applicable)
