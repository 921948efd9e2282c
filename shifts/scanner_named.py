"""Whole scanners: recipes of shifts that change together, the user's own or four generic vendors per modality.

A new scanner changes sharpness, noise, processing and display at once, so its effect is not the sum of single shifts. The
generic vendors stand for the spread of what is installed and for no product; their parameters are a table of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from robustbench_rad.conditions import Level
from robustbench_rad.errors import PlanError
from robustbench_rad.registry import register
from robustbench_rad.shifts._ct_kernels import source_kernels
from robustbench_rad.shifts._scanner_table import CT_SCANNERS, XR_SCANNERS, CtScanner, XrScanner
from robustbench_rad.shifts.composition import Composition, Step, require_modality

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

_ONE_STEP = 0.02  # kernels whose f50 differs by less are the same


@register(
    id="shift.scanner.compose",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    reference="Saunders and Samei 2003, Med Phys 30:3006",
)
@dataclass(frozen=True, kw_only=True)
class Compose(Composition):
    """Shifts of your own choice one after the other, in the order of the imaging chain.

    Attributes:
        levels: Names of recipes; all of them by default.
        recipes: Name → shift → its level, e.g. ``{ "low dose, sharp" = { "shift.ct.dose" = 0.25, "shift.ct.kernel" = 1.6 } }``.
        options: Shift → its other options, for all recipes.
    """

    levels: tuple[Level, ...] = ()
    recipes: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("recipes", "options"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not all(isinstance(item, Mapping) for item in given.values()):
                raise ValueError(f"{name}: expected a table of tables, got {given!r}")
        used = {shift for recipe in self.recipes.values() for shift in recipe}
        if unused := sorted(set(self.options) - used):
            raise ValueError(f"options: {', '.join(unused)} is in no recipe")
        super().__post_init__()

    @property
    def recipes_by_name(self) -> Mapping[str, Sequence[Step]]:
        """The recipes of the plan."""
        return {
            name: [Step(shift=id, level=level, options=self.options.get(id, {})) for id, level in recipe.items()]
            for name, recipe in self.recipes.items()
        }

    def bound(self, plan: Plan) -> Self:
        """Refuse a plan without recipes, and members of another modality."""
        if not self.recipes:
            raise PlanError(
                f"[checks.{self.id!r}]: no recipe is given",
                hint='Name shifts and levels: recipes = { "low dose" = { "shift.…" = 0.25 } }.',
            )
        require_modality(self.recipes_by_name, plan.data.modality, check=self.id)
        return self


@register(
    id="shift.scanner.ct",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CT",),
    reference="Solomon et al. 2012, Med Phys 39:6048; 10.1002/acm2.13318",
)
@dataclass(frozen=True, kw_only=True)
class NamedCtScanner(Composition):
    """Four generic CT scanners: kernel, dose, reconstruction algorithm and slice thickness change together.

    Attributes:
        levels: Names out of the table of scanners.
    """

    levels: tuple[Level, ...] = ()

    @property
    def recipes_by_name(self) -> Mapping[str, Sequence[Step]]:
        """The table of scanners as recipes."""
        return {name: ct_steps(scanner) for name, scanner in CT_SCANNERS.items()}


@register(
    id="shift.scanner.xr",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CR", "DX"),
    reference="Saunders and Samei 2003, Med Phys 30:3006; Mackenzie et al. 2012, LNCS 7361:394",
)
@dataclass(frozen=True, kw_only=True)
class NamedXrScanner(Composition):
    """Four generic radiographic systems: detector, exposure, scatter, processing and display curve change together.

    Attributes:
        levels: Names out of the table of scanners.
    """

    levels: tuple[Level, ...] = ()

    @property
    def recipes_by_name(self) -> Mapping[str, Sequence[Step]]:
        """The table of scanners as recipes."""
        return {name: xr_steps(scanner) for name, scanner in XR_SCANNERS.items()}


def ct_steps(scanner: CtScanner) -> list[Step]:
    """The shifts that make images as of a CT scanner."""
    steps = _given(
        {
            "shift.ct.dose": scanner.dose_fraction,
            "shift.ct.recon-algorithm": scanner.residual_percent,
        }
    )
    if scanner.slice_thickness_mm is not None:
        steps.append(Step(shift="shift.ct.slice-thickness", level=scanner.slice_thickness_mm, volumes_only=True))
    if scanner.kernel_f50_per_mm is not None:
        chosen = partial(kernel_factors, f50_per_mm=scanner.kernel_f50_per_mm)
        steps.append(Step(shift="shift.ct.kernel", level=1.0, level_of=chosen))
    return steps


def xr_steps(scanner: XrScanner) -> list[Step]:
    """The shifts that make images as of a radiographic system."""
    return _given(
        {
            "shift.xr.scatter": scanner.scatter_fraction,
            "shift.xr.dose": scanner.exposure_fraction,
            "shift.xr.detector-mtf": scanner.detector_f50_per_mm,
            "shift.xr.vendor-processing": scanner.gain_percent,
            "shift.xr.lut": scanner.gamma,
        }
    )


def _given(levels: Mapping[str, float | None]) -> list[Step]:
    return [Step(shift=shift, level=level) for shift, level in levels.items() if level is not None]


def kernel_factors(batch: Batch, *, f50_per_mm: float) -> list[float]:
    """Factor on the f50 of each case's own kernel that leads to the target; 1 where it is as good as there already."""
    kernels, _ = source_kernels("auto", batch)
    factors = [round(f50_per_mm / kernel.f50_per_mm, 4) for kernel in kernels]
    return [1.0 if abs(factor - 1.0) < _ONE_STEP else factor for factor in factors]
