"""What an attack has found, and how it is handed over: variants and measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.conditions import Level, Measurement, Variant


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What is known of N cases and K findings at each of L levels.

    Attributes:
        levels: L levels.
        full_search: Names of the levels searched beyond the flip.
        bits: Stored bit depth.
        clean: ``(N, K)`` margins of the originals.
        labels: ``(N, K)`` labels, NaN where unknown.
        margins: ``(L, N, K)`` worst margins; NaN where the label is unknown.
        steps_to_flip: ``(L, N, K)`` planes scored at a level until the flip; NaN without one.
        zero_gradient: ``(N, K)`` 1 where the gradient at the original was exactly zero or not a number.
        flipped_by_rounding: ``(N, K)`` 1 where storing the original is enough to make a correct call wrong.
        non_finite_margin: ``(N, K)`` 1 where the model gave no finite margin for some plane.
    """

    levels: tuple[Level, ...]
    full_search: Sequence[str]
    bits: int
    clean: Tensor
    labels: Tensor
    margins: Tensor = field(init=False)
    steps_to_flip: Tensor = field(init=False)
    zero_gradient: Tensor = field(init=False)
    flipped_by_rounding: Tensor = field(init=False)
    non_finite_margin: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the clean margins and nothing measured."""
        nothing = torch.full_like(self.clean, torch.nan)
        known = torch.where(self.labels.isnan(), nothing, self.clean)
        object.__setattr__(self, "margins", known.repeat(len(self.levels), 1, 1))
        object.__setattr__(self, "steps_to_flip", nothing.repeat(len(self.levels), 1, 1))
        for name in ("zero_gradient", "flipped_by_rounding", "non_finite_margin"):
            object.__setattr__(self, name, nothing.clone())

    def ball(self, level: Level) -> LinfBall:
        """The ball of a level; its radius is 0 where the level is below one stored grey level."""
        return LinfBall.storable(level.value, self.bits)

    def variants(self) -> Iterator[Variant]:
        """One variant per level."""
        for level, margins in zip(self.levels, self.margins, strict=True):
            if self.ball(level).radius:
                yield Variant(level=level, margins=margins, full_search=level.name in self.full_search)
            else:
                yield self._too_small(level)

    def _too_small(self, level: Level) -> Variant:
        return Variant(
            level=level,
            margins=torch.full_like(self.clean, torch.nan),
            applicable=torch.zeros(len(self.clean), dtype=torch.bool, device=self.clean.device),
            reason=f"epsilon {level.name} is less than one grey level of {self.bits} stored bits",
            full_search=level.name in self.full_search,
        )

    def measurements(self, findings: Sequence[str]) -> Iterator[Measurement]:
        """The numbers beside the margins, one column per quantity, finding and level."""
        for k, finding in enumerate(findings):
            for quantity in ("zero_gradient", "flipped_by_rounding", "non_finite_margin"):
                yield Measurement(quantity=quantity, values=getattr(self, quantity)[:, k], finding=finding)
            for level, planes in zip(self.levels, self.steps_to_flip, strict=True):
                yield Measurement(quantity="steps_to_flip", values=planes[:, k], level=level.name, finding=finding)
