"""Another display field of view: the same matrix over a smaller field, so that anatomy appears larger and less of it is shown.

The image is resampled about its centre by cubic interpolation to the spacing ``field / columns``. Detail that a reconstruction
at the smaller pixels would show is not invented; the frequencies up to the old pixels' limit are kept.

Reference:
    Keys 1981, Cubic convolution interpolation for digital image processing, 10.1109/TASSP.1981.1163711.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts._header import number_text
from robustbench_rad.shifts._inputs import per_case, require_hounsfield, require_physical, square_spacing_mm
from robustbench_rad.shifts._planes import reconstructed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

_SAME = 1e-3  # relative difference of the field that makes no difference
_LESION_KEPT = 0.5


def _field_level(value: float | str) -> Level:
    field_mm = float(value)
    if not 10.0 <= field_mm <= 1000.0:
        raise ValueError(f"expected a field of view from 10 to 1000 mm, got {value}")
    return Level(name=str(value), value=field_mm, unit="mm")


@register(
    id="shift.ct.fov",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CT",),
    reference="Keys 1981, 10.1109/TASSP.1981.1163711",
    unit="mm",
)
@dataclass(frozen=True, kw_only=True)
class CtFov(Condition):
    """A smaller display field of view about the centre of the image, at the same matrix.

    Approximate: resampled, not reconstructed. A case whose field is smaller already is not applicable, for what lies outside of
    it was never seen; nor is one of which less than half of the lesion would stay in the image.

    Attributes:
        levels: Width of the field in mm, largest first.
    """

    levels: tuple[Level, ...] = tuple(_field_level(field_mm) for field_mm in (400, 350, 300, 250, 200))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the width of the field in mm."""
        return _field_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Resample images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU, and their masks.

        Linear in the image; cubic interpolation overshoots at edges by some per cent, as kernels do. Padding stays padding.

        Measurements: ``source_field_mm``; per level ``field_requested_mm`` and ``field_mm``, and the new spacing.

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
        spacing, unusable = square_spacing_mm(batch)
        source = spacing * batch.images.shape[-1]
        measurements.append(Measurement(quantity="source_field_mm", values=source))
        inside = reconstructed(batch.images)
        for level in self.levels:
            scale = level.value / source
            smaller = scale < 1.0 - _SAME
            small_already = scale > 1.0 + _SAME
            zoom = torch.where(smaller, scale, 1.0)
            lost = _lesion_lost(batch, zoom)
            applicable = spacing.isfinite() & ~small_already & ~lost
            changed = applicable & smaller
            zoom = torch.where(changed, scale, 1.0)
            reasons = [(unusable, bool(unusable))]
            reasons += [("the field is smaller already", bool(small_already.any()))]
            reasons += [("the lesion would lie outside of the field", bool(lost.any()))]
            achieved = torch.where(applicable, source * zoom, torch.nan)
            requested = torch.where(applicable, torch.full_like(source, level.value), torch.nan)
            measurements += [
                Measurement(quantity="field_requested_mm", values=requested, level=level.name),
                Measurement(quantity="field_mm", values=achieved, level=level.name),
            ]
            yield Variant(
                level=level,
                images=_zoomed_hu(batch.images, inside, zoom, changed),
                applicable=applicable,
                reason=", ".join(text for text, holds in reasons if holds),
                case_attributes=_header(level, changed, spacing * zoom),
                spacing_mm=_zoomed_spacing(batch, zoom),
                anatomy=_zoomed_mask(batch.anatomy, zoom),
                lesion=_zoomed_mask(batch.lesion, zoom),
            )


def zoomed(images: Tensor, zoom: Tensor, *, mode: str) -> Tensor:
    """Resample the middle ``zoom`` of height and width of every case to all of the pixels.

    Args:
        images: ``(N, C, …, H, W)``; slices are resampled alike.
        zoom: ``(N,)`` share of the field in (0, 1].
        mode: ``bicubic`` or ``nearest``.
    """
    # one case at a time: a share of exactly 1 must leave the others alone, and rounding must not depend on companions
    return torch.stack([_zoomed_case(image, share, mode) for image, share in zip(images, zoom, strict=True)])


def _zoomed_case(image: Tensor, share: Tensor, mode: str) -> Tensor:
    height, width = image.shape[-2:]
    planes = image.reshape(1, -1, height, width)
    axes = [(torch.arange(size, device=image.device) * 2.0 + 1.0) / size - 1.0 for size in (height, width)]
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    grid = (torch.stack([columns, rows], dim=-1)[None] * share).to(image.dtype)
    return functional.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False).reshape(
        image.shape
    )


def _zoomed_hu(images_hu: Tensor, inside: Tensor, zoom: Tensor, changed: Tensor) -> Tensor:
    if not bool(changed.any()):
        return images_hu
    padding = (images_hu.detach() * ~inside).flatten(1).amin(1)
    filled = torch.where(inside, images_hu, -1000.0)
    values = zoomed(filled, zoom, mode="bicubic")
    kept = zoomed(inside.to(images_hu.dtype), zoom, mode="nearest") > 0.5
    values = torch.where(kept, values, per_case(padding, values))
    return torch.where(per_case(changed, values), values, images_hu)


def _zoomed_mask(mask: Tensor | None, zoom: Tensor) -> Tensor | None:
    return None if mask is None else zoomed(mask.float(), zoom, mode="nearest") > 0.5


def _zoomed_spacing(batch: Batch, zoom: Tensor) -> Tensor | None:
    if batch.spacing_mm is None:
        return None
    factors = torch.ones_like(batch.spacing_mm)
    factors[:, -2:] = zoom[:, None]
    return batch.spacing_mm * factors


def _lesion_lost(batch: Batch, zoom: Tensor) -> Tensor:
    """Whether less than half of a case's lesion lies in the middle ``zoom`` of the image."""
    if batch.lesion is None:
        return torch.zeros_like(zoom, dtype=torch.bool)
    height, width = batch.lesion.shape[-2:]
    axes = [((torch.arange(size, device=zoom.device) * 2.0 + 1.0) / size - 1.0).abs() for size in (height, width)]
    seen = (axes[0][:, None] <= zoom[:, None, None]) & (axes[1] <= zoom[:, None, None])
    lesion = batch.lesion.reshape(len(batch), -1, height, width)
    kept, whole = (lesion & seen[:, None]).flatten(1).sum(1), lesion.flatten(1).sum(1)
    return kept < _LESION_KEPT * whole


def _header(level: Level, changed: Tensor, spacing_mm: Tensor) -> tuple[dict[str, str], ...]:
    texts = [number_text(value) for value in spacing_mm.tolist()]
    field_mm = number_text(level.value)
    return tuple(
        {"ReconstructionDiameter": field_mm, "PixelSpacing": f"{text}\\{text}"} if does else {}
        for text, does in zip(texts, changed.tolist(), strict=True)
    )
