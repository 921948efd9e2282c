"""A walk down the sign of the gradient, inside an L-infinity ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._path import STOOD, Path, follow_start
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import LinfBall


@dataclass(frozen=True, kw_only=True)
class LinfWalk(Path):
    """Steps from the originals, down the slope there; later starts are at random planes of the ball.

    The last plane of a walk is scored without a gradient: a third of the price. Should the next level begin from it, it
    does so with the slope of the plane before.

    Attributes:
        fractions: Sizes of the steps as fractions of the radius; from a random plane, the first is left out.
        leap: The first step is a trial: go on from the better of its plane and the best one known.
    """

    foreseen: ClassVar[bool] = True

    fractions: Sequence[float]
    leap: bool = False

    def length(self, start: int) -> int:
        """One plane for each step; a random plane is scored in place of the first."""
        del start
        return len(self.fractions)

    def begin(self, front: Front, start: int) -> None:
        """Stand at the originals, or at the random planes."""
        assert isinstance(front.threat, LinfBall)
        low, high = front.threat.bounds()
        planes = front.live.centre
        if start:
            planes = planes + front.uniform("start", start) * front.threat.radii()
        front.own |= {"planes": planes, "slope": front.live.centre_slope, "low": low, "high": high}

    def ask(self, front: Front, start: int, number: int) -> Tensor:
        """One step down; a random plane is looked at first."""
        own = front.own
        planes = own.pop("planes")
        if not start or number:
            planes = planes.add(own["slope"] * front.threat.radii(), alpha=-self.fractions[number])
        own["planes"] = planes.clamp_(own["low"], own["high"])
        return own["planes"]

    def slope(self, front: Front) -> Tensor:
        """That of the plane before."""
        return front.own["slope"]

    def learn(self, front: Front, start: int, number: int, health: Tensor, gradient: Tensor | None) -> None:
        """Turn down the new slope; after a leap, go back where that was worse."""
        del health
        own, live = front.own, front.live
        if gradient is not None:
            own["slope"] = gradient.sign()
        if not start and number == 0:
            if STOOD in live.notes:  # without a leap, what is known makes no difference
                live.notes[STOOD] = live.health if self.leap else torch.full_like(live.health, -torch.inf)
            if self.leap:
                own["planes"], own["slope"] = live.best, live.best_slope


def walk(front: Front, fractions: Sequence[float], *, leap: bool = False) -> None:
    """Walk from the originals, down the slope there; see :class:`LinfWalk`."""
    follow_start(front, LinfWalk(fractions=fractions, leap=leap))
