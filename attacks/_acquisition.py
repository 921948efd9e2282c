"""Trying combinations of acquisition parameters: corners, points that fill the envelope evenly, ever smaller steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Level, Measurement, ModelQuery, Variant
from robustbench_rad.registry import entry

Range = tuple[float, float]

FIRST_STEP, LAST_STEP = 0.5, 0.05  # of the envelope's half width
PRIMES = (2, 3, 5, 7, 11, 13)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One parameter: a shift with the range of its level, seen as a coordinate in [-1, 1] with 0 the untouched image.

    Attributes:
        shift: Id of the shift.
        ends: Lowest and highest value.
        options: Its other options.
        neutral: Value that leaves an image as it is.
    """

    shift: str
    ends: Range
    options: Mapping[str, object]
    neutral: float

    @property
    def box(self) -> Range:
        """Lowest and highest coordinate; 0 at an end where the range stops at the untouched image."""
        return (-1.0 if self.ends[0] < self.neutral else 0.0), (1.0 if self.ends[1] > self.neutral else 0.0)

    def value(self, coordinate: float) -> float:
        """Value of the shift's level, with six digits, so that the record says exactly what was done.

        >>> dose = Axis(shift="shift.ct.dose", ends=(0.25, 1.0), options={}, neutral=1.0)
        >>> [dose.value(c) for c in (0.0, -0.5, -1.0)]
        [1.0, 0.5, 0.25]
        """
        end = self.ends[coordinate > 0]
        ratio = self.neutral == 1.0 and self.ends[0] > 0
        exact = end ** abs(coordinate) if ratio else self.neutral + (end - self.neutral) * abs(coordinate)
        return float(f"{exact:.6g}")

    def shifted(self, batch: Batch, values: Sequence[float]) -> Iterator[tuple[Batch, Tensor]]:
        """The batch at each value, and the cases ``(N,)`` to which the shift applies."""
        made = entry(self.shift).load().from_options({**self.options, "levels": list(values)})
        for variant in made.apply(batch, None, None).variants:
            every = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
            yield variant.applied_to(batch), every if variant.applicable is None else variant.applicable


def images_at(
    batch: Batch, axes: Sequence[Axis], points: Sequence[tuple[float, ...]]
) -> Iterator[tuple[tuple[float, ...], Tensor, Tensor]]:
    """Images of a batch at coordinates, one point at a time, in an order of its own.

    All values of the first shift are asked for at once, for what is dear in a shift is often shared by its levels.

    Yields:
        The point, images ``(N, 1, ...)``, and ``(N, A)`` which shift applies to which case.
    """
    if not axes:
        nothing = torch.ones(len(batch), 0, dtype=torch.bool, device=batch.device)
        yield from ((point, batch.images, nothing) for point in points)
        return
    axis, rest = axes[0], axes[1:]
    behind: dict[float, list[tuple[float, ...]]] = {}
    for point in points:
        behind.setdefault(axis.value(point[0]), []).append(point)
    for (shifted, applies), same in zip(axis.shifted(batch, list(behind)), behind.values(), strict=True):
        first = {point[1:]: point[0] for point in same}
        for point, final, others in images_at(shifted, rest, list(first)):
            yield (first[point], *point), final, torch.cat([applies[:, None], others], 1)


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


def even_points(axes: Sequence[Axis], count: int) -> list[tuple[float, ...]]:
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
        steps: ``(N, K)`` images scored at the present level until the call was wrong; NaN before.
        non_finite: ``(N, K)`` whether the model gave no finite margin for some image.
        applies: ``(N, A)`` which shift has applied to which case at some value.
        scored: Images scored at the present level.
    """

    batch: Batch
    query: ModelQuery
    axes: Sequence[Axis]
    side: Tensor
    health: Tensor
    place: Tensor
    steps: Tensor
    non_finite: Tensor
    applies: Tensor
    scored: int = 0

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
            steps=torch.full_like(clean, torch.nan),
            non_finite=torch.zeros_like(clean, dtype=torch.bool),
            applies=side.isnan().all(1, keepdim=True).repeat(1, len(axes)),  # without a label nothing is left out
        )

    def wrong(self) -> Tensor:
        """Which calls ``(N, K)`` are wrong; a margin of exactly 0 is a positive call."""
        return (self.health < 0) | ((self.health == 0) & (self.side < 0))

    def run(self, share: float, evaluations: int) -> None:
        """Spend the evaluations of one level; what a smaller envelope has shown is kept, for this one contains it."""
        self.scored, self.steps = 0, torch.full_like(self.steps, torch.nan)
        labelled = (~self.side.isnan()).any(1).nonzero()[:, 0]
        if not len(labelled):
            return
        points = [tuple(c * share for c in point) for point in even_points(self.axes, (evaluations + 1) // 2)]
        self._score(labelled, points)
        left = evaluations - len(points)
        for turn in range(left):
            step = share * FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (turn / max(1, left - 1))
            self._refine(labelled, turn, step, share)

    def _refine(self, rows: Tensor, turn: int, step: float, share: float) -> None:
        """One small step around the worst combination of one finding of each case; cases with the same one go together."""
        together: dict[tuple[float, ...], list[int]] = {}
        offsets = [step * (2 * halton(turn + 1, base) - 1) for base in PRIMES[: len(self.axes)]]
        known = (~self.side.isnan()).cpu()
        for row in rows.tolist():
            findings = known[row].nonzero()[:, 0].tolist()
            centre = self.place[row, findings[turn % len(findings)]].tolist()
            moved = (c + offset for c, offset in zip(centre, offsets, strict=True))
            boxes = (axis.box for axis in self.axes)
            point = tuple(min(max(c, share * low), share * high) for c, (low, high) in zip(moved, boxes, strict=True))
            together.setdefault(point, []).append(row)
        before = self.scored
        for point, same in together.items():
            self.scored = before
            self._score(torch.tensor(same, device=rows.device), [point])
        self.scored = before + 1

    def _score(self, rows: Tensor, points: Sequence[tuple[float, ...]]) -> None:
        for point, images, applies in images_at(self.batch.select(rows), self.axes, points):
            self.scored += 1
            self.applies[rows] |= applies
            self._keep(rows, self.query.margins(images), torch.tensor(point, dtype=torch.float64))

    def _keep(self, rows: Tensor, margins: Tensor, point: Tensor) -> None:
        before = self.wrong()
        found, known = margins * self.side[rows], self.health[rows]
        finite = margins.isfinite()
        better = finite & (found < known)
        self.non_finite[rows] |= ~finite
        self.health[rows] = torch.where(better, found, known)
        self.place[rows.cpu()] = torch.where(better.cpu()[..., None], point, self.place[rows.cpu()])
        self.steps = torch.where(self.wrong() & ~before, float(self.scored), self.steps)

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
        """Winning values and steps to the flip."""
        device = self.batch.device
        for k, finding in enumerate(findings):
            yield Measurement(quantity="steps_to_flip", values=self.steps[:, k], level=level.name, finding=finding)
            for a, axis in enumerate(self.axes):
                places = self.place[:, k].tolist()
                values = [axis.value(place[a]) if any(place) else math.nan for place in places]
                applied = torch.where(self.applies[:, a], torch.tensor(values, device=device), torch.nan)
                yield Measurement(quantity=f"worst {axis.shift}", values=applied, level=level.name, finding=finding)
