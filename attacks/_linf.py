"""Attacks whose every pixel stays within a radius of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._threat import LinfBall, Threat, whole_grey_levels
from robustbench_rad.attacks._units import OF_RANGE
from robustbench_rad.conditions import Batch, Level


@dataclass(frozen=True, kw_only=True)
class LinfAttack(Attack):
    """Base of the attacks inside an L-infinity ball.

    Attributes:
        levels: Radii as fractions of the display range, in (0, 1], or in HU, or in percent of the foreground's range.
    """

    threat: ClassVar[type[Threat]] = LinfBall

    def check_ladder(self) -> None:
        """Refuse radii that are not positive and increasing, or beyond the whole range.

        Raises:
            ValueError: Says what was expected.
        """
        radii = [level.value for level in self.levels]
        fractions = all(level.unit == OF_RANGE for level in self.levels)
        if not radii or (fractions and not all(0 < radius <= 1 for radius in radii)):
            raise ValueError(f"epsilon: expected fractions of the display range above 0 and up to 1, got {radii}")
        super().check_ladder()

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """The largest whole number of grey levels within the level, ``(N,)``; 0 below one."""
        return whole_grey_levels(super().reach(level, batch).clamp(max=1.0), batch.stored_bits)
