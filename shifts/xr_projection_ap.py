"""An antero-posterior projection of a postero-anterior radiograph: the heart is magnified, the chest is not.

A structure at the distance OID from the detector is magnified by ``SID / (SID - OID)``: the heart at 8 cm in a PA radiograph at
183 cm by 1.046, at 16 cm in an AP radiograph at 100 cm by 1.19. The heart is enlarged about its middle,

    source place = place · (1 - (1 - 1/k) · w(r)),

k the ratio of the two, w = 1 up to the new edge of the heart and falling smoothly to 0 at the chest wall.
Without a grid and with a weak generator a bedside radiograph has more scatter and more noise as well; both are those of
``shift.xr.scatter`` and ``shift.xr.dose``, after the heart has grown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Condition, Level
from robustbench_rad.misfits import MISFIT, misfit_rows
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._radiograph import RadiographShift
from robustbench_rad.shifts._resample import pixel_axes, sampled, sampled_mask
from robustbench_rad.shifts._thorax import Thorax, column, lungs_width, width_in_row
from robustbench_rad.shifts.xr_dose import XrDose
from robustbench_rad.shifts.xr_scatter import XrScatter

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "× heart width"
_VIEW_COLUMNS = {"view", "viewposition"}
_FALLS_OVER = 1.2  # heart radii, where the chest wall is further away


@register(
    id="shift.xr.projection-ap",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="Milne et al. 1988, Assessment of cardiac size on portable chest films, J Thorac Imaging",
    unit="× heart width",
)
@dataclass(frozen=True, kw_only=True)
class XrProjectionAp(RadiographShift):
    """The larger heart of an AP chest radiograph.

    Needs masks of the anatomy: of both lungs without the lung behind the heart, or of the heart itself. Cases without one, and
    those that are AP already, are not applicable. Measured per level: ``heart_width_factor`` as achieved, and
    ``cardiothoracic_ratio`` (for masks of the lungs), both on the moved mask; with scatter or noise also what their own shifts
    measure.

    Attributes:
        levels: Factors on the heart's width; 1 is the image itself.
        mask: What the masks of the anatomy show: ``lungs`` or ``heart``.
        scatter_fraction: Of the field, as in ``shift.xr.scatter``, 0.6 or so at the bedside; 0: as it is.
        exposure: Share of the exposure, as in ``shift.xr.dose``; 1: as it is.
        display_curve: For both: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
    """

    neutral: ClassVar[float | None] = 1.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a factor on the heart's width"
    lowest: ClassVar[float] = 1.0
    highest: ClassVar[float] = 1.5

    levels: tuple[Level, ...] = ladder(_UNIT, "1.03", "1.06", "1.10", "1.125", "1.15")
    mask: str = "lungs"
    scatter_fraction: float = 0.0
    exposure: float = 1.0
    display_curve: str = "log-linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "mask", ("lungs", "heart"))
        _ = self.bedside  # checks the others

    @property
    def bedside(self) -> tuple[Condition, ...]:
        """Scatter and noise, in the order of the imaging chain; none where they are as they were."""
        curve = self.display_curve
        scatter = XrScatter(levels=(XrScatter.level(self.scatter_fraction),), display_curve=curve)
        dose = XrDose(levels=(XrDose.level(self.exposure),), display_curve=curve)
        wanted = (self.scatter_fraction != 0.0, self.exposure != 1.0)
        return tuple(shift for shift, does in zip((scatter, dose), wanted, strict=True) if does)

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Find every heart."""
        before = self._thoraces(batch.anatomy, len(batch))
        found = torch.tensor([thorax.known for thorax in before], device=batch.device)
        already = torch.tensor(antero_posterior(batch), device=batch.device)
        misfit = misfit_rows(batch)
        missing = "no heart between the lungs in the mask" if self.mask == "lungs" else "no heart in the mask"
        if batch.anatomy is None:
            missing = f"no mask of the {self.mask}; give [data] anatomy"
        reasons = [(missing, ~found & ~misfit), (MISFIT, misfit), ("an AP radiograph already", already)]
        reason = ", ".join(text for text, cases in reasons if bool(cases.any()))

        def render(level: Level) -> Change:
            rows, columns = magnified_heart(before, batch.images, level.value)
            anatomy = sampled_mask(batch.anatomy, rows, columns)
            magnified = sampled(batch.images, rows, columns).clamp(0.0, 1.0)
            now, meant, why, said = _one_after_the_other(replace(batch, images=magnified), self.bedside)
            return Change(
                images=now.images,
                measured={**self._measured(anatomy, before, batch), **said},
                applicable=found & ~already & meant,
                reason=", ".join(filter(None, (reason, why))),
                attributes={"ViewPosition": "AP"},
                case_attributes=_news(batch, now),
                anatomy=anatomy,
                lesion=sampled_mask(batch.lesion, rows, columns),
            )

        return render

    def _measured(self, moved: Tensor | None, before: Sequence[Thorax], batch: Batch) -> dict[str, Tensor]:
        """Width of every heart in its row after the level, over that before it, and the cardiothoracic ratio."""
        empty = torch.zeros_like(batch.images, dtype=torch.bool)
        masks = (empty if moved is None else moved)[:, 0]
        lungs = self.mask == "lungs"
        widths = [width_in_row(mask, thorax, lungs=lungs) for mask, thorax in zip(masks, before, strict=True)]
        factors = [width / thorax.heart_px for width, thorax in zip(widths, before, strict=True)]
        measured = {"heart_width_factor": batch.images.new_tensor(factors)}
        if lungs:
            ratios = [width / lungs_width(mask) for width, mask in zip(widths, masks, strict=True)]
            measured["cardiothoracic_ratio"] = batch.images.new_tensor(ratios)
        return measured

    def _thoraces(self, masks: Tensor | None, count: int) -> list[Thorax]:
        if masks is None:
            return [Thorax.unknown()] * count
        read = Thorax.of_lungs if self.mask == "lungs" else Thorax.of_heart
        return [read(mask) for mask in masks[:, 0]]


