"""Trying combinations of acquisition parameters: corners, points that fill the envelope evenly, steps around the worst.

Half of what a level may cost goes to corners and even points. The rest follows the gradient of the shifts that have one, see
:mod:`._acquisition_gradient`, and tries ever smaller random steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from robustbench_rad.attacks._acquisition_axis import Axis, Made, Point, images_at, made_at
from robustbench_rad.conditions import Batch, Level, Measurement, ModelQuery, Variant

FIRST_STEP, LAST_STEP = 0.5, 0.05  # of the envelope's half width
PRIMES = (2, 3, 5, 7, 11, 13)
GRADIENT = 3  # passes: forward, and backward twice as dear
MOST_PIXELS = 2**22  # that carry a gradient at a time


def halton(number: int, base: int) -> float:
    """The ``number``-th term, from 1, of the van der Corput sequence: fills (0, 1) evenly.

    >>> [halton(n, 2) for n in (1, 2, 3, 4)]
    [0.5, 0.25, 0.75, 0.125]
    """
    value, share = 0.0, 1.0
    while number:
        share /= base
        value += share * (number % base)
        number //= base
    return value


def even_points(axes: Sequence[Axis], count: int) -> list[Point]:
    """Corners of the envelope but the untouched image, at most half of ``count``, then points that fill it evenly."""
    boxes = [axis.box for axis in axes]
    corners = [corner for corner in product(*[sorted({*box}) for box in boxes]) if any(corner)]
    corners.sort(key=lambda corner: -sum(abs(c) for c in corner))
    chosen = corners[: max(1, count // 2)]
    filled = [
        tuple(low + (high - low) * halton(n, base) for (low, high), base in zip(boxes, PRIMES, strict=False))
        for n in range(1, 1 + count - len(chosen))
    ]
    return chosen + filled


@dataclass(kw_only=True, eq=False)
class Search:
    """How far the search has come on N cases and K findings.

    Attributes:
        batch: The cases.
        query: The model, asked about images of the batch's space.
        axes: A parameters.
        side: ``(N, K)``: +1 present, -1 absent, NaN unknown.
        health: ``(N, K)`` lowest margin in the direction of the error, the untouched image's at first; NaN where unknown.
        place: ``(N, K, A)`` coordinates of it.
        followed: ``(N, K, A)`` whether a gradient has led there along this coordinate, or to where small steps began.
        steps: ``(N, K)`` passes spent at the present level until the call was wrong; NaN before.
        non_finite: ``(N, K)`` whether the model gave no finite margin for some image.
        applies: ``(N, A)`` which shift has applied to which case at some value.
        spent: ``(N,)`` passes spent at the present level: an image scored is one, with its gradient three.
        starts: Points tried for all cases alike at the present level, and the health ``(N, K)`` there.
    """

    batch: Batch
    query: ModelQuery
    axes: Sequence[Axis]
    side: Tensor
    health: Tensor
    place: Tensor
    followed: Tensor
    steps: Tensor
    non_finite: Tensor
    applies: Tensor
    spent: Tensor
    starts: list[tuple[Point, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, batch: Batch, query: ModelQuery, axes: Sequence[Axis], clean: Tensor) -> Search:
        """Nothing tried yet."""
        side = torch.where(batch.labels.isnan(), torch.nan, torch.where(batch.labels == 1, 1.0, -1.0))
        return cls(
            batch=batch,
            query=query,
            axes=axes,
            side=side,
            health=clean * side,
            place=torch.zeros(*clean.shape, len(axes), dtype=torch.float64),
            followed=torch.zeros(*clean.shape, len(axes), dtype=torch.bool),
            steps=torch.full_like(clean, torch.nan),
            non_finite=torch.zeros_like(clean, dtype=torch.bool),
            applies=side.isnan().all(1, keepdim=True).repeat(1, len(axes)),  # without a label nothing is left out
            spent=torch.zeros(len(batch), dtype=torch.int64),
        )

    def wrong(self) -> Tensor:
        """Which calls ``(N, K)`` are wrong; a margin of exactly 0 is a positive call."""
        return (self.health < 0) | ((self.health == 0) & (self.side < 0))

    def begin(self, share: float, count: int) -> list[int]:
        """Try ``count`` corners and even points; the labelled cases come back.

        What a smaller envelope has shown is kept, for this one contains it.
        """
        self.spent.zero_()
        self.starts.clear()
        self.steps = torch.full_like(self.steps, torch.nan)
        labelled = (~self.side.isnan()).any(1).nonzero()[:, 0]
        if len(labelled):
            points = [tuple(c * share for c in point) for point in even_points(self.axes, count)]
            for point, images, applies in images_at(self.batch.select(labelled), self.axes, points):
                found = self.keep(labelled, self.query.margins(images), [point] * len(labelled), applies)
                health = torch.full_like(self.health, torch.inf)
                health[labelled] = found.nan_to_num(torch.inf)
                self.starts.append((point, health.cpu()))
        return labelled.tolist()

    def try_steps(self, rows: Sequence[int], turns: Sequence[int], steps: Sequence[float], share: float) -> None:
        """One random step of each case around the worst combination of one of its findings."""
        known = (~self.side.isnan()).cpu()
        points, led = [], []
        for row, turn, step in zip(rows, turns, steps, strict=True):
            findings = known[row].nonzero()[:, 0].tolist()
            finding = findings[turn % len(findings)]
            centre = self.place[row, finding].tolist()
            led.append(self.followed[row, finding].clone())
            offsets = (step * (2 * halton(turn + 1, base) - 1) for base in PRIMES)
            points.append(self.inside([c + move for c, move in zip(centre, offsets, strict=False)], share))
        self.score(rows, points, torch.stack(led))

    def inside(self, place: Sequence[float], share: float) -> Point:
        """The nearest point of the share of the envelope."""
        boxes = [axis.box for axis in self.axes]
        return tuple(min(max(c, share * low), share * high) for c, (low, high) in zip(place, boxes, strict=True))

    def score(self, rows: Sequence[int], points: Sequence[Point], followed: Tensor | None = None) -> Tensor:
        """Score each case at a point of its own; its health ``(n, K)`` there.

        Args:
            rows: n cases.
            points: Their points.
            followed: ``(n, A)`` along which coordinates a gradient has led there; None: along none.
        """
        index = torch.tensor(rows, device=self.batch.device)
        health = torch.empty(len(rows), self.side.shape[1], device=self.batch.device)
        for made in made_at(self.batch.select(index), self.axes, points):
            part = made.rows.tolist()
            own, led = [points[number] for number in part], None if followed is None else followed[part]
            margins = self.query.margins(made.images)
            health[made.rows] = self.keep(index[made.rows], margins, own, made.applies, followed=led)
        return health

    def score_and_slopes(
        self, rows: Sequence[int], points: Sequence[Point], findings: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Score each case at a point of its own.

        Args:
            rows: n cases.
            points: Their points.
            findings: Their findings.

        Returns:
            Health ``(n,)`` of the finding there, and its slopes ``(n, A)`` by the coordinates, NaN where there is none.
        """
        health, slopes = torch.empty(len(rows)), torch.full((len(rows), len(self.axes)), torch.nan, dtype=torch.float64)
        most = max(1, MOST_PIXELS // self.batch.images[0].numel())
        for start in range(0, len(rows), most):
            own = slice(start, start + most)
            index = torch.tensor(rows[own], device=self.batch.device)
            weights = torch.zeros(len(index), self.side.shape[1], device=index.device)
            which = torch.tensor(findings[own], device=index.device)[:, None]
            weights.scatter_(1, which, self.side[index].gather(1, which))
            for made in made_at(self.batch.select(index), self.axes, points[own], gradient=True):
                there, by_value = self._by_gradient(made, index, weights, points[own])
                at = [start + number for number in made.rows.tolist()]
                chain = [[axis.slope(c) for axis, c in zip(self.axes, points[number], strict=True)] for number in at]
                slopes[at] = by_value * torch.tensor(chain, dtype=torch.float64)
                health[at] = there.gather(1, which[made.rows])[:, 0].cpu()
        return health, slopes

    def _by_gradient(
        self, made: Made, index: Tensor, weights: Tensor, points: Sequence[Point]
    ) -> tuple[Tensor, Tensor]:
        margins, gradient = self.query.margins_and_gradient(made.images.detach(), weights[made.rows])
        own = [points[number] for number in made.rows.tolist()]
        there = self.keep(index[made.rows], margins, own, made.applies, passes=GRADIENT)
        return there, made.slopes(gradient)

    def keep(
        self,
        rows: Tensor,
        margins: Tensor,
        points: Sequence[Point],
        applies: Tensor,
        *,
        followed: Tensor | None = None,
        passes: int = 1,
    ) -> Tensor:
        """Keep what was worse than anything before; the health ``(n, K)`` that was found.

        Args:
            rows: ``(n,)`` cases.
            margins: ``(n, K)``.
            points: Where the images were made, n times.
            applies: ``(n, A)`` which shift applied.
            followed: ``(n, A)`` along which coordinates a gradient has led there; None: along none.
            passes: What each image has cost.
        """
        here = rows.cpu()
        self.spent[here] += passes
        self.applies[rows] |= applies
        before = self.wrong()
        found, known = margins * self.side[rows], self.health[rows]
        finite = margins.isfinite()
        better = finite & (found < known)
        self.non_finite[rows] |= ~finite
        self.health[rows] = torch.where(better, found, known)
        new = better.cpu()[..., None]
        at = torch.tensor(points, dtype=torch.float64)[:, None]
        led = torch.zeros(len(here), len(self.axes), dtype=torch.bool) if followed is None else followed
        self.place[here] = torch.where(new, at, self.place[here])
        self.followed[here] = torch.where(new, led[:, None], self.followed[here])
        spent = self.spent.to(self.steps)[:, None]
        self.steps = torch.where(self.wrong() & ~before, spent, self.steps)
        return found

    def variant(self, level: Level) -> Variant:
        """The worst margins so far; not applicable where no shift is."""
        unsure = self.non_finite & ~self.wrong()  # robust only as far as the model could be asked
        margins = torch.where(unsure, torch.nan, self.health * self.side)
        applicable = self.applies.any(1)
        none = int((~applicable).sum())
        return Variant(
            level=level,
            margins=torch.where(applicable[:, None], margins, torch.nan),
            applicable=applicable,
            reason=f"no shift applies to {none} of {len(self.batch)} case(s)" if none else "",
            full_search=True,
        )

    def found(self, level: Level, findings: Sequence[str]) -> Iterator[Measurement]:
        """Winning values, which of them a gradient has led to, and passes to the flip."""
        device = self.batch.device
        for k, finding in enumerate(findings):
            named: Mapping[str, str] = {"level": level.name, "finding": finding}
            yield Measurement(quantity="steps_to_flip", values=self.steps[:, k], **named)
            moved = (self.place[:, k] != 0).any(1).to(device)
            for a, axis in enumerate(self.axes):
                known = self.applies[:, a] & moved
                values = [
                    axis.value(c) if axis.value(c) != math.inf else math.nan for c in self.place[:, k, a].tolist()
                ]
                for quantity, numbers in (
                    ("worst", torch.tensor(values)),
                    ("followed", self.followed[:, k, a].float()),
                ):
                    kept = torch.where(known, numbers.to(device), torch.nan)
                    yield Measurement(quantity=f"{quantity} {axis.shift}", values=kept, **named)
