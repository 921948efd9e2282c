"""All cases, findings and directions of a batch on their way up the ladder of an attack, in shared chunks.

Levels are climbed mildest first. What a smaller threat has reached is carried to the larger one, which contains it: a
flipped target stays flipped, and the worst margin never recovers. Robustness curves are therefore monotone by
construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._pool import Capacity, Pool
from robustbench_rad.attacks._queue import Queue
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._search import Front, Oracle, Progress, begin
from robustbench_rad.attacks._worst import Worst
from robustbench_rad.conditions import Batch, ModelQuery, Space, State
from robustbench_rad.errors import ModelError
from robustbench_rad.seeds import generator

if TYPE_CHECKING:
    from robustbench_rad.attacks._attack import Attack

MAX_ROWS = 1024  # targets in the batch at once; changes no result
MAX_ROW_PIXELS = 2**24  # 64 MiB for each float32 tensor of planes a chunk holds
ACCELERATOR_ROW_PIXELS = 2**26  # there few rows cost as much as many: the longer the queue, the fuller its forwards
ACCELERATOR_AHEAD = 256  # rows a forward is filled up to ahead of their turn: as many as the harness sends at a time
ACCELERATOR_COMPACTS_EVERY = 5  # steps; each compaction makes the host wait for the accelerator
OFF_GRID = (
    "the image does not consist of the grey levels of its file (a DICOM window, scaling by percentiles, fractions of a HU), so "
    'no flip can be said to survive it; attack it in space = "display"'
)


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
        capacity: Rows on their way at once where levels and starts share the batch; None: by the device. Changes no result.
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
    capacity: Capacity | None = None

    @classmethod
    def of(cls, attack: Attack, batch: Batch, query: ModelQuery, state: State | None) -> Climb:
        """Prepare: clean margins, mask, sizes."""
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        allowed, no_pixel = attack.touchable(batch)
        on_grid = _on_grid(batch)
        free = torch.ones_like(on_grid) if allowed is None else allowed.flatten(1).any(1)
        reaches = [attack.reach(level, batch) for level in attack.levels]
        radii = torch.stack([reach * free * on_grid for reach in reaches])
        reasons = [
            _why((~on_grid, OFF_GRID), (~free, no_pixel), (reach <= 0, attack.why_none(level, batch)))
            for level, reach in zip(attack.levels, reaches, strict=True)
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
        capacity = replace(self.capacity) if self.capacity else self._capacity()
        for index in targets.chunks(self._rows()):
            self._fit(targets.select(index), capacity)

    def _fit(self, targets: Targets, capacity: Capacity) -> None:
        """A chunk, or its halves one after the other where the device has too little memory for its planes."""
        try:
            return self._chunk(targets, capacity)
        except torch.OutOfMemoryError as error:
            if len(targets) == 1 and capacity.rows == 1:
                raise ModelError(
                    "the device has too little memory to attack one image",
                    hint="Free the device, or run with --device cpu.",
                ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        capacity.halve()
        for index in targets.chunks((len(targets) + 1) // 2):
            self._fit(targets.select(index), capacity)
        return None

    def targets(self) -> Targets:
        """What is attacked: every labelled pair of case and finding, or column of the record."""
        return Targets.of(self.batch.labels, self.record.clean)

    def _rows(self) -> int:
        pixels = self.batch.images[:1].numel() * max(member.planes_at_once for member in self.attack.members)
        most = MAX_ROW_PIXELS if self.batch.device.type == "cpu" else ACCELERATOR_ROW_PIXELS
        return max(1, min(self.max_rows, most // max(1, pixels)))

    def _capacity(self) -> Capacity:
        """As many rows as there may be targets; on an accelerator, rows ahead of their turn too, to fill the forwards."""
        rows = self._rows()
        return Capacity(rows=rows, ahead=0 if self.batch.device.type == "cpu" else min(rows, ACCELERATOR_AHEAD))

    def _shares_levels(self, member: Attack) -> bool:
        """Whether the rows of a member's levels and starts can share the batch."""
        plain = member.nested and not member.controls and not member.notes
        return member.path is not None and plain and self.oracle.any_order

    def _clean_health(self, targets: Targets) -> Tensor:
        return self.record.clean[targets.case, targets.finding] * targets.side

    def _chunk(self, targets: Targets, capacity: Capacity) -> None:
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
            progress = start if len(members) == 1 else start.copy()
            if self._shares_levels(member):
                self._together(member, progress, correct, worst, place, capacity)
            else:
                self._ladder(member, progress, correct, worst, place)
        worst.write(record, where, self.attack)

    def _together(
        self, member: Attack, progress: Progress, correct: Tensor, worst: Worst, place: int, capacity: Capacity
    ) -> None:
        """All levels and starts in one batch."""
        targets, record, path = worst.targets, self.record, member.path
        assert path is not None
        to_flip = torch.tensor([level.name not in record.full_search for level in record.levels], device=correct.device)
        wrong = torch.stack([targets.wrong(health) for health in worst.health])  # a member before this one was enough
        wanted = (correct & ~wrong | ~to_flip[:, None]) & (self.radii[:, targets.case] > 0)
        pool = Pool(
            path=path,
            oracle=self.oracle,
            progress=progress,
            queue=Queue(starts=path.starts, wanted=wanted.cpu(), to_flip=to_flip.cpu(), wrong=progress.wrong().cpu()),
            capacity=capacity,
            make_front=partial(self._rows_front, member),
            reached=self._clean_health(targets).repeat(len(record.levels) + 1, 1),
        )
        pool.run()
        for number in range(len(record.levels)):
            worst.take(number, place, pool.reached[number + 1], pool.steps[number], pool.non_finite[number])

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
            worst.take(number, place, reached, progress.steps_to_flip, progress.non_finite, progress.notes)

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

    def _rows_front(self, member: Attack, progress: Progress, rows: Tensor, level: Tensor, to_flip: bool) -> Front:
        """Rows ``(n,)`` of a progress, each at a level of its own."""
        live = progress.select(rows)
        case = live.targets.case
        return Front(
            oracle=self.oracle,
            threat=member.threat(
                centre=live.centre,
                radius=self.radii[level, case],
                bits=self.batch.stored_bits,
                allowed=None if self.allowed is None else self.allowed[case],
            ),
            to_flip=to_flip,
            compact_every=self.compact_every,
            whole=progress,
            index=rows,
            live=live,
            done=torch.zeros_like(rows, dtype=torch.bool),
            source=partial(self._source, member),
            batch=self.batch,
            state=self.state,
        )

    def _source(self, member: Attack, case: int, *parts: object) -> torch.Generator:
        return generator(self.batch.device, self.batch.seeds[case], member.id, member.version, *parts)


def _on_grid(batch: Batch) -> Tensor:
    """Which images ``(N,)`` their own file can hold: in stored space a flip counts only where it survives the file."""
    held = batch.on_grid if batch.space is Space.STORED and batch.on_grid else (True,) * len(batch)
    return torch.tensor(held, dtype=torch.bool, device=batch.device)


def _why(*causes: tuple[Tensor, str]) -> str:
    """Why a level has no meaning for some cases, in words; "" when it has for all.

    Args:
        causes: Which cases ``(N,)`` each reason keeps out; the first that holds of a case counts.

    >>> _why((torch.tensor([True, False]), "no pixel"), (torch.tensor([True, True]), "too small"))
    'no pixel; too small'
    >>> _why((torch.tensor([True, True]), "no pixel"), (torch.tensor([True, True]), "too small"))
    'no pixel'
    """
    said: list[str] = []
    told = torch.zeros_like(causes[0][0])
    for out, reason in causes:
        said += [reason] * bool((out & ~told).any())
        told = told | out
    return "; ".join(said)
