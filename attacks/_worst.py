"""The worst over the members of an attack, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._search import Progress

if TYPE_CHECKING:
    from robustbench_rad.attacks._attack import Attack


@dataclass(kw_only=True, eq=False)
class Worst:
    """The worst over the members of an attack, for R targets of a chunk at L levels.

    Attributes:
        targets: The targets.
        health: ``(L, R)`` lowest health.
        stored: ``(R,)`` health of the stored originals.
        winner: ``(L, R)`` place of the first member that reached it; NaN where no plane was worse than the original.
        steps: ``(L, R)`` planes that the member which flipped had scored at the level until the flip; NaN without one.
        non_finite: ``(L, R)`` whether any margin so far was not finite.
        notes: Measurements of the best planes: name → ``(L, R)``.
    """

    targets: Targets
    health: Tensor
    stored: Tensor
    winner: Tensor
    steps: Tensor
    non_finite: Tensor
    notes: dict[str, Tensor]

    @classmethod
    def of(cls, targets: Targets, start: Progress, clean: Tensor, levels: int) -> Worst:
        """Nothing found yet but the stored originals, and the originals before rounding ``(R,)``."""
        health = clean.repeat(levels, 1)
        nothing = torch.full_like(health, torch.nan)
        return cls(
            targets=targets,
            health=health,
            stored=start.health.clone(),
            winner=nothing,
            steps=nothing.clone(),
            non_finite=torch.zeros_like(health, dtype=torch.bool),
            notes={name: nothing.clone() for name in start.notes},
        )

    def take(
        self,
        number: int,
        place: int,
        health: Tensor,
        steps: Tensor,
        non_finite: Tensor,
        notes: Mapping[str, Tensor] | None = None,
    ) -> None:
        """What the member at ``place`` has reached ``(R,)`` at a level, and after how many planes the call was wrong."""
        better = health < self.health[number]
        self.health[number] = torch.where(better, health, self.health[number])
        self.winner[number] = torch.where(better & (health < self.stored), float(place), self.winner[number])
        self.steps[number] = torch.where(self.steps[number].isnan(), steps, self.steps[number])
        self.non_finite[number] |= non_finite
        for name, values in (notes or {}).items():
            self.notes[name][number] = torch.where(better, values, self.notes[name][number])

    def write(self, record: Record, where: tuple[Tensor, Tensor], attack: Attack) -> None:
        """Hand over to the record; a flip is counted at the mildest level only if larger levels contain smaller ones."""
        wrong = torch.stack([self.targets.wrong(health) for health in self.health])
        for number, health in enumerate(self.health):
            before = attack.nested and number > 0
            steps = torch.where(wrong[number - 1], torch.nan, self.steps[number]) if before else self.steps[number]
            record.steps_to_flip[number][where] = steps
            unsure = self.non_finite[number] & ~wrong[number]  # robust only as far as the model could be asked
            record.margins[number][where] = torch.where(unsure, torch.nan, health * self.targets.side)
            for name, values in self.notes.items():
                record.note(name, number, where, values[number])
            if attack.winner:
                record.note(attack.winner, number, where, self.winner[number])
        record.non_finite_margin[where] = self.non_finite.any(0).float()
