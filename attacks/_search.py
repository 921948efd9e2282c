"""The sign-gradient search over many targets at once.

Every plane is rounded to the stored bit depth *before* the model sees it, and the gradient is taken there and passed
straight through the rounding. A margin the search has seen is therefore the margin of a plane a file can hold: nothing
has to be confirmed afterwards and no flip is lost to rounding.

Finished targets are frozen at once and leave the batch when it is next compacted. What a target ends with depends on
its own planes only, so the interval of compaction, the size of the batch and the companions change only the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._threat import LinfBall, stored
from robustbench_rad.conditions import ModelQuery

CHANGING = ("best", "best_slope", "health", "steps_to_flip", "non_finite")


@dataclass(kw_only=True, eq=False)
class Progress:
    """How far the search has come on R targets, across levels.

    Attributes:
        targets: The targets.
        centre: ``(R, 1, ...)`` stored originals, the centre of every ball.
        centre_slope: Sign of the gradient of the health there.
        best: The plane of the lowest health so far.
        best_slope: Sign of the gradient there.
        health: ``(R,)`` the lowest health so far, that of the unrounded original included.
        steps_to_flip: ``(R,)`` planes scored at the present level until the first wrong call; NaN before.
        non_finite: ``(R,)`` whether the model gave a margin that is not finite on any plane.
        blind: ``(R,)`` whether the gradient at the original was exactly zero everywhere or not a number anywhere.
    """

    targets: Targets
    centre: Tensor
    centre_slope: Tensor
    best: Tensor
    best_slope: Tensor
    health: Tensor
    steps_to_flip: Tensor
    non_finite: Tensor
    blind: Tensor

    def select(self, index: Tensor) -> Self:
        """A copy of the targets at ``index``."""
        names = ("centre", "centre_slope", *CHANGING, "blind")
        return type(self)(targets=self.targets.select(index), **{name: getattr(self, name)[index] for name in names})

    def merge(self, index: Tensor, other: Progress) -> None:
        """Write back what :meth:`select` took out."""
        for name in CHANGING:
            getattr(self, name)[index] = getattr(other, name)

    def wrong(self) -> Tensor:
        """Whether a plane that flips the call is known."""
        return self.targets.wrong(self.health)


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """The model as the search sees it.

    Attributes:
        query: The model.
        bits: Bit depth planes are rounded to.
    """

    query: ModelQuery
    bits: int

    def health(self, planes: Tensor, targets: Targets) -> Tensor:
        """Health ``(R,)`` of the stored planes."""
        return targets.health(self.query.margins(stored(planes, self.bits)))

    def health_and_gradient(self, planes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Health ``(R,)`` of the stored planes, and its gradient there."""
        weights = targets.weights(len(self.query.findings))
        margins, gradient = self.query.margins_and_gradient(stored(planes, self.bits), weights)
        return targets.health(margins), gradient


def begin(images: Tensor, health: Tensor, targets: Targets, oracle: Oracle) -> Progress:
    """Look at the stored originals.

    Args:
        images: ``(R, 1, ...)`` originals, one row per target.
        health: ``(R,)`` health of the originals before rounding.
        targets: R targets.
        oracle: The model.
    """
    centre = stored(images, oracle.bits)
    at_centre, gradient = oracle.health_and_gradient(centre, targets)
    flat, slope = gradient.flatten(1), gradient.sign()
    return Progress(
        targets=targets,
        centre=centre,
        centre_slope=slope,
        best=centre.clone(),
        best_slope=slope.clone(),
        health=torch.where((at_centre < health) & at_centre.isfinite(), at_centre, health),
        steps_to_flip=torch.full_like(health, torch.nan),
        non_finite=~at_centre.isfinite(),
        blind=~(flat != 0).any(1) | flat.isnan().any(1),
    )


