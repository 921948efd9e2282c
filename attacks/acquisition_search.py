"""The worst acquisition inside a clinical envelope: an attack on the settings of the scanner, not on pixels.

Nobody has to want the image that fails: every combination of parameters that is searched is one that a department could use.
A shift is known here only as a condition of the registry, and its parameter only as a level, which is a number and no tensor;
so no shift is searched by its gradient, all of them by trying: corners of the envelope, points that fill it evenly, then ever
smaller steps around the worst combination.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

import torch
from torch import Tensor

from robustbench_rad.conditions import (
    Applied,
    Batch,
    Condition,
    Level,
    Measurement,
    ModelQuery,
    State,
    Variant,
    fraction,
)
from robustbench_rad.errors import PlanError
from robustbench_rad.registry import entry, register

Range = tuple[float, float]

# Doses: half and a quarter are routine elsewhere (see the profile "full"). Kernels: a step softer and one sharper than the
# source, what neighbouring names of one vendor differ by; a lung kernel (x 2 and more) is another examination.
CLINICAL: Mapping[str, Range] = {
    "shift.ct.dose": (0.25, 1.0),
    "shift.ct.kernel": (0.7, 1.6),
    "shift.xr.dose": (0.25, 1.0),
}
BY_MODALITY: Mapping[str, tuple[str, ...]] = {
    "CT": ("shift.ct.dose", "shift.ct.kernel"),
    "CR": ("shift.xr.dose",),
    "DX": ("shift.xr.dose",),
}
FIRST_STEP, LAST_STEP = 0.5, 0.05  # of the envelope's half width
PRIMES = (2, 3, 5, 7, 11, 13)


@register(
    id="attack.worst-acquisition",
    version=1,
    space="physical",
    domain="adversarial",
    unit="of the envelope",
    reference="Bergstra and Bengio 2012, jmlr.org/papers/v13/bergstra12a; Halton 1960, 10.1007/BF01386213",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class WorstAcquisition(Condition):
    """The worst combination of acquisition shifts inside a clinical envelope, case by case.

    The shifts are applied one after the other in the order given, which should be that of the imaging chain. Half of the
    evaluations go to the corners of the envelope and to points that fill it evenly (Halton), the same for every case;
    the other half to ever smaller steps around the worst combination of each finding in turn. Every image is scored for all
    findings. As for a shift, and unlike for an attack on pixels, images are not rounded to the stored bit depth.

    Attributes:
        levels: Shares of the envelope, in (0, 1], counted from the untouched image to the ends.
        shifts: Ids of acquisition shifts that work in physical space, in physical order; default by modality: dose and
            kernel for CT, dose for radiographs.
        envelope: Shift → lowest and highest value of its level, with the value that leaves an image as it is inside: the
            shift's neutral level, else 1 where the lowest is above 0, else 0. Around 1 the scale is logarithmic.
        options: Shift → its other options.
        evaluations: Images scored per case and level.

    >>> WorstAcquisition(evaluations=24).passes(findings=14)
    49.0
    """

    levels: tuple[Level, ...] = tuple(
        Level(name=str(share), value=share, unit="of the envelope") for share in (0.5, 1.0)
    )
    shifts: tuple[str, ...] = ()
    envelope: Mapping[str, Sequence[float]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    evaluations: int = 24

    def __post_init__(self) -> None:
        """Refuse shifts that cannot be searched, and an envelope without the untouched image."""
        shares = [level.value for level in self.levels]
        if not shares or not 0 < shares[0] <= shares[-1] <= 1 or any(a >= b for a, b in pairwise(shares)):
            raise ValueError(f"levels: expected shares of the envelope above 0 and up to 1, increasing, got {shares}")
        if isinstance(self.evaluations, bool) or not isinstance(self.evaluations, int) or self.evaluations < 2:
            raise ValueError(f"evaluations: expected a whole number of at least 2, got {self.evaluations!r}")
        if isinstance(self.shifts, str) or len(set(self.shifts)) < len(self.shifts) or len(self.shifts) > len(PRIMES):
            raise ValueError(f"shifts: expected a list of at most {len(PRIMES)} different ids, got {self.shifts!r}")
        for name in ("envelope", "options"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not set(given) <= set(self.shifts or CLINICAL):
                raise ValueError(
                    f"{name}: expected a table by shift out of {list(self.shifts or CLINICAL)}, got {given!r}"
                )
        for shift in self.shifts:
            known = entry(shift)
            if known.space != "physical" or known.domain != "acquisition-shift":
                raise ValueError(f"shifts: expected acquisition shifts that work in physical space, got {shift!r}")
            if shift not in {**CLINICAL, **self.envelope}:
                raise ValueError(f"envelope: expected a range for {shift!r}, which has no default")
        for shift in {*self.shifts, *self.envelope}:
            _check_range(shift, self.envelope.get(shift, CLINICAL.get(shift)))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a share of the envelope."""
        return Level(name=str(value), value=fraction(value), unit="of the envelope")

    def range(self, shift: str) -> Range:
        """Lowest and highest value of a shift's level."""
        low, high = self.envelope.get(shift, CLINICAL.get(shift, (1.0, 1.0)))
        return float(low), float(high)

    def passes(self, findings: int) -> float:
        """Forwards only; all findings share them."""
        del findings
        return float(1 + len(self.levels) * self.evaluations)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Search the envelope for every case with a known label.

        Variants hold the worst margin of each labelled finding, never better than the clean one. Measurements per level and
        finding: the winning value of each shift (``worst shift.ct.dose``; NaN where the untouched image is the worst) and
        ``steps_to_flip``; per shift ``left_out``, 1 where it does not apply to the case and the others are searched alone.

        Raises:
            TypeError: No model to query.
            PlanError: No shifts are named, and the modality has none by default.
        """
        del state
        if query is None:
            raise TypeError(f"{self.id}: an attack needs a model to query")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, query, measurements), measurements=measurements)

    def _axes(self, modality: str) -> tuple[Axis, ...]:
        shifts = self.shifts or BY_MODALITY.get(modality, ())
        if not shifts:
            raise PlanError(
                f"[checks.{self.id!r}]: no shifts are known for {modality} images",
                hint='Name them: shifts = ["shift.…"] and envelope = { "shift.…" = [lowest, highest] }.',
            )
        return tuple(
            Axis(
                shift=shift,
                ends=self.range(shift),
                options=self.options.get(shift, {}),
                neutral=_neutral(shift, self.range(shift)[0]),
            )
            for shift in shifts
        )

    def _variants(self, batch: Batch, query: ModelQuery, measurements: list[Measurement]) -> Iterator[Variant]:
        axes = self._axes(batch.modality)
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        search = Search.of(batch, query, axes, clean)
        variants = []
        for level in self.levels:
            search.run(level.value, self.evaluations)
            variants.append(search.variant(level))
            measurements.extend(search.found(level, query.findings))
        for axis, applies in zip(axes, search.applies.T, strict=True):
            measurements.append(Measurement(quantity=f"left_out {axis.shift}", values=(~applies).float()))
        yield from variants


def _neutral(shift: str, lowest: float) -> float:
    """The value of a shift that leaves an image as it is."""
    declared = entry(shift).load().neutral
    return (1.0 if lowest > 0 else 0.0) if declared is None else float(declared)


def _check_range(shift: str, given: object) -> None:
    ends = [end for end in given if isinstance(end, int | float)] if isinstance(given, list | tuple) else []
    untouched = _neutral(shift, ends[0] if ends else 0.0)
    if len(ends) != 2 or not all(map(math.isfinite, ends)) or not ends[0] <= untouched <= ends[1] or ends[0] == ends[1]:
        raise ValueError(
            f"envelope: expected [lowest, highest] of {shift!r} with the value that leaves an image as it is, "
            f"{untouched:g}, inside, got {given!r}"
        )


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
