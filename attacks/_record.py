"""What an attack has found, and how it is handed over: variants and measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_rad.conditions import Level, Measurement, Variant

ALWAYS = ("zero_gradient", "flipped_by_rounding", "non_finite_margin")


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """What is known of N cases and K findings at each of L levels.

    Attributes:
        levels: L levels.
        full_search: Names of the levels searched beyond the flip.
        clean: ``(N, K)`` margins of the originals.
        labels: ``(N, K)`` labels, NaN where unknown.
        usable: ``(L, N)`` whether a level has meaning for a case: it is not less than a grey level, the mask leaves pixels.
        reasons: L reasons why it has none for some.
        also: Names of more measurements by level; they are there even if no case has one.
        margins: ``(L, N, K)`` worst margins; NaN where the label is unknown.
        steps_to_flip: ``(L, N, K)`` planes scored at a level until the flip; NaN without one.
        zero_gradient: ``(N, K)`` 1 where the gradient at the original was exactly zero or not a number.
        flipped_by_rounding: ``(N, K)`` 1 where storing the original is enough to make a correct call wrong.
        non_finite_margin: ``(N, K)`` 1 where the model gave no finite margin for some plane.
        extra: More measurements by level: quantity → ``(L, N, K)``; NaN where there is none.
    """

    levels: tuple[Level, ...]
    full_search: Sequence[str]
    clean: Tensor
    labels: Tensor
    usable: Tensor
    reasons: Sequence[str]
    also: Sequence[str] = ()
    margins: Tensor = field(init=False)
    steps_to_flip: Tensor = field(init=False)
    zero_gradient: Tensor = field(init=False)
    flipped_by_rounding: Tensor = field(init=False)
    non_finite_margin: Tensor = field(init=False)
    extra: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with the clean margins and nothing measured."""
        nothing = torch.full_like(self.clean, torch.nan)
        known = torch.where(self.labels.isnan(), nothing, self.clean)
        object.__setattr__(self, "margins", known.repeat(len(self.levels), 1, 1))
        object.__setattr__(self, "steps_to_flip", nothing.repeat(len(self.levels), 1, 1))
        for name in ALWAYS:
            object.__setattr__(self, name, nothing.clone())
        self.extra.update({name: torch.full_like(self.margins, torch.nan) for name in self.also})

    def note(self, quantity: str, number: int, where: tuple[Tensor, Tensor], values: Tensor) -> None:
        """Keep a measurement of one level for the pairs of case and finding at ``where``."""
        empty = torch.full_like(self.margins, torch.nan)
        self.extra.setdefault(quantity, empty)[number][where] = values.to(empty.dtype)

    def variants(self) -> Iterator[Variant]:
        """One variant per level."""
        for number, (level, margins) in enumerate(zip(self.levels, self.margins, strict=True)):
            usable = self.usable[number]
            yield Variant(
                level=level,
                margins=torch.where(usable[:, None], margins, torch.nan),
                applicable=usable,
                reason=self.reasons[number],
                full_search=level.name in self.full_search,
            )

    def measurements(self, findings: Sequence[str]) -> Iterator[Measurement]:
        """The numbers beside the margins, one column per quantity, finding and level."""
        by_level = {"steps_to_flip": self.steps_to_flip, **self.extra}
        for k, finding in enumerate(findings):
            for quantity in ALWAYS:
                yield Measurement(quantity=quantity, values=getattr(self, quantity)[:, k], finding=finding)
            for quantity, values in by_level.items():
                for level, planes in zip(self.levels, values, strict=True):
                    yield Measurement(quantity=quantity, values=planes[:, k], level=level.name, finding=finding)
