"""Rows of many targets, levels and starts on their way in one batch, each at its own step, filled up as rows finish.

Rows that were admitted together are a *cohort*: a front of its own, in step. One forward asks for all cohorts at once. Rows
whose turn it is (see :mod:`._queue`) come first, and work on the progress of their target. Where the batch has room to
spare, rows are searched ahead of their turn, each on a progress of its own: later starts, whose random planes depend on
nothing before them, and the first start of a larger level on the guess that its first step is better than all that the
smaller levels find. At their turn they are settled: what they found counts as if it was found then, a guess that was wrong
is searched anew, and what a flip has answered is forgotten. What is recorded is therefore the same for any capacity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from robustbench_rad.attacks._early import Early
from robustbench_rad.attacks._objective import Objective
from robustbench_rad.attacks._path import Path, Stride
from robustbench_rad.attacks._queue import Queue, Row
from robustbench_rad.attacks._search import Front, Oracle, Progress

REFILL = 8  # new rows are admitted by the eighth of the capacity: fewer, larger cohorts

MakeFront = Callable[[Progress, Tensor, Tensor, bool], Front]
"""A front of the rows ``(n,)`` of a progress at levels ``(n,)``; whether they leave at their flip."""


@dataclass(kw_only=True)
class Capacity:
    """How many rows are on their way at once; changes no result.

    Attributes:
        rows: At most.
        ahead: Up to here, forwards are filled with rows ahead of their turn, which a flip before them may prove pointless;
            0: none, so that no row is paid for in vain.
    """

    rows: int
    ahead: int = 0

    def halve(self) -> None:
        """Make do with half."""
        self.rows, self.ahead = max(1, self.rows // 2), self.ahead // 2


@dataclass(kw_only=True, eq=False)
class Cohort:
    """Rows in step.

    Attributes:
        stride: Where they are.
        pairs: ``(n, 2)`` target and row, of those still in the front; on the host.
        index: ``(n,)`` their rows of the front's whole; on the host.
        early: Whether they are ahead of their turn.
    """

    stride: Stride
    pairs: Tensor
    index: Tensor
    early: bool

    def leavers(self) -> tuple[Tensor, Tensor]:
        """Pairs ``(n, 2)`` that have left the front since the last time, and their rows of its whole."""
        front = self.stride.front
        if self.stride.over:
            front.compact(leave=True)
        if len(front) == len(self.pairs):
            return self.pairs[:0], self.index[:0]
        stay = torch.isin(self.index, front.index.cpu())
        gone = self.pairs[~stay], self.index[~stay]
        self.pairs, self.index = self.pairs[stay], self.index[stay]
        return gone

    def drop(self, out: Tensor) -> None:
        """Take rows ``(n,)`` out of the front at once."""
        front = self.stride.front
        front.done = front.done | out.to(front.done.device)
        front.compact()


@dataclass(kw_only=True, eq=False)
class Pool:
    """One chunk of R targets on its way up the ladder.

    Attributes:
        path: The steps.
        oracle: The model.
        progress: How far the targets have come, each up to its turn.
        queue: Whose turn it is.
        capacity: How many rows at once.
        make_front: Makes a front.
        reached: ``(L + 1, R)`` health after each level, that of the originals before; levels not wanted change nothing.
        steps: ``(L, R)`` planes scored at the level until the flip; NaN without one.
        non_finite: ``(L, R)`` whether any margin was not finite up to the level.
    """

    path: Path
    oracle: Oracle
    progress: Progress
    queue: Queue
    capacity: Capacity
    make_front: MakeFront
    reached: Tensor
    steps: Tensor = field(init=False)
    non_finite: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Note where the targets begin."""
        progress, device = self.progress, self.progress.health.device
        self.steps = torch.full_like(self.reached[1:], torch.nan)
        self.non_finite = torch.zeros_like(self.steps, dtype=torch.bool)
        self._wanted = self.queue.wanted.to(device)
        self._early = Early.of(progress, self.queue)
        self._cohorts: list[Cohort] = []
        lengths = [self.path.length(start) for start in range(self.path.starts)]
        self._scored = list(accumulate(lengths, initial=0))
        self._may = torch.tensor([self.path.foreseen] + [True] * (self.path.starts - 1))

    def run(self) -> None:
        """Search everything."""
        self.progress.steps_to_flip = torch.full_like(self.progress.steps_to_flip, torch.nan)
        self._take_turns()
        self._admit()
        while self._cohorts:
            self._step()
            self._collect()
            self._admit()

    def _admit(self) -> None:
        """Rows at their turn, then, up to ``capacity.ahead``, rows ahead of it."""
        running = sum(len(cohort.pairs) for cohort in self._cohorts)
        for most, early in ((self.capacity.rows, False), (min(self.capacity.ahead, self.capacity.rows), True)):
            free = most - running
            if free <= 0 or (running and free * REFILL < most):
                continue
            pairs = self.queue.early(free, self._may) if early else self.queue.due(free)
            running += len(pairs)
            for part in self._alike(pairs):
                self._begin(part, early=early)

    def _alike(self, pairs: Tensor) -> Sequence[Tensor]:
        """Pairs of one start, all to the flip or all not."""
        starts = self.queue.starts
        kind = pairs[:, 1] % starts * 2 + self.queue.to_flip[pairs[:, 1] // starts]
        return [pairs[kind == one] for one in torch.unique(kind)]

    def _begin(self, pairs: Tensor, *, early: bool) -> None:
        target, row = pairs.unbind(1)
        level, start = row // self.queue.starts, int(row[0] % self.queue.starts)
        self.queue.state[target, row] = Row.RUNNING
        whole, index = self._early.admit(target, row) if early else (self.progress, target)
        device = self.progress.health.device
        front = self.make_front(whole, index.to(device), level.to(device), bool(self.queue.to_flip[level[0]]))
        front.scored = self._scored[start]
        stride = Stride(front=front, path=self.path, start=start)
        self._cohorts.append(Cohort(stride=stride, pairs=pairs, index=index, early=early))

    def _step(self) -> None:
        """Ask for all cohorts at once: those that need a gradient, then the others; together where that costs no more."""
        strides = [cohort.stride for cohort in self._cohorts]
        with_gradient = [s for s in strides if s.needs_gradient]
        without = [s for s in strides if not s.needs_gradient]
        if with_gradient and without and sum(len(s.front) for s in strides) <= self.capacity.ahead:
            with_gradient, without = strides, []
        for asking, gradient in ((with_gradient, True), (without, False)):
            if asking:
                self._ask(asking, gradient=gradient)

    def _ask(self, strides: Sequence[Stride], *, gradient: bool) -> None:
        planes = [stride.ask() for stride in strides]
        targets: Sequence[Objective] = [stride.front.live.targets for stride in strides]
        joined = planes[0] if len(planes) == 1 else torch.cat(planes)
        objective = targets[0] if len(targets) == 1 else type(targets[0]).joined(targets)
        sizes = [len(part) for part in planes]
        if gradient:
            answers = [torch.split(part, sizes) for part in self.oracle.health_and_gradient(joined, objective)]
            for stride, part, health, slope in zip(strides, planes, *answers, strict=True):
                stride.learn(part, health, slope if stride.needs_gradient else None)
        else:
            healths = torch.split(self.oracle.health(joined, objective), sizes)
            for stride, part, health in zip(strides, planes, healths, strict=True):
                stride.learn(part, health, None)

    def _collect(self) -> None:
        """Note which rows have left, let turns pass, and drop what a flip has made pointless."""
        gone = [(cohort, *cohort.leavers()) for cohort in self._cohorts]
        if not any(len(pairs) for _, pairs, _ in gone):
            return
        for cohort, pairs, index in gone:
            if len(pairs) and cohort.early:
                self._end(cohort.stride.front.whole, pairs, index)
        at_turn = [pairs for cohort, pairs, _ in gone if not cohort.early]
        if at_turn and len(target := torch.cat(at_turn)[:, 0]):
            self._read_wrong(target)
            self._pass(target, self.queue.turn[target] + 1)
        self._take_turns()
        while self._drop_pointless():
            self._take_turns()
        self._cohorts = [cohort for cohort in self._cohorts if len(cohort.pairs)]

    def _end(self, home: Progress, pairs: Tensor, index: Tensor) -> None:
        """Rows that have ended ahead of their turn, less those that were dropped."""
        target, row = pairs.unbind(1)
        running = self.queue.state[target, row] == Row.RUNNING
        self.queue.state[target[running], row[running]] = Row.ENDED
        self.queue.flips[target, row] = home.wrong().cpu()[index]

    def _read_wrong(self, target: Tensor) -> None:
        index = target.to(self.progress.health.device)
        self.queue.wrong[target] = self.progress.targets.select(index).wrong(self.progress.health[index]).cpu()

    def _take_turns(self) -> None:
        """Leave out what is not needed, and settle what has ended, until every turn is at a row to be searched."""
        queue = self.queue
        while True:
            targets = queue.open()
            unneeded = queue.unneeded(targets)
            ended = ~unneeded & (queue.states(targets) == Row.ENDED)
            skip, settle = targets[unneeded], targets[ended]
            if not len(skip) and not len(settle):
                return
            self._pass(skip, (queue.turn[skip] // queue.starts + 1) * queue.starts)
            if len(settle):
                self._settle(settle)

    def _pass(self, target: Tensor, turn: Tensor) -> None:
        """Move on to a row ``(r,)`` of the same level or the first of the next; a level that ends is recorded."""
        queue, progress = self.queue, self.progress
        before, after = queue.turn[target], turn
        queue.state[target, before] = Row.SETTLED
        queue.turn[target] = after
        closed = after // queue.starts > before // queue.starts
        if not bool(closed.any()):
            return
        device = progress.health.device
        index, level = target[closed].to(device), (before[closed] // queue.starts).to(device)
        health = torch.where(self._wanted[level, index], progress.health[index], self.reached[level, index])
        self.reached[level + 1, index] = health
        self.steps[level, index] = progress.steps_to_flip[index]
        self.non_finite[level, index] = progress.non_finite[index]
        progress.steps_to_flip[index] = torch.nan

    def _settle(self, target: Tensor) -> None:
        """Take what the rows whose turn it is have found; a guess that does not hold waits to be searched."""
        queue = self.queue
        row = queue.turn[target]
        holds = self._early.settle(target, row)
        queue.state[target[~holds], row[~holds]] = Row.WAITING
        self._read_wrong(target[holds])
        self._pass(target[holds], row[holds] + 1)

    def _drop_pointless(self) -> bool:
        """Rows ahead that a flip has answered leave at once; returns whether others that had finished left with them."""
        queue, more = self.queue, False
        for cohort in self._cohorts:
            if not cohort.early or not len(cohort.pairs):
                continue
            out = queue.pointless(cohort.pairs)
            if bool(out.any()):
                target, row = cohort.pairs[out].unbind(1)
                past = row < queue.turn[target]
                queue.state[target[past], row[past]] = Row.SETTLED
                queue.state[target[~past], row[~past]] = Row.WAITING
                cohort.drop(out)
                pairs, index = cohort.leavers()
                self._end(cohort.stride.front.whole, pairs, index)
                more |= len(pairs) > int(out.sum())
        self._early.forget()
        return more
