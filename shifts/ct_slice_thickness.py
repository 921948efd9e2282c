"""Thicker CT slices: averages of the thin ones, with less noise and partial volumes.

Along z the volume is convolved with a slice-sensitivity profile, a box of the thickness asked for. For slices that touch and do
not overlap the noise falls by ``√(T₀ / T)``, from 1 to 5 mm by 0.447; picking every fifth slice would leave it as it is.

Reference:
    Samei et al. 2019, Performance evaluation of computed tomography systems (AAPM TG-233), 10.1002/mp.13763.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.continuous import Value, case_by_case, linearised, number
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import NO_LEVEL
from robustbench_rad.shifts._header import header_numbers, number_text
from robustbench_rad.shifts._inputs import (
    CLIPPED,
    clipped_hu,
    require_hounsfield,
    require_physical,
    slice_distance_mm,
)
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._slice_profile import box_length, profile_width_mm, thicker, variance_ratio

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.continuous import AtValues

_PADDING_BELOW_HU = -1024.0
_SAME = 1e-3  # relative difference of thickness that makes no difference


def _thickness_level(value: float | str) -> Level:
    thickness = float(value)
    if not 0.1 <= thickness <= 50.0:
        raise ValueError(f"expected a slice thickness from 0.1 to 50 mm, got {value}")
    return Level(name=str(value), value=thickness, unit="mm")


@register(
    id="shift.ct.slice-thickness",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Samei et al. 2019 (AAPM TG-233), 10.1002/mp.13763",
    unit="mm",
)
@dataclass(frozen=True, kw_only=True)
class CtSliceThickness(Condition):
    """Thicker slices of a volume, made from its own.

    The slices stay where they are, now overlapping, unless ``contiguous``. A case of one slice, or whose slices are thicker
    already, is not applicable; one that has the very thickness comes back as it is.

    Attributes:
        levels: Thickness T in mm, thinnest first.
        source_mm: Thickness T₀ of the slices of files that do not say it; None: the distance of the slices.
        contiguous: Whether to make slices T apart only; the image between them is interpolated linearly, as a pipeline
            does that resamples to a common spacing.
    """

    levels: tuple[Level, ...] = tuple(_thickness_level(thickness) for thickness in (1.5, 2.5, 3, 5, 7.5))
    source_mm: float | None = None
    contiguous: bool = False

    def __post_init__(self) -> None:
        if self.source_mm is not None:
            require_positive(self, ("source_mm",))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a thickness in mm."""
        return _thickness_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Average slices of volumes ``(N, 1, D, H, W)`` in HU along D; an image ``(N, 1, H, W)`` has no other slice.

        Linear in the volume; a pixel that is padding anywhere in the new slice is padding in it. At the ends the slices are
        averages of what there is.

        Measurements: ``source_thickness_mm``; per level ``slice_thickness_requested_mm``, ``slice_thickness_mm`` (full width
        at half maximum of the profile) and ``noise_ratio`` (standard deviation of noise that is independent in touching
        slices, over the source's; NaN for overlapping ones).

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        self._refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`; a case that is asked for thinner slices keeps its own."""
        self._refuse(batch)
        distances = slice_distance_mm(batch).tolist()
        sources = self._sources(batch, distances)
        return lambda values: self._thickened(batch, values, sources, distances, NO_LEVEL)[0]

    def _refuse(self, batch: Batch) -> None:
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        distances = slice_distance_mm(batch).tolist()
        sources = self._sources(batch, distances)
        measurements.append(Measurement(quantity="source_thickness_mm", values=batch.images.new_tensor(sources)))
        for level in self.levels:
            variant, changed = self._thickened(batch, level.value, sources, distances, level)
            if any(changed):
                measurements += _achieved(level, changed, sources, distances, batch.images)
            yield variant

    def _thickened(
        self, batch: Batch, thickness: Value, sources: list[float], distances: list[float], level: Level
    ) -> tuple[Variant, list[bool]]:
        """Slices of a thickness, or each case's of its own, and which cases that changes."""
        count = batch.images.shape[2] if batch.images.ndim == 5 else 1
        cases = list(zip(case_by_case(thickness, len(batch)), sources, distances, strict=True))
        clipped = clipped_hu(batch).tolist()
        reasons = [
            CLIPPED if cut else _why_not(number(mm), source, distance, count)
            for (mm, source, distance), cut in zip(cases, clipped, strict=True)
        ]
        changed = [
            not reason and abs(number(mm) / source - 1.0) > _SAME
            for (mm, source, _), reason in zip(cases, reasons, strict=True)
        ]
        images = batch.images
        if any(changed):
            matrices = [self._matrix(*case, count) if does else None for case, does in zip(cases, changed, strict=True)]
            images = torch.stack([_averaged(*case) for case in zip(images, matrices, strict=True)])
        said = [{"SliceThickness": number_text(number(mm))} for mm, *_ in cases]
        variant = Variant(
            level=level,
            images=images,
            applicable=torch.tensor([not reason for reason in reasons], device=batch.device),
            reason=", ".join(sorted({reason for reason in reasons if reason})),
            case_attributes=tuple(text if does else {} for text, does in zip(said, changed, strict=True)),
        )
        return variant, changed

    def _sources(self, batch: Batch, distances: list[float]) -> list[float]:
        """Thickness of every case's slices: what the file says, else the option, else their distance."""
        said = header_numbers(batch, "SliceThickness")
        pairs = zip(said, distances, strict=True)
        return [mm if mm > 0.0 else self.source_mm or distance for mm, distance in pairs]

    def _matrix(self, thickness: Value, source: float, distance: float, count: int) -> Tensor:
        def weights(mm: float) -> Tensor:
            length = box_length(mm, source, distance)
            return torch.from_numpy(thicker(count, distance, length_mm=length, apart_mm=mm if self.contiguous else 0.0))

        return linearised(weights, thickness)


def _why_not(thickness: float, source: float, distance: float, count: int) -> str:
    """Why slices of this thickness cannot be made; "" where they can."""
    if count == 1:
        return "one slice only"
    if not distance > 0.0:  # also NaN
        return "slice distance unknown"
    if thickness < source * (1.0 - _SAME):
        return "slices are thicker already"
    if distance > 1.01 * source and abs(thickness / source - 1.0) > _SAME:
        return "gaps between the slices"
    return "volume is thinner than the slice" if thickness > count * distance else ""


def _averaged(volume: Tensor, matrix: Tensor | None) -> Tensor:
    """Slices of ``(1, D, H, W)`` by a matrix ``(D, D)``; None leaves them alone."""
    if matrix is None:
        return volume
    weights = matrix.to(volume)
    averaged = torch.einsum("de,cehw->cdhw", weights, volume)
    padding = (volume.detach() < _PADDING_BELOW_HU).to(volume.dtype)
    if not bool(padding.any()):
        return averaged
    reached = torch.einsum("de,cehw->cdhw", weights, padding) > 0.0
    lowest = volume.detach().amin()
    return torch.where(reached, lowest, averaged)


def _achieved(
    level: Level, changed: list[bool], sources: list[float], distances: list[float], images: Tensor
) -> list[Measurement]:
    widths, ratios = [], []
    for does, source, distance in zip(changed, sources, distances, strict=True):
        length = box_length(level.value, source, distance) if does else math.nan
        widths.append(profile_width_mm(length, source, distance) if does else math.nan)
        touching = does and distance >= 0.99 * source
        ratios.append(math.sqrt(variance_ratio(length, distance)) if touching else math.nan)
    requested = [level.value if does else math.nan for does in changed]
    named = (("slice_thickness_requested_mm", requested), ("slice_thickness_mm", widths), ("noise_ratio", ratios))
    return [Measurement(quantity=name, values=images.new_tensor(values), level=level.name) for name, values in named]
