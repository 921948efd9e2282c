"""From a search to a condition: all cases, findings, directions and levels of a batch in shared chunks.

Levels are climbed mildest first. What a smaller radius has reached is carried to the larger one, which contains it: a
flipped target stays flipped, and the worst margin never recovers. Robustness curves are therefore monotone by
construction.

Two ways to search a level:

- *to the flip*: only correct calls are attacked, and a target leaves at its first wrong call. Gives flip rates.
- *full search*: every labelled target is attacked through all steps, so that the margins rank: attacked AUROC is
  defined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._schedule import Budget, StepRule
from robustbench_rad.attacks._search import Oracle, Progress, Walk, begin
from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.conditions import (
    Applied,
    Batch,
    Condition,
    Level,
    Measurement,
    ModelQuery,
    State,
    Variant,
    fraction,
)
from robustbench_rad.seeds import generator

MAX_ROW_PIXELS = 2**24  # 64 MiB for each float32 tensor of planes a chunk holds
ACCELERATOR_COMPACTS_EVERY = 5  # steps; each compaction makes the host wait for the accelerator


def ladder(*values: float | str) -> tuple[Level, ...]:
    """Levels from fractions of the display range.

    >>> ladder("1/255")[0].value == 1 / 255
    True
    """
    return tuple(Level(name=str(value), value=fraction(value), unit="of display range") for value in values)


@dataclass(frozen=True, kw_only=True)
class LinfAttack(Condition):
    """Base of the sign-gradient attacks: a ladder of radii, searched with one budget.

    Attributes:
        levels: Radii as fractions of the display range, strictly increasing, in (0, 1].
        full_search: Names of the levels at which the search does not stop at the flip.
    """

    aliases: ClassVar[Mapping[str, str]] = {"epsilon": "levels"}

    levels: tuple[Level, ...] = ladder("1/255", "2/255", "4/255")
    full_search: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a ladder that cannot be climbed."""
        radii = [level.value for level in self.levels]
        if not radii or not all(0 < radius <= 1 for radius in radii):
            raise ValueError(f"epsilon: expected fractions of the display range above 0 and up to 1, got {radii}")
        if any(low >= high for low, high in pairwise(radii)):
            raise ValueError(f"epsilon: expected levels from small to large without repeats, got {radii}")
        names = [level.name for level in self.levels]
        if isinstance(self.full_search, str) or not set(self.full_search) <= set(names):
            raise ValueError(f"full_search: expected a list of names out of {names}, got {self.full_search!r}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number or a fraction such as ``"1/255"``."""
        return ladder(value)[0]

    @property
    def budget(self) -> Budget:
        """How hard to search."""
        raise NotImplementedError

    def passes(self, findings: int) -> float:
        """Forward-equivalents per case when nothing flips: an upper bound."""
        return float(findings * (3 + len(self.levels) * self.budget.passes_per_level))

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level.

        Variants hold, for each case and finding, the worst margin of a plane that a file of ``batch.stored_bits`` can
        hold, and never a better one than the clean margin; NaN where the call never flipped but the model's answer to
        some plane was not a finite number.

        Raises:
            TypeError: No model to query.
        """
        del state
        if query is None:
            raise TypeError(f"{self.id}: an attack needs a model to query")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, query, measurements), measurements=measurements)

    def _variants(self, batch: Batch, query: ModelQuery, measurements: list[Measurement]) -> Iterator[Variant]:
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        record = Record(
            levels=self.levels, full_search=self.full_search, bits=batch.stored_bits, clean=clean, labels=batch.labels
        )
        compact_every = 1 if batch.device.type == "cpu" else ACCELERATOR_COMPACTS_EVERY
        climb = Climb(
            name=(self.id, self.version),
            batch=batch,
            oracle=Oracle(query=query, bits=batch.stored_bits),
            budget=replace(self.budget, compact_every=compact_every),
            record=record,
        )
        climb.run()
        measurements.extend(record.measurements(query.findings))
        yield from record.variants()


@dataclass(frozen=True, kw_only=True, eq=False)
class Climb:
    """One batch on its way up the ladder.

    Attributes:
        name: Id and version of the attack, for the seeds of its random starts.
        batch: The cases.
        oracle: The model.
        budget: How hard to search.
        record: Where the results go.
    """

    name: tuple[str, int]
    batch: Batch
    oracle: Oracle
    budget: Budget
    record: Record

    def run(self) -> None:
        """Climb with all targets, a chunk at a time; those that no level would attack are left out."""
        targets = Targets.of(self.batch.labels, self.record.clean)
        if not self.record.full_search:
            targets = targets.select(~targets.wrong(self._clean_health(targets)))
        for index in targets.chunks(self._rows()):
            self._chunk(targets.select(index))

    def _rows(self) -> int:
        pixels = self.batch.images[:1].numel()
        return max(1, min(self.budget.max_rows, MAX_ROW_PIXELS // max(1, pixels)))

    def _clean_health(self, targets: Targets) -> Tensor:
        return self.record.clean[targets.case, targets.finding] * targets.side

    def _chunk(self, targets: Targets) -> None:
        record, where = self.record, (targets.case, targets.finding)
        reached = self._clean_health(targets)
        correct = ~targets.wrong(reached)
        progress = begin(self.batch.images[targets.case], reached, targets, self.oracle)
        record.zero_gradient[where] = progress.blind.float()
        record.flipped_by_rounding[where] = (correct & progress.wrong()).float()
        for number, level in enumerate(record.levels):
            ball = record.ball(level)
            if ball.radius:
                full = level.name in record.full_search
                active = correct | full
                self._level(progress, active, ball, to_flip=not full)
                reached = torch.where(active, progress.health, reached)
                record.steps_to_flip[number][where] = progress.steps_to_flip
            unsure = progress.non_finite & ~targets.wrong(reached)  # robust only as far as the model could be asked
            record.margins[number][where] = torch.where(unsure, torch.nan, reached * targets.side)
        record.non_finite_margin[where] = progress.non_finite.float()

    def _level(self, progress: Progress, active: Tensor, ball: LinfBall, *, to_flip: bool) -> None:
        progress.steps_to_flip = torch.full_like(progress.steps_to_flip, torch.nan)
        fractions, leap = self.budget.fractions, self.budget.step_rule is StepRule.DECAYING
        for start in range(1 + self.budget.random_starts):
            walk = Walk.start(
                progress,
                active,
                oracle=self.oracle,
                ball=ball,
                to_flip=to_flip,
                compact_every=self.budget.compact_every,
                scored=start * self.budget.steps,
            )
            if start == 0:
                walk.go(fractions, leap=leap)
            elif len(walk):
                walk.jump(self._draws(walk.live.targets.case, start), fractions[1:])

    def _draws(self, cases: Tensor, start: int) -> Tensor:
        """Uniform planes in [-1, 1], one per case: levels and findings of a case share the draw."""
        draws = {case: self._draw(case, start) for case in set(cases.tolist())}
        return torch.stack([draws[case] for case in cases.tolist()])

    def _draw(self, case: int, start: int) -> Tensor:
        device = self.batch.device
        source = generator(device, self.batch.seeds[case], *self.name, "start", start)
        return torch.rand(self.batch.images.shape[1:], generator=source, device=device) * 2 - 1
