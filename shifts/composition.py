"""Several shifts one after the other, in the order of the imaging chain.

What a shift leaves behind is what the next one is given: pixels, spacing, masks and what the header says. Every member draws
from a stream of its own, so their noise is independent, and the same as when the member is applied alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Variant
from robustbench_rad.errors import DataError, ImageError, PlanError, suggestion
from robustbench_rad.registry import entry

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

CHAIN: Mapping[str, tuple[str, ...]] = {
    "anatomy": (
        "shift.ct.contrast-timing",
        "shift.ct.patient-size",
        "shift.ct.arms-down",
        "shift.ct.table",
        "shift.xr.inspiration",
        "shift.xr.metal-hardware",
        "shift.xr.device-overlay",
    ),
    "position": (
        "shift.geometry.rotate",
        "shift.geometry.translate",
        "shift.geometry.scale",
        "shift.geometry.flip",
        "shift.mg.compression",
        "shift.xr.projection-ap",
        "shift.xr.patient-rotation",
        "shift.xr.view-error",
        "shift.xr.field-of-view",
        "shift.xr.motion-blur",
        "shift.mr.motion",
        "shift.mr.wraparound",
    ),
    "beam": (
        "shift.ct.kvp",
        "shift.ct.beam-hardening",
        "shift.xr.kvp",
        "shift.xr.scatter",
        "shift.xr.grid-lines",
        "shift.mr.field-strength",
        "shift.mr.te-tr",
        "shift.mr.fat-sat-failure",
        "shift.mr.bias-field",
    ),
    "detector": (
        "shift.xr.dose",
        "shift.mg.dose",
        "shift.xr.detector-mtf",
        "shift.mg.detector-mtf",
        "shift.xr.saturation",
        "shift.ct.dose",
        "shift.ct.dose-image",
        "shift.us.speckle",
        "shift.us.shadow",
        "shift.us.gain",
        "shift.mr.b0-distortion",
        "shift.mr.chemical-shift",
        "shift.mr.ghosting",
        "shift.mr.resolution",
        "shift.mr.gibbs",
        "shift.mr.snr",
        "shift.mr.g-factor",
        "shift.mr.spike",
        "shift.mr.zipper",
    ),
    "reconstruction": (
        "shift.ct.motion",
        "shift.ct.metal",
        "shift.ct.ring",
        "shift.ct.sparse-view",
        "shift.ct.slice-thickness",
        "shift.ct.kernel",
        "shift.ct.recon-algorithm",
        "shift.ct.hu-calibration",
        "shift.ct.truncation",
        "shift.ct.fov",
    ),
    "console": (
        "shift.xr.vendor-processing",
        "shift.xr.lut",
        "shift.xr.lut-centre",
        "shift.xr.collimation",
        "shift.xr.marker-fault",
        "shift.xr.marker",
        "shift.xr.polarity",
        "shift.us.dynamic-range",
        "shift.mr.intensity-scale",
    ),
    "pipeline": (),  # the export chain: every shift.export.*
}
"""Stage → shifts in the order in which they act on an image; the stages follow one another too."""

_ORDER = {shift: place for place, shift in enumerate(chain.from_iterable(CHAIN.values()))}
_EXPORT = "shift.export."

LevelOf = Callable[["Batch"], Sequence[float]]
"""The level of each case, for a target that depends on what the image was made with."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One member of a composition.

    Attributes:
        shift: Its id.
        level: Its level, as a plan gives it; for the record alone where ``level_of`` is given.
        options: Its other options.
        level_of: Chooses the level of each case.
        volumes_only: Whether single slices are left as they are, and counted as left out.
    """

    shift: str
    level: float | str
    options: Mapping[str, Any] = field(default_factory=dict)
    level_of: LevelOf | None = None
    volumes_only: bool = False

    def made(self, level: float | str) -> Condition:
        """The member at one level."""
        return entry(self.shift).load().from_options({**self.options, "levels": [level]})


def place_in_chain(shift: str) -> int:
    """Where in the imaging chain a shift acts; shifts of the export chain come last, in the order given.

    Raises:
        ValueError: It has no known place.

    >>> sorted(["shift.xr.lut", "shift.xr.dose", "shift.xr.scatter"], key=place_in_chain)
    ['shift.xr.scatter', 'shift.xr.dose', 'shift.xr.lut']
    """
    if shift.startswith(_EXPORT):
        return len(_ORDER)
    if shift not in _ORDER:
        hint = suggestion(shift, list(_ORDER))
        raise ValueError(f"{shift!r} has no known place in the imaging chain, so it cannot be composed. {hint}")
    return _ORDER[shift]


def in_physical_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Anatomy and position, beam, detector, reconstruction, console, pipeline."""
    return tuple(sorted(steps, key=lambda step: place_in_chain(step.shift)))


