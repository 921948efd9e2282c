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
from itertools import pairwise

from robustbench_rad.attacks._acquisition import PRIMES, Axis, Range, Search
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

    def self_test(self) -> str:
        """Find planted worst parameters with these evaluations: the positive control, see :mod:`._acquisition_control`."""
        from robustbench_rad.attacks._acquisition_control import solve  # only where an audit asks for it

        return solve(len(self.shifts) or max(map(len, BY_MODALITY.values())), self.evaluations)

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
