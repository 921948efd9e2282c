"""Parameters of an acquisition as coordinates in a box, and the images at a point of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Condition, Variant
from robustbench_rad.continuous import AtValues, Continuous
from robustbench_rad.registry import entry

Range = tuple[float, float]
Point = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One parameter: a shift with the range of its level, seen as a coordinate in [-1, 1] with 0 the untouched image.

    The scale is logarithmic around 1, of one over the value where the untouched image is at infinity, else linear.

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
        >>> noise = Axis(shift="shift.mr.snr", ends=(20.0, math.inf), options={}, neutral=math.inf)
        >>> [noise.value(c) for c in (0.0, -0.5, -1.0)]
        [inf, 40.0, 20.0]
        """
        end, share = self.ends[coordinate > 0], abs(coordinate)
        if math.isinf(self.neutral):
            exact = end / share if share else self.neutral
        elif self._ratio:
            exact = end**share
        else:
            exact = self.neutral + (end - self.neutral) * share
        return float(f"{exact:.6g}")

    def slope(self, coordinate: float) -> float:
        """Change of the value with the coordinate; at the untouched image towards the lower end.

        >>> dose = Axis(shift="shift.ct.dose", ends=(0.25, 1.0), options={}, neutral=1.0)
        >>> round(dose.slope(-1.0), 4)
        0.3466
        """
        end, side = self.ends[coordinate > 0], 1.0 if coordinate > 0 else -1.0
        if math.isinf(self.neutral):
            return -side * end / max(coordinate**2, 1e-12)
        if self._ratio:
            return side * math.log(end) * float(end ** abs(coordinate))
        return side * (end - self.neutral)

    @property
    def _ratio(self) -> bool:
        return self.neutral == 1.0 and self.ends[0] > 0

    def shifted(self, batch: Batch, values: Sequence[float]) -> Iterator[tuple[Batch, Tensor]]:
        """The batch at each value, and the cases ``(N,)`` to which the shift applies."""
        for variant in self._at_levels(values).apply(batch, None, None).variants:
            yield _after(batch, variant)

    @property
    def continuous(self) -> bool:
        """Whether the shift can be differentiated by its value."""
        return isinstance(self._whole, Continuous)

    def prepared(self, batch: Batch) -> AtValues:
        """A continuous shift, prepared for a batch and any values of the range."""
        assert isinstance(self._whole, Continuous)
        return self._whole.continuous(batch)

    @cached_property
    def _whole(self) -> Condition:
        return self._at_levels(self.ends)

    def _at_levels(self, values: Sequence[float]) -> Condition:
        return entry(self.shift).load().from_options({**self.options, "levels": list(values)})


def _after(batch: Batch, variant: Variant) -> tuple[Batch, Tensor]:
    every = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    return variant.applied_to(batch), every if variant.applicable is None else variant.applicable


def images_at(batch: Batch, axes: Sequence[Axis], points: Sequence[Point]) -> Iterator[tuple[Point, Tensor, Tensor]]:
    """Images of a batch at coordinates, one point at a time for all cases, in an order of its own.

    All values of the first shift are asked for at once, for what is dear in a shift is often shared by its levels.

    Yields:
        The point, images ``(N, 1, ...)``, and ``(N, A)`` which shift applies to which case.
    """
    if not axes:
        nothing = torch.ones(len(batch), 0, dtype=torch.bool, device=batch.device)
        yield from ((point, batch.images, nothing) for point in points)
        return
    axis, rest = axes[0], axes[1:]
    behind: dict[float, list[Point]] = {}
    for point in points:
        behind.setdefault(axis.value(point[0]), []).append(point)
    for (shifted, applies), same in zip(axis.shifted(batch, list(behind)), behind.values(), strict=True):
        first = {point[1:]: point[0] for point in same}
        for point, final, others in images_at(shifted, rest, list(first)):
            yield (first[point], *point), final, torch.cat([applies[:, None], others], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """Images of cases that each have a point of their own.

    Attributes:
        rows: ``(n,)`` which of the cases.
        images: ``(n, 1, ...)``.
        applies: ``(n, A)`` which shift applies to which case.
        values: For each shift the values ``(n,)`` that the images can be differentiated by, or None.
    """

    rows: Tensor
    images: Tensor
    applies: Tensor
    values: Sequence[Tensor | None]

    def slopes(self, weights: Tensor) -> Tensor:
        """Slopes ``(n, A)`` of ``(images * weights).sum()`` by the values; NaN where a shift has none."""
        slopes = torch.full(self.applies.shape, torch.nan, dtype=torch.float64)
        wanted = [(number, values) for number, values in enumerate(self.values) if values is not None]
        if not wanted or not self.images.requires_grad:
            return slopes
        leaves = [values for _, values in wanted]
        found = torch.autograd.grad(self.images, leaves, weights, allow_unused=True)
        for (number, _), slope in zip(wanted, found, strict=True):
            if slope is not None:
                slopes[:, number] = slope.double().cpu()
        return slopes


def made_at(batch: Batch, axes: Sequence[Axis], points: Sequence[Point], *, gradient: bool = False) -> Iterator[Made]:
    """Images of a batch, each case at a point of its own.

    Continuous shifts take all cases at once; cases that differ in the value of another shift go one after the other.

    Args:
        batch: N cases.
        axes: A parameters.
        points: N points.
        gradient: Whether the images shall carry the gradient of the values.
    """
    together: dict[Point, list[int]] = {}
    for row, point in enumerate(points):
        held = tuple(axis.value(c) for axis, c in zip(axes, point, strict=True) if not axis.continuous)
        together.setdefault(held, []).append(row)
    for same in together.values():
        rows = torch.tensor(same, device=batch.device)
        part = batch if len(same) == len(batch) else batch.select(rows)
        yield _made(part, axes, [points[row] for row in same], rows, gradient=gradient)


def _made(batch: Batch, axes: Sequence[Axis], points: Sequence[Point], rows: Tensor, *, gradient: bool) -> Made:
    applies: list[Tensor] = []
    chain: list[Tensor | None] = []
    with torch.set_grad_enabled(gradient):
        for axis, coordinates in zip(axes, zip(*points, strict=True), strict=True):
            values = [axis.value(c) for c in coordinates]
            if axis.continuous:
                leaf = torch.tensor(values, dtype=torch.float64, device=batch.device, requires_grad=gradient)
                chain.append(leaf)
                batch, meant = _after(batch, axis.prepared(batch)(leaf))
            else:
                chain.append(None)
                batch, meant = _at_one_value(batch, axis, values[0])
            applies.append(meant)
    return Made(rows=rows, images=batch.images, applies=torch.stack(applies, 1), values=chain)


def _at_one_value(batch: Batch, axis: Axis, value: float) -> tuple[Batch, Tensor]:
    """A shift that is not continuous; the gradient of the others goes through its image where the shift lets it."""
    if not batch.images.requires_grad:
        return next(axis.shifted(batch, [value]))
    try:
        return next(axis.shifted(batch, [value]))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # it works in NumPy, or in place
        return next(axis.shifted(replace(batch, images=batch.images.detach()), [value]))
