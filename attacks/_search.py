"""What every search over many targets at once is built of: the model as it is seen, what is known, who is still in.

Every plane is rounded to the stored bit depth *before* the model sees it, and the gradient is taken there and passed
straight through the rounding. A margin the search has seen is therefore the margin of a plane a file can hold: nothing
has to be confirmed afterwards and no flip is lost to rounding.

Finished targets are frozen at once and leave the batch when it is next compacted. What a target ends with depends on
its own planes only, so the interval of compaction, the size of the batch and the companions change only the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Objective
from robustbench_rad.attacks._threat import Threat, stored
from robustbench_rad.conditions import Batch, ModelQuery, State

CHANGING = ("best", "best_slope", "health", "steps_to_flip", "non_finite")


@dataclass(kw_only=True, eq=False)
class Progress:
    """How far the search has come on R targets, across levels.

    Attributes:
        targets: The targets.
        centre: ``(R, 1, ...)`` stored originals, the centre of every ball.
        centre_slope: Sign of the gradient of the health there.
        best: The plane of the lowest health so far.
        best_slope: Sign of the gradient there, or at the original where no gradient was taken at the best plane.
        health: ``(R,)`` the lowest health so far, that of the unrounded original included.
        steps_to_flip: ``(R,)`` planes scored at the present level until the first wrong call; NaN before.
        non_finite: ``(R,)`` whether the model gave a margin that is not finite on any plane.
        blind: ``(R,)`` whether the gradient at the original was exactly zero everywhere or not a number anywhere.
        notes: More of the best planes, as the search says it: name → ``(R,)``; NaN where nothing was said.
    """

    targets: Objective
    centre: Tensor
    centre_slope: Tensor
    best: Tensor
    best_slope: Tensor
    health: Tensor
    steps_to_flip: Tensor
    non_finite: Tensor
    blind: Tensor
    notes: dict[str, Tensor] = field(default_factory=dict)

    def select(self, index: Tensor) -> Self:
        """A copy of the targets at ``index``."""
        names = ("centre", "centre_slope", *CHANGING, "blind")
        notes = {name: values[index] for name, values in self.notes.items()}
        kept = {name: getattr(self, name)[index] for name in names}
        return type(self)(targets=self.targets.select(index), notes=notes, **kept)

    def copy(self) -> Self:
        """A copy of all targets."""
        return self.select(torch.arange(len(self.targets), device=self.health.device))

    def merge(self, index: Tensor, other: Progress) -> None:
        """Write back what :meth:`select` took out."""
        for name in CHANGING:
            getattr(self, name)[index] = getattr(other, name)
        for name, values in other.notes.items():
            self.notes[name][index] = values

    def wrong(self) -> Tensor:
        """Whether a plane that reaches the goal is known."""
        return self.targets.wrong(self.health)


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """The model as the search sees it.

    ``any_order``: what it answers about a plane does not depend on what it was asked before.

    Attributes:
        query: The model.
        bits: Bit depth planes are rounded to.
    """

    any_order: ClassVar[bool] = True

    query: ModelQuery
    bits: int

    def health(self, planes: Tensor, targets: Objective) -> Tensor:
        """Health ``(R,)`` of the stored planes."""
        return targets.health(self.query.margins(stored(planes, self.bits)))

    def health_and_gradient(self, planes: Tensor, targets: Objective) -> tuple[Tensor, Tensor]:
        """Health ``(R,)`` of the stored planes, and its gradient there."""
        weights = targets.weights(len(self.query.findings))
        margins, gradient = self.query.margins_and_gradient(stored(planes, self.bits), weights)
        return targets.health(margins), gradient


def begin(images: Tensor, health: Tensor, targets: Objective, oracle: Oracle) -> Progress:
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
class Front:
    """The L targets that a search still works on at one level.

    A search asks :meth:`score` or :meth:`score_and_gradient` about one plane per target of the front, as often as it
    likes; the front keeps the best plane of each target, notes flips, and at :meth:`compact` drops the targets that are
    finished. Tensors that the search keeps of each target belong into ``own``, where they are compacted with the rest.

    Attributes:
        oracle: The model.
        threat: Where planes may lie, one row per target of the front.
        to_flip: Whether a target leaves at its first wrong call.
        compact_every: Steps between two compactions; 1 costs a host synchronisation per step on an accelerator.
        whole: All targets of the chunk; results are written back to it.
        index: ``(L,)`` rows of ``whole`` that are still in the batch.
        live: Their progress.
        done: ``(L,)`` finished, waiting for the next compaction.
        source: Makes the generator of a case (row of the batch) from the parts that name a draw.
        batch: The cases; ``live.targets.case`` are its rows.
        state: What the attack has learned from the whole set.
        scored: Planes scored so far, at this level.
        own: What the search keeps of each target: name → ``(L, ...)``.
        notes: What is true of the planes to be scored next, ``(L,)`` by name; kept with the plane that is the best.
    """

    oracle: Oracle
    threat: Threat
    to_flip: bool
    compact_every: int
    whole: Progress
    index: Tensor
    live: Progress
    done: Tensor
    source: Callable[..., torch.Generator]
    batch: Batch
    state: State | None = None
    scored: int = 0
    own: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        whole: Progress,
        active: Tensor,
        *,
        oracle: Oracle,
        threat: Threat,
        to_flip: bool,
        compact_every: int,
        source: Callable[..., torch.Generator],
        batch: Batch,
        state: State | None = None,
    ) -> Self:
        """The ``active`` ``(R,)`` targets, less those already wrong when flips are sought.

        ``threat`` has one row per target of ``whole``.
        """
        index = (active & ~whole.wrong() if to_flip else active).nonzero()[:, 0]
        return cls(
            oracle=oracle,
            threat=threat.select(index),
            to_flip=to_flip,
            compact_every=compact_every,
            whole=whole,
            index=index,
            live=whole.select(index),
            done=torch.zeros_like(index, dtype=torch.bool),
            source=source,
            batch=batch,
            state=state,
        )

    def __len__(self) -> int:
        return len(self.index)

    def score(self, planes: Tensor, *, slope: Tensor | None = None) -> Tensor:
        """Health ``(L,)`` of planes of the threat, as stored; the best plane of each target is kept.

        ``slope``: the sign of a gradient near by, to be kept with a plane that is the best.
        """
        planes = self.threat.store(planes)
        health = self.oracle.health(planes, self.live.targets)
        self.keep(planes, health, slope)
        return health

    def score_and_gradient(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Health ``(L,)`` of planes of the threat, as stored, and its gradient there."""
        planes = self.threat.store(planes)
        health, gradient = self.oracle.health_and_gradient(planes, self.live.targets)
        self.keep(planes, health, gradient.sign())
        return health, gradient

    def score_candidates(self, candidates: Tensor) -> Tensor:
        """Health ``(L, M)`` of M planes of the threat for each target, ``(L, M, 1, ...)``; the best of them is kept.

        One batch of L x M rows: what a search without gradients asks instead of M passes one after the other.
        """
        count, many = candidates.shape[:2]
        rows = torch.arange(count, device=candidates.device).repeat_interleave(many)
        planes = self.threat.select(rows).store(candidates.flatten(0, 1))
        health = self.oracle.health(planes, self.live.targets.select(rows)).reshape(count, many)
        ranked = torch.where(health.isfinite(), health, torch.inf)
        lowest, place = ranked.min(1)
        chosen = planes.reshape(candidates.shape)[torch.arange(count, device=planes.device), place]
        self.live.non_finite = self.live.non_finite | (~health.isfinite().all(1) & ~self.done)
        self.keep(chosen, torch.where(lowest.isfinite(), lowest, torch.nan), None, planes_scored=many)
        return health

    def keep(self, planes: Tensor, health: Tensor, slope: Tensor | None, *, planes_scored: int = 1) -> None:
        """Keep of each target the better of the best plane and one that has been scored ``(L,)``, and note flips."""
        live = self.live
        wrong_before = live.wrong()
        better = (health < live.health) & health.isfinite() & ~self.done
        replace_rows(live.best, better, planes)
        if slope is not None:
            replace_rows(live.best_slope, better, slope)
        live.health = torch.where(better, health, live.health)
        for name, values in self.notes.items():
            live.notes[name] = torch.where(better, values, live.notes[name])
        live.non_finite = live.non_finite | (~health.isfinite() & ~self.done)
        self.scored += planes_scored
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
        self.live, self.threat = self.live.select(stay), self.threat.select(stay)
        self.index, self.done = self.index[stay], self.done[stay]
        self.own = {name: tensor[stay] for name, tensor in self.own.items()}

    def uniform(self, *parts: object, shape: Sequence[int] | None = None) -> Tensor:
        """Draws in [-1, 1], one per case: levels and findings of a case share them.

        Args:
            parts: What the draw is for; the attack's id and version are added.
            shape: Of one draw; default: that of a plane.

        Returns:
            ``(L, *shape)``.
        """
        return self._drawn(torch.rand, parts, shape) * 2 - 1

    def normal(self, *parts: object, shape: Sequence[int] | None = None) -> Tensor:
        """Standard normal draws, one per case; see :meth:`uniform`."""
        return self._drawn(torch.randn, parts, shape)

    def _drawn(self, draw: Callable[..., Tensor], parts: tuple[object, ...], shape: Sequence[int] | None) -> Tensor:
        device = self.live.health.device
        size = tuple(self.live.centre.shape[1:] if shape is None else shape)
        cases = self.live.targets.case.tolist()
        draws = {case: draw(size, generator=self.source(case, *parts), device=device) for case in set(cases)}
        return torch.stack([draws[case] for case in cases]) if cases else torch.empty((0, *size), device=device)


def replace_rows(planes: Tensor, rows: Tensor, others: Tensor) -> None:
    """Put ``others`` in place of ``planes`` where ``rows`` ``(L,)`` is true.

    Interpolation with weights 0 and 1 is exact for finite planes, a quarter of the price of ``torch.where``, and does not
    make the host wait as an index would.
    """
    planes.lerp_(others, rows.to(planes.dtype).reshape(-1, *[1] * (planes.ndim - 1)))
