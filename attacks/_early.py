"""What rows find that are searched ahead of their turn, until it is settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from robustbench_rad.attacks._path import STOOD
from robustbench_rad.attacks._queue import Queue, Row
from robustbench_rad.attacks._search import Progress


@dataclass(kw_only=True, eq=False)
class Early:
    """Rows of R targets, each on a progress of its own that begins where its target began.

    Attributes:
        progress: How far the targets have come, each up to its turn.
        queue: Whose turn it is.
        health: ``(R,)`` health where the targets began.
        non_finite: ``(R,)`` whether a margin was not finite there.
        home: ``(R, Q)`` number of the progress a row is on; -1: none. On the host.
        place: ``(R, Q)`` its row there. On the host.
    """

    progress: Progress
    queue: Queue
    health: Tensor
    non_finite: Tensor
    home: Tensor
    place: Tensor
    _homes: dict[int, Progress] = field(default_factory=dict)

    @classmethod
    def of(cls, progress: Progress, queue: Queue) -> Self:
        """Nothing ahead yet."""
        return cls(
            progress=progress,
            queue=queue,
            health=progress.health.clone(),
            non_finite=progress.non_finite.clone(),
            home=torch.full(queue.state.shape, -1),
            place=torch.zeros(queue.state.shape, dtype=torch.int64),
        )

    def admit(self, target: Tensor, row: Tensor) -> tuple[Progress, Tensor]:
        """A progress for new rows, and their places in it."""
        number, place = max(self._homes, default=-1) + 1, torch.arange(len(target))
        self._homes[number] = self._fresh(target)
        self.home[target, row], self.place[target, row] = number, place
        return self._homes[number], place

    def _fresh(self, target: Tensor) -> Progress:
        """The targets where they began."""
        progress, index = self.progress, target.to(self.progress.health.device)
        centre, slope, health = progress.centre[index], progress.centre_slope[index], self.health[index]
        nothing = torch.full_like(health, torch.nan)
        return Progress(
            targets=progress.targets.select(index),
            centre=centre,
            centre_slope=slope,
            best=centre.clone(),
            best_slope=slope.clone(),
            health=health,
            steps_to_flip=nothing,
            non_finite=self.non_finite[index],
            blind=progress.blind[index],
            notes={STOOD: nothing.clone()},
        )

    def settle(self, target: Tensor, row: Tensor) -> Tensor:
        """Take what rows ``(r,)`` have found whose turn it is; returns which count, on the host.

        A guess that does not hold does not count.
        """
        homes, holds = self.home[target, row], torch.zeros(len(target), dtype=torch.bool)
        for number in torch.unique(homes).tolist():
            here = homes == number
            place = self.place[target[here], row[here]]
            holds[here] = self._merge(self._homes[number], target[here], place, row[here])
        self.home[target, row] = -1
        return holds

    def _merge(self, home: Progress, target: Tensor, place: Tensor, row: Tensor) -> Tensor:
        """What was found ahead ``(r,)``, as if it was found now; whether the guess holds, on the host."""
        progress, device = self.progress, self.progress.health.device
        index, first = target.to(device), (row % self.queue.starts == 0).to(device)
        found, known = home.select(place.to(device)), progress.health[index]
        guessed = (found.notes[STOOD] < known) | (known == self.health[index])
        holds = guessed | ~first
        better = holds & (found.health < known)
        new = found.select(better.nonzero()[:, 0])
        progress.best[index[better]], progress.best_slope[index[better]] = new.best, new.best_slope
        progress.health[index] = torch.where(better, found.health, known)
        flipped = holds & ~progress.targets.select(index).wrong(known)
        steps = torch.where(flipped, found.steps_to_flip, progress.steps_to_flip[index])
        progress.steps_to_flip[index] = steps
        progress.non_finite[index] |= holds & found.non_finite
        return holds.cpu()

    def forget(self) -> None:
        """Let go of what was found ahead, where all of it is settled."""
        queue = self.queue
        kept = (queue.state == Row.RUNNING) | (queue.state == Row.ENDED)
        kept &= torch.arange(queue.rows) >= queue.turn[:, None]
        needed = set(torch.unique(self.home[kept]).tolist())
        self._homes = {number: home for number, home in self._homes.items() if number in needed}
