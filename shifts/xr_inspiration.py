"""Less inspiration: lower lungs with the same mass of tissue, hence denser, and higher diaphragms.

Rows from the top of the lungs to their bottom are compressed by k; what lies below is stretched to follow, down to the lower
border. The tissue of the lungs, equivalent to a layer of water of thickness d, keeps its mass: in the lungs

    E' = E · exp(-µ d (1/k - 1)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.misfits import MISFIT, misfit_rows
from robustbench_rad.registry import register
from robustbench_rad.shifts._attenuation import attenuation_cm2_per_g
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._radiograph import ExposureShift
from robustbench_rad.shifts._resample import pixel_axes, sampled, sampled_mask
from robustbench_rad.shifts._thorax import column, extent

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "× lung height"
_LEAST_EXPOSURE = 1e-4
_LARGEST_STRETCH = 2.5  # of what lies below the lungs; beyond, the image is made of streaks
_BEAM_KV = 120.0


@register(
    id="shift.xr.inspiration",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="European Commission 1996, EUR 16260: quality criteria for diagnostic radiographic images",
    unit="× lung height",
)
@dataclass(frozen=True, kw_only=True)
class XrInspiration(ExposureShift):
    """A chest radiograph taken with less air in the lungs.

    Needs masks of the lungs; cases without one, or with too little below the lungs to follow, are not applicable.
    Measured per level: ``lung_height_factor`` as achieved on the moved mask, and ``mass_ratio``, the mass of the lungs'
    tissue over that of the source (1 but for clipped pixels).

    Attributes:
        levels: Factors on the height of the lungs; 1 is the image itself.
        lung_water_mm: Thickness of water that attenuates as the tissue of the lungs does.
    """

    neutral: ClassVar[float | None] = 1.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a factor on the height of the lungs"
    lowest: ClassVar[float] = 0.5
    highest: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = ladder(_UNIT, "0.97", "0.94", "0.9", "0.85", "0.8")
    lung_water_mm: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("lung_water_mm",))

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Find the lungs."""
        masks = torch.zeros_like(batch.images, dtype=torch.bool) if batch.anatomy is None else batch.anatomy
        edges = [extent(mask) for mask in masks[:, 0]]
        top, bottom = (column(values, batch.images) for values in zip(*edges, strict=True))
        found = masks.flatten(1).any(1)
        misfit = misfit_rows(batch)
        missing = "no lungs in the mask" if batch.anatomy is not None else "no mask of the lungs; give [data] anatomy"
        _, columns = pixel_axes(batch.images)
        tissue = self.lung_water_mm / 10.0 * attenuation_cm2_per_g("water", _BEAM_KV)

        def render(level: Level) -> Change:
            rows, stretch = compressed_rows(batch.images, top, bottom, level.value)
            enough = stretch <= _LARGEST_STRETCH
            lungs = sampled(masks.to(batch.images.dtype), rows, columns)
            moved = sampled(batch.images, rows, columns).clamp(0.0, 1.0)
            images = self.curve.signal(torch.exp(-tissue * (1.0 / level.value - 1.0) * lungs), moved)
            after = sampled(masks.to(batch.images.dtype), rows, columns, nearest=True) > 0.5
            added = (self._line(images) - self._line(moved)).sum((1, 2, 3)) / tissue
            mass = (lungs.sum((1, 2, 3)) + added) / masks.sum((1, 2, 3))
            reasons = (
                (missing, ~found & ~misfit),
                (MISFIT, misfit),
                ("too little of the image lies below the lungs", found & ~enough),
            )
            return Change(
                images=images,
                measured={"lung_height_factor": _heights(after) / _heights(masks), "mass_ratio": mass},
                applicable=found & enough,
                reason=", ".join(text for text, cases in reasons if bool(cases.any())),
                anatomy=None if batch.anatomy is None else after,
                lesion=sampled_mask(batch.lesion, rows, columns),
            )

        return render

    def _line(self, images: Tensor) -> Tensor:
        """Line integral of every pixel."""
        return -self.curve.exposure(images.detach()).clamp_min(_LEAST_EXPOSURE).log()


def _heights(masks: Tensor) -> Tensor:
    return torch.tensor([last - first for first, last in map(extent, masks[:, 0])], device=masks.device)


def compressed_rows(images: Tensor, top: Tensor, bottom: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Source row ``(N, H, 1)`` of every row, and how much what lies below is stretched ``(N,)``.

    Args:
        images: ``(N, 1, H, W)``, for their shape.
        top: Upper edge of the lungs in pixels ``(N, 1, 1)``, NaN for no change.
        bottom: Their lower edge.
        factor: k.
    """
    rows, _ = pixel_axes(images)
    edge, height = rows + 0.5, float(images.shape[-2])
    raised = top + factor * (bottom - top)
    inside = top + (edge - top) / factor
    room, needed = (height - bottom).clamp_min(1e-6), (height - raised).clamp_min(1e-6)
    below = bottom + (edge - raised) * room / needed
    source = torch.where(edge <= top, edge, torch.where(edge <= raised, inside, below))
    return torch.where(top.isnan(), edge, source) - 0.5, (needed / room)[:, 0, 0].nan_to_num(torch.inf)
