"""The user's own scanners: images of one rendered as if they came from another.

What the images of each scanner have in common is learned from the whole set: mean spectrum, grey levels, noise. It holds the
patients of that scanner too, so groups of other patients are told apart by it as well; the report says how much of the score's
dependence on the scanner the rendering explains.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Space, Unit, Variant
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical, require_signal_range
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._scanner_names import IN_ORDER, USUAL_COLUMN, scanner_column
from robustbench_rad.shifts._scanner_rendering import Transfer, spectrum_distance_db
from robustbench_rad.shifts._scanner_statistics import (
    Scanner,
    Tally,
    from_state,
    log_spectrum,
    read_noise,
    spacing_or_assumed_mm,
    to_state,
)

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.plan import Plan

_PADDING_HU, _AIR_HU = -1024.0, -1000.0
MEASURED = (
    "spectrum_distance_before_db",
    "spectrum_distance_db",
    "lowest_gain",
    "highest_gain",
    "noise_sd_requested",
    "noise_sd",
    "noise_not_removed",
    "structure_correlation",
)


def rank_level(value: float | str) -> Level:
    """Level of the k-th commonest scanner.

    >>> str(rank_level(1)), str(rank_level("2"))
    ('1 in order of cases', '2 in order of cases')
    """
    rank = float(value)
    if rank != int(rank) or not 1 <= rank <= 50:
        raise ValueError(f"expected a rank from 1 to 50, or names by the option scanners, got {value}")
    return Level(name=str(int(rank)), value=rank, unit=IN_ORDER)


@register(
    id="shift.scanner.transfer",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "CT", "DX", "MG", "MR"),
    reference="Mackenzie et al. 2012, LNCS 7361:394; Nyúl et al. 2000, 10.1109/42.836373",
)
@dataclass(frozen=True, kw_only=True)
class ScannerTransfer(Condition):
    """Every image rendered as if from another scanner of the same data set.

    Attributes:
        levels: Targets by rank: 1 is the scanner with most cases. Two of them render two scanners both ways.
        scanners: Targets by name, instead of ranks.
        column: Metadata column that names the scanner; where the plan has none of the usual name, the first one declared
            as a nuisance.
        least_cases: Scanners with fewer cases are neither source nor target.
        largest_gain: Cap of the spectrum ratio, both ways.
        match_grey_levels: Whether grey levels are carried over too; images in HU, which are calibrated, keep theirs.
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown.
    """

    levels: tuple[Level, ...] = (rank_level(1), rank_level(2))
    scanners: tuple[str, ...] = ()
    column: str = USUAL_COLUMN
    least_cases: int = 30
    largest_gain: float = 4.0
    match_grey_levels: bool = True
    assumed_field_of_view_mm: float = 430.0

    def __post_init__(self) -> None:
        require_positive(self, ("largest_gain", "assumed_field_of_view_mm", "least_cases"))
        if self.largest_gain <= 1.0:
            raise ValueError(f"largest_gain: expected above 1, got {self.largest_gain}")
        if isinstance(self.scanners, str) or len(set(self.scanners)) < len(self.scanners):
            raise ValueError(f"scanners: expected a list of different names, got {self.scanners!r}")
        if self.scanners:
            named = [Level(name=name, value=float(place), unit="") for place, name in enumerate(self.scanners, start=1)]
            object.__setattr__(self, "levels", tuple(named))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a rank."""
        return rank_level(value)

    def bound(self, plan: Plan) -> Self:
        """Find the column that names the scanner.

        Raises:
            PlanError: The column asked for is not declared.
        """
        roles = plan.data.metadata
        column = scanner_column(self.column, roles)
        if column not in roles and column != USUAL_COLUMN:
            raise PlanError(
                f"[checks.{self.id!r}]: column {column!r} is not declared in [data] metadata",
                hint=suggestion(column, list(roles)),
            )
        return replace(self, column=column)

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Learn what the images of each scanner have in common; memory grows with the number of scanners alone."""
        del classifier
        tallies: dict[str, Tally] = {}
        for batch in batches:
            spacing, _ = spacing_or_assumed_mm(batch, self.assumed_field_of_view_mm)
            for row, name in enumerate(self._names(batch)):
                tally = tallies.setdefault(name, Tally())
                tally.cases += 1
                image = batch.images[row, 0]
                usable = batch.space is Space.PHYSICAL and batch.unit is not None and bool(image.isfinite().all())
                if name and usable and batch.unit is not None and min(image.shape[-2:]) >= 8:
                    tally.add(_planes(image), spacing[row].tolist(), batch.unit)
        return to_state(tallies)

    def _names(self, batch: Batch) -> list[str]:
        return [row.get(self.column, "") for row in batch.metadata] if batch.metadata else [""] * len(batch)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Render images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` as of every target, slice by slice.

        A case of the target itself, of no scanner, or of one with too few cases is not applicable and comes back unchanged.

        Measurements: ``assumed_spacing_mm``; per level ``spectrum_distance_before_db`` and ``spectrum_distance_db`` (to the
        target's mean spectrum), ``lowest_gain`` and ``highest_gain`` of the filter, ``noise_sd_requested`` and ``noise_sd``
        as read, ``noise_not_removed`` (read over requested, where there was too much, for noise is never taken away), and
        ``structure_correlation`` of the image before and after.

        Raises:
            TypeError: It was not fitted.
            DataError: Not in physical space.
            ImageError: NaN pixels, or values outside the range of the unit.
        """
        del query
        if state is None:
            raise TypeError(f"{self.id}: it must be fitted first")
        unit = batch.unit if batch.unit is not None else Unit.SIGNAL
        require_physical(batch, shift=self.id, unit=unit, ndim=(4, 5))
        if unit is Unit.SIGNAL:
            require_signal_range(batch, shift=self.id)
        if unit is Unit.HU:
            require_hounsfield(batch, shift=self.id)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, unit, state, measurements), measurements=measurements)

    def _variants(self, batch: Batch, unit: Unit, state: State, measurements: list[Measurement]) -> Iterator[Variant]:
        known = list(from_state(state))
        spacing, assumed = spacing_or_assumed_mm(batch, self.assumed_field_of_view_mm)
        measurements.append(Measurement(quantity="assumed_spacing_mm", values=assumed))
        names = self._names(batch)
        for level in self.levels:
            target, why_not = self._target(level, known)
            values = {quantity: [math.nan] * len(batch) for quantity in MEASURED}
            images, applicable, reasons = list(batch.images), [False] * len(batch), [why_not]
            transfers: dict[str, Transfer] = {}
            for row, name in enumerate(names):
                source, reason = self._source(name, target, known)
                if target is None or source is None:
                    reasons.append(reason)
                    continue
                transfer = transfers.get(name) or self._transfer(source, target, unit)
                transfers[name] = transfer
                rendered, found = self._rendered(batch, row, spacing[row].tolist(), unit, transfer, target)
                images[row], applicable[row] = rendered, True
                for quantity, value in found.items():
                    values[quantity][row] = value
            measurements += [
                Measurement(quantity=quantity, values=torch.tensor(row, device=batch.device), level=level.name)
                for quantity, row in values.items()
            ]
            yield Variant(
                level=level,
                images=torch.stack(images),
                applicable=torch.tensor(applicable, dtype=torch.bool, device=batch.device),
                reason="; ".join(dict.fromkeys(filter(None, reasons))),
            )

    def _transfer(self, source: Scanner, target: Scanner, unit: Unit) -> Transfer:
        return Transfer.between(
            source,
            target,
            unit,
            largest_gain=self.largest_gain,
            grey_levels=self.match_grey_levels and unit is not Unit.HU,
        )

    def _target(self, level: Level, known: list[Scanner]) -> tuple[Scanner | None, str]:
        if not known:
            return None, f"no case names its scanner in the column {self.column!r}: declare one as a nuisance"
        if self.scanners:
            found = next((scanner for scanner in known if scanner.name == level.name), None)
            missing = f"no case is of scanner {level.name}"
        else:
            found = known[int(level.value) - 1] if level.value <= len(known) else None
            missing = f"there are only {len(known)} scanners"
        if found is None:
            return None, missing
        return (found, "") if found.measured >= self.least_cases else (None, self._too_few(found))

    def _source(self, name: str, target: Scanner | None, known: list[Scanner]) -> tuple[Scanner | None, str]:
        if target is None:
            return None, ""
        if not name:
            return None, "scanner not named"
        if name == target.name:
            return None, "of this scanner already"
        found = next(scanner for scanner in known if scanner.name == name)
        return (found, "") if found.measured >= self.least_cases else (None, self._too_few(found))

    def _too_few(self, scanner: Scanner) -> str:
        return f"scanner {scanner.name} has {scanner.measured} usable cases, {self.least_cases} are needed"

    def _rendered(
        self, batch: Batch, row: int, spacing_mm: list[float], unit: Unit, transfer: Transfer, target: Scanner
    ) -> tuple[Tensor, dict[str, float]]:
        """One image as of the target, and what was measured of it."""
        image = batch.images[row]
        planes = _planes(image[0])
        wanted = float(read_noise(planes[None], unit)) * transfer.noise_ratio
        carried, have = self._carried(planes, spacing_mm, unit, transfer)
        if have > wanted:  # sharpening must not bring more noise than the target has
            transfer = transfer.capped(transfer.highest_gain * wanted / have)
            carried, have = self._carried(planes, spacing_mm, unit, transfer)
        rendered = carried
        if wanted > have:
            missing = math.sqrt(wanted**2 - have**2)
            rendered = _within(
                carried + missing * self._unit_noise(batch, row, planes, spacing_mm, transfer), planes, unit
            )
        found = {
            "spectrum_distance_before_db": spectrum_distance_db(
                log_spectrum(planes.detach(), spacing_mm)[0], target.log_spectrum
            ),
            "spectrum_distance_db": spectrum_distance_db(
                log_spectrum(rendered.detach(), spacing_mm)[0], target.log_spectrum
            ),
            "lowest_gain": transfer.lowest_gain,
            "highest_gain": transfer.highest_gain,
            "noise_sd_requested": wanted,
            "noise_sd": float(read_noise(rendered[None].detach(), unit)),
            "noise_not_removed": have / wanted if have > wanted > 0.0 else math.nan,
            "structure_correlation": _correlation(planes.detach(), rendered.detach()),
        }
        return rendered.reshape(image.shape), found

    def _carried(self, planes: Tensor, spacing_mm: list[float], unit: Unit, transfer: Transfer) -> tuple[Tensor, float]:
        """Slices with the target's spectrum and grey levels, and their noise."""
        filled = planes.clamp_min(_AIR_HU) if unit is Unit.HU else planes  # padding would ring
        carried = transfer.grey_levels(_within(transfer.filtered(filled, spacing_mm), planes, unit), unit)
        return carried, float(read_noise(carried[None].detach(), unit))

    def _unit_noise(
        self, batch: Batch, row: int, planes: Tensor, spacing_mm: list[float], transfer: Transfer
    ) -> Tensor:
        """Noise of the target's spectrum that reads as 1 where noise is read; one draw for all levels."""
        white = seeds.normal(planes.shape, batch.device, (batch.seeds[row],), self.id, self.version, "noise")[0]
        shaped = transfer.noise(white, spacing_mm)
        even = shaped[:, : shaped.shape[1] // 2 * 2, : shaped.shape[2] // 2 * 2]
        a, b, c, d = (even[:, top::2, left::2] for top in (0, 1) for left in (0, 1))
        return shaped / ((a - b - c + d) / 2.0).std(correction=0).clamp_min(1e-12)


def _planes(image: Tensor) -> Tensor:
    """``(H, W)`` or ``(D, H, W)`` as ``(D, H, W)``."""
    return image.reshape(-1, *image.shape[-2:])


def _within(changed: Tensor, planes: Tensor, unit: Unit) -> Tensor:
    """A signal ends at 0 and 1, a magnitude at 0; pixels that were saturated stay as they are."""
    if unit is Unit.SIGNAL:
        return torch.where((planes > 0.0) & (planes < 1.0), changed.clamp(0.0, 1.0), planes)
    if unit is Unit.MAGNITUDE:
        return torch.where(planes > 0.0, changed.clamp_min(0.0), planes)
    return torch.where(planes > _PADDING_HU, changed, planes)


def _correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two images; NaN where one is constant."""
    one, other = (values.double().flatten() - values.double().mean() for values in (first, second))
    scale = one.norm() * other.norm()
    return float(one @ other / scale) if float(scale) > 0.0 else math.nan
