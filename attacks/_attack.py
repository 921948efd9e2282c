"""From a search to a condition: all cases, findings, directions and levels of a batch in shared chunks.

Levels are climbed mildest first. What a smaller threat has reached is carried to the larger one, which contains it: a
flipped target stays flipped, and the worst margin never recovers. Robustness curves are therefore monotone by
construction.

Two ways to search a level:

- *to the flip*: only correct calls are attacked, and a target leaves at its first wrong call. Gives flip rates.
- *full search*: every labelled target is attacked through all steps, so that the margins rank: attacked AUROC is
  defined.

A new attack is one file: a frozen dataclass that says what it may do (:attr:`Attack.threat`), how far (its levels), how it
searches (:meth:`Attack.search`) and what that costs (:attr:`Attack.passes_per_level`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._mask import MaskPolicy, allowed_pixels
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._search import Front, Oracle, Progress, begin
from robustbench_rad.attacks._threat import Anything, Threat
from robustbench_rad.attacks._units import ladder, size_level, sizes
from robustbench_rad.conditions import Applied, Batch, Condition, Level, Measurement, ModelQuery, Space, State, Variant
from robustbench_rad.seeds import generator

MAX_ROWS = 256  # targets in the batch at once; changes no result
MAX_ROW_PIXELS = 2**24  # 64 MiB for each float32 tensor of planes a chunk holds
ACCELERATOR_COMPACTS_EVERY = 5  # steps; each compaction makes the host wait for the accelerator


@dataclass(frozen=True, kw_only=True)
class Attack(Condition):
    """Base of every attack: a ladder of threats, each searched for the worst margin.

    Attributes:
        levels: Sizes of the threat, strictly increasing within one unit.
        full_search: Names of the levels at which the search does not stop at the flip.
        mask: Which pixels may be touched, see :class:`~robustbench_rad.attacks._mask.MaskPolicy`.
        attack_space: ``display`` (the plane the model is shown) or ``stored`` (the file's own pixels: windowing and
            resizing lie inside the graph, and a flip survives writing the file). In a plan: ``space``.
    """

    aliases: ClassVar[Mapping[str, str]] = {"epsilon": "levels", "space": "attack_space"}
    threat: ClassVar[type[Threat]] = Anything
    nested: ClassVar[bool] = True
    """Whether a larger level contains a smaller one; if not, each level begins anew."""
    flips_linear: ClassVar[float] = 0.0
    """Share of the calls of a linear model that can be flipped which the search must flip; 1: it follows the gradient."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Measurements of the best plane that the search puts into :attr:`Front.notes`."""
    controls: ClassVar[tuple[str, ...]] = ()
    """Measurements that :meth:`control` makes of every target at every level, whatever the search finds."""

    levels: tuple[Level, ...] = ladder("1/255", "2/255", "4/255")
    full_search: tuple[str, ...] = ()
    mask: MaskPolicy = MaskPolicy.IMAGE
    attack_space: str = "display"

    def __post_init__(self) -> None:
        """Refuse a ladder that cannot be climbed, and words that are not known."""
        self.check_ladder()
        names = [level.name for level in self.levels]
        if isinstance(self.full_search, str) or not set(self.full_search) <= set(names):
            raise ValueError(f"full_search: expected a list of names out of {names}, got {self.full_search!r}")
        if self.mask not in list(MaskPolicy):
            raise ValueError(f"mask: expected one of {[str(policy) for policy in MaskPolicy]}, got {self.mask!r}")
        if self.attack_space not in ("display", "stored"):
            raise ValueError(f"space: expected 'display' or 'stored', got {self.attack_space!r}")
        object.__setattr__(self, "mask", MaskPolicy(self.mask))

    def check_ladder(self) -> None:
        """Refuse sizes that are not positive and increasing.

        Raises:
            ValueError: Says what was expected.
        """
        values = [level.value for level in self.levels]
        if not values or not all(0 < value < float("inf") for value in values):
            raise ValueError(f"levels: expected sizes above 0, got {values}")
        if any(low >= high for low, high in pairwise(values)) or len({level.unit for level in self.levels}) > 1:
            raise ValueError(f"levels: expected sizes of one unit from small to large without repeats, got {values}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a fraction of the range (``"1/255"``), HU (``"5 HU"``) or percent of foreground (``"2 %"``)."""
        return size_level(value)

    @property
    def works_in(self) -> Space:
        """Display space, or the file's own."""
        return Space.STORED if self.attack_space == "stored" else Space.DISPLAY

    @property
    def members(self) -> tuple[Attack, ...]:
        """Attacks that each climb the ladder on their own, cheap before dear; the worst of them counts."""
        return (self,)

    @property
    def winner(self) -> str:
        """Name of the measurement of which member was the worst, ``winner of`` and their names; "" without one."""
        return ""

    def oracle(self, query: ModelQuery, batch: Batch) -> Oracle:
        """The model as the searches see it: rounded to the file's bit depth, rounding passed straight through."""
        return Oracle(query=query, bits=batch.stored_bits)

    @property
    def passes_per_level(self) -> float:
        """Forward-equivalents per target and level when nothing flips (a backward counts two)."""
        raise NotImplementedError

    @property
    def planes_at_once(self) -> int:
        """Planes of one target that the search holds at once; decides how many targets a chunk has, and no result."""
        return 1

    def passes(self, findings: int) -> float:
        """Forward-equivalents per case when nothing flips: an upper bound."""
        return float(findings * (3 + len(self.levels) * self.passes_per_level))

    def self_test(self) -> str:
        """Solve a planted linear model with these options: the positive control, see :mod:`._sentinel`."""
        from robustbench_rad.attacks._sentinel import solve  # which makes attacks of its own

        return solve(self)

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """Size ``(N,)`` of the threat in the unit of its norm; 0 where it is less than a file can hold.

        Raises:
            PlanError: The level's unit does not fit the images.
        """
        return sizes(level, batch)

    def touchable(self, batch: Batch) -> tuple[Tensor | None, str]:
        """Pixels ``(N, 1, ...)`` that may be touched, None for all; and why a case may have none, in words."""
        return allowed_pixels(self.mask, batch)

    def why_none(self, level: Level, batch: Batch) -> str:
        """Why a level may have no reach for a case, in words."""
        return f"epsilon {level.name} is less than one grey level of {batch.stored_bits} stored bits"

    def control(self, front: Front, level: Level) -> Mapping[str, Tensor]:
        """A change of the same size that was not searched for, on all targets: measurement ``(L,)`` by name.

        What it scores does not count as found by the attack.
        """
        raise NotImplementedError

    def search(self, front: Front, level: Level) -> None:
        """Look for planes of low health, at one level, for all targets of the front."""
        raise NotImplementedError

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level.

        Variants hold, for each case and finding, the worst margin of a plane that a file of ``batch.stored_bits`` can
        hold, and never a better one than the clean margin; NaN where the call never flipped but the model's answer to
        some plane was not a finite number.

        Raises:
            TypeError: No model to query.
        """
        if query is None:
            raise TypeError(f"{self.id}: an attack needs a model to query")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, query, state, measurements), measurements=measurements)

    def _variants(
        self, batch: Batch, query: ModelQuery, state: State | None, measurements: list[Measurement]
    ) -> Iterator[Variant]:
        climb = Climb.of(self, batch, query, state)
        climb.run()
        measurements.extend(climb.record.measurements(query.findings))
        yield from climb.record.variants()


@dataclass(frozen=True, kw_only=True, eq=False)
class Climb:
    """One batch on its way up the ladder.

    Attributes:
        attack: How to search.
        batch: The cases.
        oracle: The model.
        state: What the attack has learned from the whole set.
        allowed: ``(N, 1, ...)`` pixels that may be touched; None: all.
        radii: ``(L, N)`` size of each level for each case; 0: it has no meaning there.
        record: Where the results go.
        compact_every: Steps between two compactions; changes no result.
        max_rows: Most targets in the batch at once; changes no result.
    """

    attack: Attack
    batch: Batch
    oracle: Oracle
    state: State | None
    allowed: Tensor | None
    radii: Tensor
    record: Record
    compact_every: int
    max_rows: int = field(default=MAX_ROWS)

    @classmethod
    def of(cls, attack: Attack, batch: Batch, query: ModelQuery, state: State | None) -> Climb:
        """Prepare: clean margins, mask, sizes."""
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        allowed, no_pixel = attack.touchable(batch)
        free = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
        free = free if allowed is None else allowed.flatten(1).any(1)
        radii = torch.stack([attack.reach(level, batch) * free for level in attack.levels])
        reasons = [
            _why(free, no_pixel, radius, attack.why_none(level, batch))
            for level, radius in zip(attack.levels, radii, strict=True)
        ]
        return cls(
            attack=attack,
            batch=batch,
            oracle=attack.oracle(query, batch),
            state=state,
            allowed=allowed,
            radii=radii,
            record=Record(
                levels=attack.levels,
                full_search=attack.full_search,
                clean=clean,
                labels=batch.labels,
                usable=radii > 0,
                reasons=reasons,
                also=(*attack.notes, *attack.controls, *([attack.winner] if attack.winner else [])),
            ),
            compact_every=1 if batch.device.type == "cpu" else ACCELERATOR_COMPACTS_EVERY,
        )

    def run(self) -> None:
        """Climb with all targets, a chunk at a time; those that no level would attack are left out."""
        targets = self.targets()
        if not self.record.full_search:
            targets = targets.select(~targets.wrong(self._clean_health(targets)))
        for index in targets.chunks(self._rows()):
            self._chunk(targets.select(index))

    def targets(self) -> Targets:
        """What is attacked: every labelled pair of case and finding, or column of the record."""
        return Targets.of(self.batch.labels, self.record.clean)

    def _rows(self) -> int:
        pixels = self.batch.images[:1].numel() * max(member.planes_at_once for member in self.attack.members)
        return max(1, min(self.max_rows, MAX_ROW_PIXELS // max(1, pixels)))

    def _clean_health(self, targets: Targets) -> Tensor:
        return self.record.clean[targets.case, targets.finding] * targets.side

    def _chunk(self, targets: Targets) -> None:
        record, where = self.record, (targets.case, targets.finding)
        clean = self._clean_health(targets)
        correct = ~targets.wrong(clean)
        start = begin(self.batch.images[targets.case], clean, targets, self.oracle)
        start.notes = {name: torch.full_like(clean, torch.nan) for name in self.attack.notes}
        record.zero_gradient[where] = start.blind.float()
        record.flipped_by_rounding[where] = (correct & start.wrong()).float()
        worst = Worst.of(targets, start, clean, len(record.levels))
        worst.notes |= {name: torch.full_like(worst.health, torch.nan) for name in self.attack.controls}
        members = self.attack.members
        for place, member in enumerate(members):
            self._ladder(member, start if len(members) == 1 else start.copy(), correct, worst, place)
        worst.write(record, where, self.attack)

    def _ladder(self, member: Attack, progress: Progress, correct: Tensor, worst: Worst, place: int) -> None:
        targets, record = worst.targets, self.record
        reached = clean = self._clean_health(targets)
        start = progress.copy() if not member.nested else progress
        for number, level in enumerate(record.levels):
            if not member.nested:
                progress, reached = start.copy(), clean
            full = level.name in record.full_search
            active = (correct | full) & (self.radii[number][targets.case] > 0)
            if not full:
                active &= ~targets.wrong(worst.health[number])  # a member before this one was enough
            if member.controls:
                looked_at = (correct | full) & (self.radii[number][targets.case] > 0)
                self._control(member, progress, looked_at, number, worst)
            self._level(member, progress, active, number, to_flip=not full)
            reached = torch.where(active, progress.health, reached)
            worst.take(number, place, reached, progress)

    def _level(self, member: Attack, progress: Progress, active: Tensor, number: int, *, to_flip: bool) -> None:
        progress.steps_to_flip = torch.full_like(progress.steps_to_flip, torch.nan)
        front = self._front(member, progress, active, number, to_flip=to_flip)
        if len(front):
            member.search(front, self.record.levels[number])
        front.compact(leave=True)

    def _control(self, member: Attack, progress: Progress, looked_at: Tensor, number: int, worst: Worst) -> None:
        """Measure on a front of its own, of whose planes none is kept; flips so far leave nobody out."""
        front = self._front(member, progress, looked_at, number, to_flip=False)
        if len(front):
            for name, values in member.control(front, self.record.levels[number]).items():
                worst.notes[name][number][front.index] = values

    def _front(self, member: Attack, progress: Progress, active: Tensor, number: int, *, to_flip: bool) -> Front:
        case = progress.targets.case
        return Front.of(
            progress,
            active,
            oracle=self.oracle,
            threat=member.threat(
                centre=progress.centre,
                radius=self.radii[number][case],
                bits=self.batch.stored_bits,
                allowed=None if self.allowed is None else self.allowed[case],
            ),
            to_flip=to_flip,
            compact_every=self.compact_every,
            source=partial(self._source, member),
            batch=self.batch,
            state=self.state,
        )

    def _source(self, member: Attack, case: int, *parts: object) -> torch.Generator:
        return generator(self.batch.device, self.batch.seeds[case], member.id, member.version, *parts)


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

    def take(self, number: int, place: int, health: Tensor, progress: Progress) -> None:
        """What the member at ``place`` has reached ``(R,)`` at a level."""
        better = health < self.health[number]
        self.health[number] = torch.where(better, health, self.health[number])
        self.winner[number] = torch.where(better & (health < self.stored), float(place), self.winner[number])
        self.steps[number] = torch.where(self.steps[number].isnan(), progress.steps_to_flip, self.steps[number])
        self.non_finite[number] |= progress.non_finite
        for name, values in progress.notes.items():
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


def _why(free: Tensor, no_pixel: str, radius: Tensor, no_reach: str) -> str:
    """Why a level has no meaning for some cases, in words; "" when it has for all."""
    if not bool(free.all()):
        return f"{no_pixel}: {int((~free).sum())} of {len(free)} case(s)"
    return "" if bool((radius > 0).all()) else no_reach