@dataclass(frozen=True, kw_only=True)
class Composition(Condition):
    """Base of conditions whose levels are named recipes of several shifts.

    A case to which a member has no meaning goes on to the next one as it is, and is counted by the measurement
    ``<member> left_out``; a recipe of which nothing applies has no meaning for the case.
    """

    @property
    def recipes_by_name(self) -> Mapping[str, Sequence[Step]]:
        """Every recipe that can be a level, in order."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        """Check every recipe and number the levels by their place among the recipes."""
        recipes = self.recipes_by_name
        for name, steps in recipes.items():
            _check(name, steps)
        places = {name: float(number) for number, name in enumerate(recipes, start=1)}
        names = [level.name for level in self.levels] or list(recipes)
        for name in names:
            if name not in places:
                raise ValueError(f"levels: {name!r} is not known. {suggestion(name, list(places))}")
        object.__setattr__(self, "levels", tuple(Level(name=name, value=places[name], unit="") for name in names))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """A level is the name of a recipe; its number follows from the order of the recipes."""
        return Level(name=str(value), value=0.0, unit="")

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Apply every recipe to images in physical space.

        Measurements per level and member: ``<member> level`` as asked for, ``<member> left_out`` (1 where it has no
        meaning), and whatever the member measures, as ``<member> <quantity>``.

        Raises:
            DataError: A member refuses the images' unit or shape.
            ImageError: A member refuses pixels; names the cases.
        """
        del query, state
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        recipes = self.recipes_by_name
        for level in self.levels:
            try:
                yield composed(batch, recipes[level.name], level, measurements)
            except (DataError, ImageError) as error:
                raise type(error)(f"{self.id}: {level}: {error.message}", hint=error.hint) from error


def _check(name: str, steps: Sequence[Step]) -> None:
    shifts = [step.shift for step in steps]
    if not shifts or len(set(shifts)) < len(shifts):
        raise ValueError(f"{name}: expected different shifts, at least one, got {shifts}")
    for step in steps:
        place_in_chain(step.shift)
        known = entry(step.shift)
        if known.space != "physical" or known.domain != "acquisition-shift":
            raise ValueError(f"{name}: expected acquisition shifts that work in physical space, got {step.shift!r}")
        if step.made(step.level).needs_fit:
            raise ValueError(f"{name}: {step.shift!r} learns from the whole set first, so it cannot be composed")


def require_modality(recipes: Mapping[str, Sequence[Step]], modality: str, *, check: str) -> None:
    """Refuse members of another modality.

    Raises:
        PlanError: Names the recipe and the member.
    """
    for name, steps in recipes.items():
        for step in steps:
            if modality not in entry(step.shift).modalities:
                meant = ", ".join(entry(step.shift).modalities)
                raise PlanError(f"[checks.{check!r}]: {name}: {step.shift} is for {meant}, the data are {modality}")


