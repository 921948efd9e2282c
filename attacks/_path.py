"""A search that goes step by step: what it asks next, and what it makes of the answer.

The steps of a path know nothing of where their rows come from. The same path is therefore walked by one front of targets
in step (:func:`follow`), and by the rows of many targets, levels and starts in one batch, each at a step of its own
(:mod:`._pool`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustbench_rad.attacks._search import Front


@dataclass(frozen=True, kw_only=True)
class Path(ABC):
    """The steps of a search from one or several starts.

    Whatever has to be remembered of a row from one step to the next is in ``front.own``: rows may leave between any two.

    Start 0 begins from the best plane known, later ones from random planes, whatever is known.

    Attributes:
        starts: Starts at each level, one after the other until the flip.
    """

    foreseen: ClassVar[bool] = False
    """Whether start 0 notes in ``front.live.notes[STOOD]`` the health of the plane it goes on from after its first step.
    It has then taken the same steps as from any best plane known whose health is higher."""

    starts: int = 1

    @abstractmethod
    def length(self, start: int) -> int:
        """How many planes are scored from a start."""

    @abstractmethod
    def begin(self, front: Front, start: int) -> None:
        """Put what is remembered into ``front.own``."""

    def gradient(self, start: int, number: int) -> bool:
        """Whether the gradient at plane ``number`` is needed; the last one's is not."""
        return number < self.length(start) - 1

    @abstractmethod
    def ask(self, front: Front, start: int, number: int) -> Tensor:
        """Planes ``(L, 1, ...)`` of the threat to be scored next, not yet stored."""

    def slope(self, front: Front) -> Tensor | None:
        """Sign of a gradient near by, to be kept with a plane whose own is not asked for."""
        del front
        return None

    @abstractmethod
    def learn(self, front: Front, start: int, number: int, health: Tensor, gradient: Tensor | None) -> None:
        """Take in the health ``(L,)`` of the planes, and the gradient there where it was asked for."""


STOOD = "stood"


@dataclass(kw_only=True, eq=False)
class Stride:
    """A front on its way from one start.

    Attributes:
        front: The rows; all are at the same step.
        path: The steps.
        start: Number of the start.
        number: Planes scored so far.
    """

    front: Front
    path: Path
    start: int
    number: int = 0

    def __post_init__(self) -> None:
        """Begin."""
        self.path.begin(self.front, self.start)

    @property
    def over(self) -> bool:
        """Whether no step or no row is left."""
        return self.number >= self.path.length(self.start) or not len(self.front)

    @property
    def needs_gradient(self) -> bool:
        """Whether the next answer has to come with a gradient."""
        return self.path.gradient(self.start, self.number)

    def ask(self) -> Tensor:
        """The next planes, as they may be stored."""
        return self.front.threat.store(self.path.ask(self.front, self.start, self.number))

    def learn(self, planes: Tensor, health: Tensor, gradient: Tensor | None) -> None:
        """Keep what is better, take the step, and drop the rows that are finished when it is time to."""
        front = self.front
        front.keep(planes, health, self.path.slope(front) if gradient is None else gradient.sign())
        self.path.learn(front, self.start, self.number, health, gradient)
        self.number += 1
        if self.number % front.compact_every == 0 or self.number == self.path.length(self.start):
            front.compact()


def follow(front: Front, path: Path) -> None:
    """Search all targets of a front in step, from one start after the other."""
    for start in range(path.starts):
        if len(front):
            follow_start(front, path, start)


def follow_start(front: Front, path: Path, start: int = 0) -> None:
    """Search from one start."""
    stride = Stride(front=front, path=path, start=start)
    while not stride.over:
        planes, oracle, targets = stride.ask(), front.oracle, front.live.targets
        if stride.needs_gradient:
            stride.learn(planes, *oracle.health_and_gradient(planes, targets))
        else:
            stride.learn(planes, oracle.health(planes, targets), None)
