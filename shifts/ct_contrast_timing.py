"""Contrast medium that arrives early, late or not at all: the enhancement of masked vessels or organs is scaled.

    HU' = HU + (s - 1) · E,      E = max(mean HU around the pixel, inside the mask - HU without contrast, 0)

E is the iodine map: 26.6 HU per mg iodine and ml at 120 kVp. It is taken from a local mean over the mask, so that neither
the noise nor the edge of the structure is scaled along.

Reference:
    Bae 2010, Intravenous contrast medium administration and scan timing at CT, 10.1148/radiol.10090908.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant, fraction
from robustbench_rad.misfits import MISFIT, misfit_rows
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import CLIPPED, clipped_hu, per_case, require_hounsfield, require_physical
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._planes import gaussian_in_plane, reconstructed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

_UNIT = "of the enhancement"
_LOCAL_MEAN_PX = 2.0
_HU_PER_MG_ML = 26.6


def _enhancement_level(value: float | str) -> Level:
    share = fraction(value)
    if not 0.0 <= share <= 5.0:
        raise ValueError(f"expected a factor on the enhancement between 0 and 5, got {value}")
    return Level(name=str(value), value=share, unit=_UNIT)


@register(
    id="shift.ct.contrast-timing",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CT",),
    reference="Bae 2010, 10.1148/radiol.10090908",
    unit="of the enhancement",
)
@dataclass(frozen=True, kw_only=True)
class CtContrastTiming(Condition):
    """More, less or no contrast medium in the structures of a mask.

    Approximate: one factor for all that is masked, although arteries, veins and organs fill one after the other. Without a
    mask there is no telling contrast medium from bone, and a case is not applicable.

    Attributes:
        levels: Factors on the enhancement, in the order of the spec: less, none, then more; 1 is the image itself.
        mask: ``anatomy`` or ``lesion``: which masks of the plan show the enhanced structures.
        without_contrast_hu: CT number of these structures without contrast medium (blood and organs about 40).
        least_enhancement_hu: Mean enhancement below which a case counts as not enhanced, and is not applicable.
    """

    neutral: ClassVar[float | None] = 1.0

    levels: tuple[Level, ...] = tuple(_enhancement_level(share) for share in (0.75, 0.5, 0.25, 0.0, 1.5))
    mask: str = "anatomy"
    without_contrast_hu: float = 40.0
    least_enhancement_hu: float = 20.0

    def __post_init__(self) -> None:
        require_one_of(self, "mask", ("anatomy", "lesion"))
        require_positive(self, ("without_contrast_hu", "least_enhancement_hu"), zero=True)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a factor between 0 (no contrast medium) and 5."""
        return _enhancement_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Scale the enhancement of images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU inside the mask.

        Differentiable; outside of the mask nothing changes.

        Measurements: ``source_enhancement_hu`` and ``source_iodine_mg_per_ml`` (at 120 kVp); per level
        ``enhancement_requested_hu`` and ``enhancement_hu``, means over the mask.

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        masks = batch.anatomy if self.mask == "anatomy" else batch.lesion
        mask = torch.zeros_like(batch.images, dtype=torch.bool) if masks is None else masks.to(torch.bool)
        mask = mask & reconstructed(batch.images)
        size = mask.flatten(1).sum(1)
        enhancement = enhancement_hu(batch.images, mask, without_contrast_hu=self.without_contrast_hu)
        source = _masked_mean(enhancement, mask)
        clipped = clipped_hu(batch)
        enhanced = source >= self.least_enhancement_hu
        applicable = enhanced & ~clipped
        misfit = misfit_rows(batch) & (self.mask == "anatomy")
        reasons = [
            (CLIPPED, clipped),
            (f"no {self.mask} mask of the enhanced structures", (size == 0) & ~misfit),
            (MISFIT, misfit),
            ("no enhancement inside the mask", (size > 0) & ~enhanced),
        ]
        reason = ", ".join(text for text, cases in reasons if bool(cases.any()))
        measurements += [
            Measurement(quantity="source_enhancement_hu", values=source),
            Measurement(quantity="source_iodine_mg_per_ml", values=source / _HU_PER_MG_ML),
        ]
        for level in self.levels:
            images = batch.images
            if level.value != 1.0:
                changed = images + (level.value - 1.0) * enhancement
                images = torch.where(per_case(applicable, images), changed, images)
            achieved = source + _masked_mean(images - batch.images, mask)
            measurements += [
                Measurement(quantity=name, values=torch.where(applicable, values, torch.nan), level=level.name)
                for name, values in (
                    ("enhancement_requested_hu", source * level.value),
                    ("enhancement_hu", achieved),
                )
            ]
            yield Variant(level=level, images=images, applicable=applicable, reason=reason)


def enhancement_hu(images_hu: Tensor, mask: Tensor, *, without_contrast_hu: float) -> Tensor:
    """Enhancement of every masked pixel from the mean over the mask around it, not below 0; 0 outside of the mask.

    >>> image = torch.full((1, 1, 8, 8), 240.0)
    >>> mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    >>> mask[..., 2:5, 2:5] = True
    >>> enhancement_hu(image, mask, without_contrast_hu=40.0)[0, 0, 3, 1:6].round().tolist()
    [0.0, 200.0, 200.0, 200.0, 0.0]
    """
    inside = mask.to(images_hu.dtype)
    weighted = gaussian_in_plane(inside * (images_hu - without_contrast_hu), sigma_px=_LOCAL_MEAN_PX)
    weight = gaussian_in_plane(inside, sigma_px=_LOCAL_MEAN_PX)
    return (weighted / weight.clamp_min(1e-6)).clamp_min(0.0) * inside


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean ``(N,)`` over the mask; NaN for an empty one."""
    return ((values.detach() * mask).flatten(1).sum(1)) / mask.flatten(1).sum(1)