@dataclass(kw_only=True, eq=False)
class Walk:
    """One walk of the live targets through a ball.

    Attributes:
        oracle: The model.
        ball: Where planes may lie.
        to_flip: Whether a target leaves at its first wrong call.
        compact_every: Steps between two compactions; 1 costs a host synchronisation per step on an accelerator.
        whole: All targets of the chunk; results are written back to it.
        index: ``(L,)`` rows of ``whole`` that are still in the batch.
        live: Their progress.
        done: ``(L,)`` finished, waiting for the next compaction.
        planes: ``(L, 1, ...)`` where the walk stands.
        slope: Sign of the gradient there.
        low: Lowest planes allowed; clamping to ``low`` and ``high`` projects.
        high: Highest planes allowed.
        scored: Planes scored before, at this level.
    """

    oracle: Oracle
    ball: LinfBall
    to_flip: bool
    compact_every: int
    whole: Progress
    index: Tensor
    live: Progress
    done: Tensor
    planes: Tensor
    slope: Tensor
    low: Tensor
    high: Tensor
    scored: int

    @classmethod
    def start(
        cls,
        whole: Progress,
        active: Tensor,
        *,
        oracle: Oracle,
        ball: LinfBall,
        to_flip: bool,
        compact_every: int,
        scored: int,
    ) -> Self:
        """Stand at the originals of the ``active`` ``(R,)`` targets, less those already wrong when flips are sought."""
        index = (active & ~whole.wrong() if to_flip else active).nonzero()[:, 0]
        live = whole.select(index)
        low, high = ball.bounds(live.centre)
        return cls(
            oracle=oracle,
            ball=ball,
            to_flip=to_flip,
            compact_every=compact_every,
            whole=whole,
            index=index,
            live=live,
            done=torch.zeros_like(index, dtype=torch.bool),
            planes=live.centre,
            slope=live.centre_slope,
            low=low,
            high=high,
            scored=scored,
        )

    def __len__(self) -> int:
        return len(self.index)

    def go(self, fractions: Sequence[float], *, leap: bool = False) -> None:
        """Take steps of these fractions of the radius, down the slope.

        Args:
            fractions: One per step.
            leap: The first step is a trial: go on from the better of its plane and the best one known.
        """
        for number, fraction in enumerate(fractions, start=1):
            if not len(self):
                return
            planes = self.planes.add(self.slope, alpha=-fraction * self.ball.radius)
            self.look(planes.clamp_(self.low, self.high), last=number == len(fractions))
            if leap and number == 1:
                self.planes, self.slope = self.live.best, self.live.best_slope
            if number % self.compact_every == 0:
                self.compact()
        self.compact(leave=True)

    def jump(self, draws: Tensor, fractions: Sequence[float]) -> None:
        """Go from the originals to random planes of the ball, and take steps from there.

        Args:
            draws: ``(L, 1, ...)`` in [-1, 1], the place in the ball.
            fractions: One per step.
        """
        planes = self.planes.add(draws, alpha=self.ball.radius)
        self.look(planes.clamp_(self.low, self.high), last=not fractions)
        self.compact()
        self.go(fractions)

    def look(self, planes: Tensor, *, last: bool = False) -> None:
        """Score planes, keep the best, and stand there.

        The last plane of a walk is scored without a gradient: a third of the price. Should the next level begin from
        it, it does so with the slope of the plane before.
        """
        if last:
            health, slope = self.oracle.health(planes, self.live.targets), self.slope
        else:
            health, gradient = self.oracle.health_and_gradient(planes, self.live.targets)
            slope = gradient.sign()
        self.planes, self.slope, self.scored = planes, slope, self.scored + 1
        self._keep(health)

    def _keep(self, health: Tensor) -> None:
        live = self.live
        wrong_before = live.wrong()
        better = (health < live.health) & health.isfinite() & ~self.done
        _replace(live.best, better, self.planes)
        _replace(live.best_slope, better, self.slope)
        live.health = torch.where(better, health, live.health)
        live.non_finite = live.non_finite | (~health.isfinite() & ~self.done)
        flipped = live.wrong() & ~wrong_before
        live.steps_to_flip = torch.where(flipped, float(self.scored), live.steps_to_flip)
        if self.to_flip:
            self.done = self.done | flipped

    def compact(self, *, leave: bool = False) -> None:
        """Write finished targets back and drop them; with ``leave``, all of them."""
        out = torch.ones_like(self.done) if leave else self.done
        if not bool(out.any()):
            return
        gone, stay = out.nonzero()[:, 0], (~out).nonzero()[:, 0]
        self.whole.merge(self.index[gone], self.live.select(gone))
        self.live = self.live.select(stay)
        for name in ("index", "done", "planes", "slope", "low", "high"):
            setattr(self, name, getattr(self, name)[stay])


def _replace(planes: Tensor, rows: Tensor, others: Tensor) -> None:
    """Put ``others`` in place of ``planes`` where ``rows`` ``(L,)`` is true.

    Interpolation with weights 0 and 1 is exact for finite planes, a quarter of the price of ``torch.where``, and does not
    make the host wait as an index would.
    """
    planes.lerp_(others, rows.to(planes.dtype).reshape(-1, *[1] * (planes.ndim - 1)))
