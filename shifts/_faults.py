"""Faults that are there or not: levels are names, not strengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_rad.conditions import Level
from robustbench_rad.shifts._any_image import AnyImageShift

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter, Change


def named_level(value: float | str, known: Sequence[str]) -> Level:
    """Make a level from the name of a fault; its value is its place among the known ones, from 1.

    Raises:
        ValueError: Not a known name.

    >>> named_level("up-down", ("left-right", "up-down")).value
    2.0
    """
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {value!r}")
    return Level(name=str(value), value=float(known.index(str(value)) + 1), unit="")


def named_levels(known: Sequence[str]) -> tuple[Level, ...]:
    """All of them."""
    return tuple(named_level(name, known) for name in known)


@dataclass(frozen=True, kw_only=True)
class FaultShift(AnyImageShift):
    """Base of categorical shifts; there is no neutral level."""

    neutral: ClassVar[float | None] = None
    faults: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of a fault."""
        return named_level(value, cls.faults)

    def prepare(self, batch: Batch) -> Alter:
        """Nothing is drawn."""
        return lambda value: self.fault(batch, self.faults[int(value) - 1])

    def fault(self, batch: Batch, name: str) -> Change:
        """The batch with one fault."""
        raise NotImplementedError
