"""The worst acquisition inside a clinical envelope: an attack on the settings of the scanner, not on pixels.

Nobody has to want the image that fails: every combination of parameters that is searched is one that a department could use.
Corners of the envelope and points that fill it evenly come first. From the worst of them the search follows the gradient of the
shifts that can be differentiated by their level (:mod:`robustbench_rad.continuous`), through all shifts behind them; the others
are searched by ever smaller steps around the worst combination.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from robustbench_rad.attacks._acquisition import PRIMES, Search
from robustbench_rad.attacks._acquisition_axis import Axis, Range
from robustbench_rad.attacks._acquisition_gradient import search_level
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
from robustbench_rad.continuous import Continuous, unchanged_value
from robustbench_rad.errors import PlanError
from robustbench_rad.registry import entry, register

# What departments differ by, not what goes wrong. Doses: half and a quarter are routine elsewhere (see the profile "full");
# screening mammography keeps closer. Kernels: a step softer and one sharper than the source, what neighbouring names of one
# vendor differ by; a lung kernel (x 2 and more) is another examination. Slices: up to 5 mm. Position: what
# a technologist may leave uncorrected. Curves: the gamma of another console. MR: BrainWeb's 40 % INU; movement of half a pixel;
# ghosts and noise that readers accept. Ultrasound: a turn of the knob, and one preset further.
CLINICAL: Mapping[str, Range] = {
    "shift.ct.dose": (0.25, 1.0),
    "shift.ct.kernel": (0.7, 1.6),
    "shift.ct.slice-thickness": (1.0, 5.0),
    "shift.ct.hu-calibration": (-5.0, 5.0),
    "shift.geometry.rotate": (-5.0, 5.0),
    "shift.geometry.translate": (0.0, 2.0),
    "shift.geometry.scale": (0.95, 1.05),
    "shift.xr.dose": (0.25, 1.0),
    "shift.xr.detector-mtf": (0.9, 1.29),
    "shift.xr.lut": (0.85, 1.18),
    "shift.xr.motion-blur": (0.0, 0.5),
    "shift.mg.dose": (0.5, 1.0),
    "shift.mg.detector-mtf": (4.0, 6.0),
    "shift.mr.motion": (0.0, 0.5),
    "shift.mr.bias-field": (0.0, 40.0),
    "shift.mr.ghosting": (0.0, 5.0),
    "shift.mr.resolution": (0.0, 1.5),
    "shift.mr.snr": (20.0, math.inf),
    "shift.mr.intensity-scale": (0.8, 1.25),
    "shift.us.speckle": (0.0, 2.0),
    "shift.us.shadow": (0.0, 6.0),
    "shift.us.gain": (-6.0, 6.0),
    "shift.us.dynamic-range": (50.0, 60.0),
}
_FILM = ("shift.geometry.rotate", "shift.geometry.translate", "shift.xr.dose", "shift.xr.lut")
BY_MODALITY: Mapping[str, tuple[str, ...]] = {
    "CT": (
        "shift.geometry.rotate",
        "shift.geometry.translate",
        "shift.ct.dose",
        "shift.ct.slice-thickness",
        "shift.ct.kernel",
    ),
    "CR": _FILM,
    "DX": _FILM,
    "MG": ("shift.geometry.rotate", "shift.mg.dose", "shift.mg.detector-mtf", "shift.xr.lut"),
    "MR": ("shift.mr.motion", "shift.mr.bias-field", "shift.mr.ghosting", "shift.mr.resolution", "shift.mr.snr"),
    "US": ("shift.us.speckle", "shift.us.gain", "shift.us.dynamic-range"),
}
OF_VOLUMES = frozenset({"shift.ct.slice-thickness"})
"""Left out of a modality's shifts where the images are single slices."""
OPTIONS: Mapping[str, Mapping[str, object]] = {"shift.geometry.rotate": {"direction": "counter-clockwise"}}
"""So that a turn of one sign is one way; a plan's own options go before."""


