"""What the shifts of projection radiography share: what they refuse, exposure, millimetres, draws, and how levels come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.shifts._display_curve import DisplayCurve
from robustbench_rad.shifts._inputs import in_plane_spacing_mm, per_case, require_physical, require_signal_range
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State


@dataclass(frozen=True, kw_only=True, eq=False)
class Altered:
    """One level of a radiograph shift; see :class:`robustbench_rad.conditions.Variant`.

    Attributes:
        images: ``(N, 1, H, W)``; where the level is not applicable they are replaced by the images as they were.
        measured: Values ``(N,)`` by quantity; NaN is put where the level is not applicable.
    """

    images: Tensor
    measured: Mapping[str, Tensor] = field(default_factory=dict)
    applicable: Tensor | None = None
    reason: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    case_attributes: tuple[Mapping[str, str], ...] = ()
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None


Render = Callable[[Level], Altered]


@dataclass(frozen=True, kw_only=True)
class RadiographShift(Condition):
    """Base of the shifts that take presentation images ``(N, 1, H, W)`` in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the options."""

    def prepared(self, batch: Batch) -> Render:
        """What the levels share is made once; what comes back makes a level."""
        raise NotImplementedError

    def about(self, batch: Batch) -> list[Measurement]:
        """Measurements that belong to no level."""
        del batch
        return []

    def is_neutral(self, level: Level) -> bool:
        """Whether the level is the image itself."""
        return self.neutral is not None and level.value == self.neutral

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Make every level of presentation images in [0, 1]; what is measured stands at the class.

        Raises:
            DataError: Not signal in physical space, or not ``(N, 1, H, W)``.
            ImageError: NaN pixels, or values outside [0, 1].
        """
        del query, state
        require_physical(batch, shift=self.id, unit=Unit.SIGNAL, ndim=(4,))
        require_signal_range(batch, shift=self.id)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        render = self.prepared(batch)
        measurements += self.about(batch)
        for level in self.levels:
            altered = render(level)
            applicable = altered.applicable
            for quantity, values in altered.measured.items():
                kept = values if applicable is None else torch.where(applicable, values, torch.nan)
                measurements.append(Measurement(quantity=quantity, values=kept, level=level.name))
            yield self._variant(level, altered, batch)

    def _variant(self, level: Level, altered: Altered, batch: Batch) -> Variant:
        if self.is_neutral(level):
            images = batch.images
            return Variant(level=level, images=images, applicable=altered.applicable, reason=altered.reason)
        images = altered.images
        if altered.applicable is not None:
            images = torch.where(per_case(altered.applicable, images), images, batch.images)
        return Variant(
            level=level,
            images=images,
            applicable=altered.applicable,
            reason=altered.reason,
            attributes=altered.attributes,
            case_attributes=altered.case_attributes,
            spacing_mm=altered.spacing_mm,
            anatomy=altered.anatomy,
            lesion=altered.lesion,
        )

    def uniform(self, batch: Batch, count: int, name: str) -> Tensor:
        """``(N, count)`` numbers in [0, 1), row i from the seed of case i; the levels share them."""
        draws = []
        for seed in batch.seeds:
            generator = seeds.generator("cpu", seed, self.id, self.version, name)
            draws.append(torch.rand(count, generator=generator))
        return torch.stack(draws).to(batch.device)


@dataclass(frozen=True, kw_only=True)
class ExposureShift(RadiographShift):
    """A shift that works on the exposure of the detector.

    Approximate at best for presentation images, which reach the exposure only through a declared display curve.

    Attributes:
        display_curve: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
        decades: Decades of exposure over the full scale of the log-linear curve.
    """

    display_curve: str = "log-linear"
    decades: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.curve  # checks both

    @property
    def curve(self) -> DisplayCurve:
        """The declared curve."""
        return DisplayCurve(display_curve=self.display_curve, decades=self.decades)


@dataclass(frozen=True, kw_only=True)
class MillimetreShift(RadiographShift):
    """A shift that has a length in millimetres.

    Attributes:
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown; such cases
            are reported by the measurement ``assumed_spacing_mm``. 0: they are not applicable.
    """

    assumed_field_of_view_mm: float = 430.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("assumed_field_of_view_mm",), zero=True)

    def about(self, batch: Batch) -> list[Measurement]:
        """The spacing that was assumed; NaN where the file gave it, or nothing was assumed."""
        unknown = in_plane_spacing_mm(batch).isnan().any(1)
        assumed = self._assumed_spacing_mm(batch) or torch.nan
        return [Measurement(quantity="assumed_spacing_mm", values=torch.where(unknown, assumed, torch.nan))]

    def spacing_mm(self, batch: Batch) -> tuple[Tensor, Tensor, str]:
        """Spacing ``(N, 2)`` of every case, whether it may be used ``(N,)``, and why not."""
        known = in_plane_spacing_mm(batch)
        unknown = known.isnan().any(1)
        assumed = self._assumed_spacing_mm(batch)
        spacing = torch.where(unknown[:, None], assumed or 1.0, known)
        usable = torch.ones_like(unknown) if assumed else ~unknown
        return spacing, usable, "" if bool(usable.all()) else "pixel spacing unknown"

    def _assumed_spacing_mm(self, batch: Batch) -> float:
        return self.assumed_field_of_view_mm / max(batch.images.shape[-2:])


def number_level(value: float | str, unit: str, *, what: str, least: float, most: float) -> Level:
    """Make a level from a number.

    Raises:
        ValueError: Not from ``least`` to ``most``; says what was expected and what came.

    >>> str(number_level("0.5", "mm", what="a length in mm", least=0, most=50))
    '0.5 mm'
    """
    number = float(value)
    if not least <= number <= most:
        raise ValueError(f"expected {what} from {least:g} to {most:g}, got {value}")
    return Level(name=str(value), value=number, unit=unit)