def _one_after_the_other(batch: Batch, shifts: Sequence[Condition]) -> tuple[Batch, Tensor, str, dict[str, Tensor]]:
    """The batch after shifts of one level each, where all apply, why not elsewhere, and what they measured."""
    meant, reasons = torch.ones(len(batch), dtype=torch.bool, device=batch.device), []
    said: dict[str, Tensor] = {}
    for shift in shifts:
        applied = shift.apply(batch, None, None)
        (variant,) = applied.variants
        if variant.applicable is not None:
            meant = meant & variant.applicable
        reasons += [variant.reason] if variant.reason else []
        said |= {m.quantity: m.values for m in applied.measurements}
        batch = variant.applied_to(batch)
    return batch, meant, ", ".join(reasons), said


def _news(before: Batch, after: Batch) -> tuple[dict[str, str], ...]:
    """What the header of each case says now and did not say before."""
    nothing: tuple[Mapping[str, str], ...] = ({},) * len(before)
    rows = zip(before.attributes or nothing, after.attributes or nothing, strict=True)
    return tuple({name: text for name, text in new.items() if old.get(name) != text} for old, new in rows)


def antero_posterior(batch: Batch) -> list[bool]:
    """Whether the header, else a declared column, says that a case is an AP radiograph."""
    nothing: tuple[Mapping[str, str], ...] = ({},) * len(batch)
    views = []
    for attributes, metadata in zip(batch.attributes or nothing, batch.metadata or nothing, strict=True):
        declared = [text for name, text in metadata.items() if name.lower().replace("_", "") in _VIEW_COLUMNS]
        views.append(next(filter(None, [attributes.get("ViewPosition", ""), *declared]), ""))
    return [view.strip().upper() == "AP" for view in views]


def magnified_heart(thoraces: Sequence[Thorax], images: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Source row and column ``(N, H, W)`` of every pixel; identity where no heart is known."""
    rows, columns = pixel_axes(images)
    known = column([float(thorax.known) for thorax in thoraces], images) > 0
    middle, row, radius, reach = (
        column(values, images).nan_to_num(1.0)
        for values in (
            [(thorax.left + thorax.right - 1.0) / 2.0 for thorax in thoraces],
            [thorax.row for thorax in thoraces],
            [thorax.heart_px / 2.0 for thorax in thoraces],
            [_wall_px(thorax) for thorax in thoraces],
        )
    )
    across, down = columns - middle, rows - row
    edge = factor * radius
    outer = torch.maximum(1.3 * edge, torch.minimum(reach, (1.0 + _FALLS_OVER) * edge))
    fall = ((torch.hypot(across, down) - edge) / (outer - edge)).clamp(0.0, 1.0)
    weight = 1.0 - fall * fall * (3.0 - 2.0 * fall)
    scale = torch.where(known, 1.0 - (1.0 - 1.0 / factor) * weight, 1.0)
    return torch.where(known, row + scale * down, rows), torch.where(known, middle + scale * across, columns)


def _wall_px(thorax: Thorax) -> float:
    """Distance from the middle of the heart to the nearer chest wall."""
    middle = (thorax.left + thorax.right) / 2.0
    return min(middle - thorax.thorax_left, thorax.thorax_right - middle)


def magnification(source_to_image_cm: float, object_to_image_cm: float) -> float:
    """Magnification of a structure by the diverging beam.

    >>> round(magnification(100, 16) / magnification(183, 8), 3)
    1.138
    """
    return source_to_image_cm / (source_to_image_cm - object_to_image_cm)