def composed(batch: Batch, steps: Sequence[Step], level: Level, measurements: list[Measurement]) -> Variant:
    """Apply the members in physical order; what they measure is added to ``measurements``."""
    now, reasons = batch, []
    changed = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
    for step in in_physical_order(steps):
        name = step.shift.removeprefix("shift.")
        now, applies, reason, measured = _applied(now, step)
        changed |= applies
        reasons += [f"{name}: {reason}"] if reason else []
        own = {"left_out": (~applies).float(), **measured}
        measurements += [
            Measurement(quantity=f"{name} {quantity}", values=values, level=level.name)
            for quantity, values in own.items()
        ]
    moved = now.spacing_mm is not batch.spacing_mm
    return Variant(
        level=level,
        images=now.images,
        applicable=None if bool(changed.all()) else changed,
        reason="; ".join(reasons),
        case_attributes=_news(batch, now),
        spacing_mm=now.spacing_mm if moved else None,
        anatomy=now.anatomy if now.anatomy is not batch.anatomy else None,
        lesion=now.lesion if now.lesion is not batch.lesion else None,
    )


def _applied(batch: Batch, step: Step) -> tuple[Batch, Tensor, str, dict[str, Tensor]]:
    """The batch after one member, the cases it has meaning for, why not for others, and what it measured."""
    if step.volumes_only and batch.images.ndim < 5:
        nowhere = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        return batch, nowhere, "a single slice has no thickness to change", {}
    if step.level_of is None:
        return _at_one_level(batch, step, step.level)
    levels = list(step.level_of(batch))
    after, applies, reasons = batch, torch.zeros(len(batch), dtype=torch.bool, device=batch.device), []
    measured: dict[str, Tensor] = {}
    for level in dict.fromkeys(levels):
        rows = torch.tensor([row for row, own in enumerate(levels) if own == level], device=batch.device)
        part, meant, reason, found = _at_one_level(batch.select(rows), step, level)
        after = _put(after, part, rows)
        applies[rows] = meant
        reasons += [reason] if reason else []
        for quantity, values in found.items():
            whole = measured.setdefault(quantity, torch.full((len(batch),), torch.nan, device=batch.device))
            whole[rows] = values.float()
    return after, applies, ", ".join(dict.fromkeys(reasons)), measured


def _at_one_level(batch: Batch, step: Step, level: float | str) -> tuple[Batch, Tensor, str, dict[str, Tensor]]:
    made = step.made(level)
    applied = made.apply(batch, None, None)
    variant = next(iter(list(applied.variants)))
    applies = torch.ones(len(batch), dtype=torch.bool, device=batch.device)
    if variant.applicable is not None:
        applies = variant.applicable.to(batch.device)
    requested = torch.full((len(batch),), made.levels[0].value, device=batch.device)
    measured = {"level": requested} | {found.quantity: found.values for found in applied.measurements}
    after = variant.applied_to(batch)
    if step.shift in CHAIN["beam"]:  # a beam, a field or a pulse sequence moves nothing
        after = replace(after, tissue=batch.tissue)
    return after, applies, variant.reason, measured


def _put(batch: Batch, part: Batch, rows: Tensor) -> Batch:
    """Put the cases of a part, which kept its shape, back at ``rows``."""
    attributes = list(batch.attributes or ({},) * len(batch))
    for row, own in zip(rows.tolist(), part.attributes or ({},) * len(part), strict=True):
        attributes[row] = own
    images = batch.images.index_copy(0, rows, part.images)
    tissue = None if part.tissue is None else batch.tissue
    return replace(batch, images=images, attributes=tuple(attributes), tissue=tissue, clean_margins=None)


def _news(before: Batch, after: Batch) -> tuple[Mapping[str, str], ...]:
    """What the header of each case says now and did not say before."""
    old = before.attributes or ({},) * len(before)
    new = after.attributes or ({},) * len(before)
    news = tuple(
        {keyword: text for keyword, text in now.items() if was.get(keyword) != text}
        for was, now in zip(old, new, strict=True)
    )
    return news if any(news) else ()