@register(
    id="attack.worst-acquisition",
    version=2,
    space="physical",
    domain="adversarial",
    unit="of the envelope",
    reference="Bergstra and Bengio 2012, jmlr.org/papers/v13/bergstra12a; Halton 1960, 10.1007/BF01386213",
)
@dataclass(frozen=True, kw_only=True)
class WorstAcquisition(Condition):
    """The worst combination of acquisition shifts inside a clinical envelope, case by case.

    The shifts are applied one after the other in the order given, which should be that of the imaging chain. Half of the
    passes go to the corners of the envelope and to points that fill it evenly (Halton), the same for every case. The other
    half follows the gradient from the worst combination of each finding in turn; a quarter of it, and half where some shift
    has no gradient, is kept for ever smaller steps in all directions. The gradient of a shift goes through all shifts
    behind it, unless one of them cuts it off. Every image is scored for all findings. As for a shift, and unlike for an
    attack on pixels, images are not rounded to the stored bit depth.

    Attributes:
        levels: Shares of the envelope, in (0, 1], counted from the untouched image to the ends.
        shifts: Ids of acquisition shifts that work in physical space, in physical order; default by modality: position,
            dose, slice thickness of volumes and kernel for CT; position, exposure and gamma for radiographs; the same and
            the detector's blur for mammograms; motion, shading, ghosts, resolution and noise for MR; speckle, gain and
            dynamic range for ultrasound.
        envelope: Shift → lowest and highest value of its level, with the value that leaves an image as it is inside: the
            shift's neutral level, else 1 where the lowest is above 0, else 0. Around 1 the scale is logarithmic; up to
            infinity it is that of one over the value.
        options: Shift → its other options. Rotations above 0 are counter-clockwise unless these say otherwise.
        evaluations: Passes per case and level: an image scored is one, with its gradient three.
        gradient: Whether to follow the gradient of the shifts that have one.

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
    gradient: bool = True

    def __post_init__(self) -> None:
        """Refuse shifts that cannot be searched, and an envelope without the untouched image."""
        shares = [level.value for level in self.levels]
        if not shares or not 0 < shares[0] <= shares[-1] <= 1 or any(a >= b for a, b in pairwise(shares)):
            raise ValueError(f"levels: expected shares of the envelope above 0 and up to 1, increasing, got {shares}")
        self._check_search()
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
            _check_range(shift, self.envelope.get(shift, CLINICAL.get(shift)), self.options.get(shift, {}))

    def _check_search(self) -> None:
        if isinstance(self.evaluations, bool) or not isinstance(self.evaluations, int) or self.evaluations < 2:
            raise ValueError(f"evaluations: expected a whole number of at least 2, got {self.evaluations!r}")
        if not isinstance(self.gradient, bool):
            raise ValueError(f"gradient: expected true or false, got {self.gradient!r}")
        if isinstance(self.shifts, str) or len(set(self.shifts)) < len(self.shifts) or len(self.shifts) > len(PRIMES):
            raise ValueError(f"shifts: expected a list of at most {len(PRIMES)} different ids, got {self.shifts!r}")

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

        named = self.shifts or max(BY_MODALITY.values(), key=len)
        slopes = [issubclass(entry(shift).load(), Continuous) for shift in named]
        return solve(slopes, self.evaluations, gradient=self.gradient)

    def passes(self, findings: int) -> float:
        """Forwards, and a backward as dear as two; all findings share the evaluations."""
        del findings
        return float(1 + len(self.levels) * self.evaluations)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Search the envelope for every case with a known label.

        Variants hold the worst margin of each labelled finding, never better than the clean one. Measurements per level and
        finding: the winning value of each shift (``worst shift.ct.dose``; NaN where the untouched image is the worst),
        whether its gradient has led there (``followed shift.ct.dose``, 1 or 0), and ``steps_to_flip`` in passes; per shift
        ``left_out``, 1 where it does not apply to the case and the others are searched alone.

        Raises:
            TypeError: No model to query.
            PlanError: No shifts are named, and the modality has none by default.
        """
        del state
        if query is None:
            raise TypeError(f"{self.id}: an attack needs a model to query")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, query, measurements), measurements=measurements)

    def _axes(self, modality: str, *, volumes: bool) -> tuple[Axis, ...]:
        usual = [shift for shift in BY_MODALITY.get(modality, ()) if volumes or shift not in OF_VOLUMES]
        shifts = self.shifts or usual
        if not shifts:
            raise PlanError(
                f"[checks.{self.id!r}]: no shifts are known for {modality} images",
                hint='Name them: shifts = ["shift.…"] and envelope = { "shift.…" = [lowest, highest] }.',
            )
        return tuple(
            Axis(
                shift=shift,
                ends=self.range(shift),
                options={**OPTIONS.get(shift, {}), **self.options.get(shift, {})},
                neutral=_neutral(shift, self.range(shift)[0], self.options.get(shift, {})),
            )
            for shift in shifts
        )

    def _variants(self, batch: Batch, query: ModelQuery, measurements: list[Measurement]) -> Iterator[Variant]:
        axes = self._axes(batch.modality, volumes=batch.images.ndim == 5)
        clean = query.margins(batch.images) if batch.clean_margins is None else batch.clean_margins
        search = Search.of(batch, query, axes, clean)
        variants = []
        for level in self.levels:
            search_level(search, level.value, self.evaluations, gradient=self.gradient)
            variants.append(search.variant(level))
            measurements.extend(search.found(level, query.findings))
        for axis, applies in zip(axes, search.applies.T, strict=True):
            measurements.append(Measurement(quantity=f"left_out {axis.shift}", values=(~applies).float()))
        yield from variants


def _neutral(shift: str, lowest: float, options: Mapping[str, object]) -> float:
    """The value of a shift that leaves an image as it is."""
    declared = unchanged_value(entry(shift).load().from_options(options))
    return (1.0 if lowest > 0 else 0.0) if declared is None else float(declared)


def _check_range(shift: str, given: object, options: Mapping[str, object]) -> None:
    ends = [end for end in given if isinstance(end, int | float)] if isinstance(given, list | tuple) else []
    untouched = _neutral(shift, ends[0] if ends else 0.0, options)
    finite = all(math.isfinite(end) or end == untouched for end in ends)
    if len(ends) != 2 or not finite or not ends[0] <= untouched <= ends[1] or ends[0] == ends[1]:
        raise ValueError(
            f"envelope: expected [lowest, highest] of {shift!r} with the value that leaves an image as it is, "
            f"{untouched:g}, inside, got {given!r}"
        )
