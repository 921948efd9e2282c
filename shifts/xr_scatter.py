"""More scattered radiation in projection radiography: no grid, a larger field, a thicker patient.

Scatter is a broad blur of the primary radiation, ``E = P + a · (K ∗ P)``, K a Gaussian of 10 to 20 cm with integral 1. From the
ratio a = SF / (1 - SF) of the source to that of the target the spectrum of the exposure is multiplied by

    G(f) = (1 + a_target K(f)) / (1 + a_source K(f)),

then exposure control brings the mean back. The contrast of small structures is multiplied by (1 - SF_target) / (1 - SF_source).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._display_curve import exposed, same_mean
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._percentile import percentile
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "scatter fraction"
_LUNG, _MEDIASTINUM = 0.75, 0.1  # percentiles of the exposure


@register(
    id="shift.xr.scatter",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="Niklason et al. 1981, 10.1118/1.595027; Floyd et al. 1994, 10.1097/00004424-199409000-00010",
    unit="scatter fraction",
)
@dataclass(frozen=True, kw_only=True)
class XrScatter(ContinuousLadder, ExposureShift, MillimetreShift):
    """Scattered radiation that a grid would have held back.

    A level is the scatter fraction of the whole field, scatter over all radiation. Where little primary radiation arrives
    (mediastinum) it is higher than that, in the lungs lower, as in patients; both follow from the image. Measured per
    level: ``scatter_fraction_lung`` and ``scatter_fraction_mediastinum`` at the 75th and 10th percentile of the exposure,
    and ``contrast_factor`` of small structures in the mean exposure. A fraction is NaN where the scatter supposed of the
    source is more than the place received, which the assumed display curve may make so.

    Attributes:
        levels: Scatter fractions of the field.
        source_scatter_fraction: Scatter fraction of the field in the images as they were made, below 1.
        kernel_fwhm_mm: Full width at half maximum of the scatter kernel.
    """

    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a scatter fraction"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 0.95

    levels: tuple[Level, ...] = ladder(_UNIT, "0.5", "0.55", "0.6", "0.65", "0.7")
    source_scatter_fraction: float = 0.4
    kernel_fwhm_mm: float = 150.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("kernel_fwhm_mm",))
        require_positive(self, ("source_scatter_fraction",), zero=True)
        if self.source_scatter_fraction >= 1.0:
            raise ValueError(f"source_scatter_fraction: expected below 1, got {self.source_scatter_fraction}")

    @property
    def source_value(self) -> float:
        """The scatter of the source, which changes nothing."""
        return self.source_scatter_fraction

    def is_neutral(self, level: Level) -> bool:
        """The scatter of the source."""
        return level.value == self.source_scatter_fraction

    def about(self, batch: Batch) -> list[Measurement]:
        """The source's scatter fraction as it was supposed."""
        supposed = torch.full((len(batch),), self.source_scatter_fraction, device=batch.device)
        return [*super().about(batch), Measurement(quantity="source_scatter_fraction", values=supposed)]

    def prepare(self, batch: Batch) -> AlterValue:
        """Part the source into primary radiation and scatter, once for all levels."""
        spacing, usable, reason = self.spacing_mm(batch)
        before = self.curve.exposure(batch.images)
        ratio = scatter_to_primary(self.source_scatter_fraction)
        blurred = mirrored(before, spacing, lambda v, u: self._kernel(v, u) / (1.0 + ratio * self._kernel(v, u)))
        primary = before - ratio * blurred
        places = [percentile(before, share, exposed(batch.images)) for share in (_LUNG, _MEDIASTINUM)]

        def alter(fraction: Value) -> Change:
            asked = filled(fraction, before)
            more = asked >= self.source_scatter_fraction
            scatter = scatter_to_primary(per_case_factor(fraction, before)) * blurred
            images = self.curve.changed(same_mean(primary + scatter, before, batch.images), before, batch.images)
            fractions = [_fraction_at(place, before, primary, scatter) for place in places]
            return Change(
                images=images,
                measured={
                    "scatter_fraction_lung": fractions[0],
                    "scatter_fraction_mediastinum": fractions[1],
                    "contrast_factor": (1.0 - asked) / (1.0 - self.source_scatter_fraction),
                },
                applicable=usable & more,
                reason=", ".join(
                    filter(None, (reason, "" if bool(more.all()) else "the source has more scatter already"))
                ),
                attributes={"Grid": "NONE"},
            )

        return alter

    def _kernel(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Transfer function of the scatter kernel."""
        square = vertical**2 + horizontal**2
        return torch.exp(-((math.pi * self.kernel_fwhm_mm) ** 2) * square / (4.0 * math.log(2.0)))


def scatter_to_primary(scatter_fraction: Value) -> Value:
    """Ratio of scattered to primary radiation.

    >>> scatter_to_primary(0.75)
    3.0
    """
    return scatter_fraction / (1.0 - scatter_fraction)


def _fraction_at(place: Tensor, before: Tensor, primary: Tensor, scatter: Tensor) -> Tensor:
    """Scatter fraction ``(N,)``, mean over the pixels whose exposure before was within 5 % of ``place``.

    NaN where the scatter supposed of the source is more than most of these pixels received: there is no primary radiation.
    """
    near = (before / place.clamp_min(1e-12)[:, None, None, None] - 1.0).abs() < 0.05
    reached = near & (primary > 0.0)
    share = torch.where(reached, scatter / (primary + scatter).clamp_min(1e-12), 0.0).sum((1, 2, 3))
    count = reached.sum((1, 2, 3))
    return torch.where(2 * count > near.sum((1, 2, 3)), share / count, torch.nan).detach()
