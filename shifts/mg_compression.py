"""Less compression in mammography: a thicker breast that covers less of the detector, with more scatter.

Tissue keeps its volume. A breast r times as thick is smaller in the image by √r along both axes, about its place at the chest
wall, and every ray passes r times as much of each tissue:

    A'(x) = A(x') + (r - 1) · (G ∗ A)(x'),      x' - c = √r · (x - c),      A = -ln primary exposure

G is a Gaussian of about a millimetre: what is smaller (calcifications, grain) does not flatten with the breast and keeps its
contrast. Scatter is a blur of the primary radiation behind the breast, in proportion to the thickness, and exposure control
keeps the mean exposure of the breast, so the noise stays.

References:
    Carton et al. 2009, The effect of scatter and glare on image quality in contrast-enhanced breast imaging using an
    a-Si/CsI(Tl) full-field flat panel detector, PMC2736748 (scatter over primary 0.06 to 0.31 behind 20 to 80 mm with a grid,
    0.35 to 1.34 without).
    Saunders and Samei 2008, The effect of breast compression on mass conspicuity in digital mammography, Med Phys 35:4464.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import exposed
from robustbench_rad.shifts._header import header_numbers, number_text
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mirror import Transfer, mirrored
from robustbench_rad.shifts._percentile import percentile
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_UNIT = "× thickness"
_THICKNESS = "BodyPartThickness"
_BREAST = 0.2  # of the 95th percentile of the attenuation: less is air
_EDGE = 0.02  # of the width: where the chest wall is looked for
_ATTACHED = 0.1  # share of that edge that is breast
_LEAST = 1e-6
_STEPS = 6
_KERNEL_PIXELS = 16.0  # pixels of the coarse grid in the width of the scatter kernel


@register(
    id="shift.mg.compression",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MG",),
    reference="Carton et al. 2009, PMC2736748; Saunders and Samei 2008, Med Phys 35:4464",
    unit="× thickness",
)
@dataclass(frozen=True, kw_only=True)
class MgCompression(ExposureShift, MillimetreShift):
    """A breast that was compressed less, or more.

    Approximate: the display curve is declared, all tissue stretches alike, and tube voltage stays. What lay outside of the
    field and would now be seen is a mirror image of what is inside; markers beside the breast move with it; what is black or
    white (air, letters) stays that. An image whose left or right edge shows no chest wall is not applicable.

    Measured per level: ``thickness_mm`` (NaN where the header does not say it), ``scatter_to_primary`` in the middle of a large
    breast, and there ``contrast_factor`` of structures that flatten with the breast and ``small_contrast_factor`` of those that
    do not; ``breast_area_ratio`` as achieved, 1 / r where the whole breast is in the image; and ``mirrored_share`` of the
    breast that was outside of the field.

    Attributes:
        levels: Compressed thickness over that of the source, r; 1 is the image itself.
        assumed_thickness_mm: Compressed thickness where the header does not say BodyPartThickness.
        scatter_to_primary_per_mm: Scattered over primary radiation per mm of thickness; 0.0168 for no grid.
        kernel_fwhm_mm: Full width at half maximum of the scatter kernel.
        rigid_below_mm: Full width at half maximum of G; 0: everything flattens with the breast, grain included.
    """

    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a thickness over that of the source"
    neutral: ClassVar[float | None] = 1.0
    lowest: ClassVar[float] = 0.5
    highest: ClassVar[float] = 2.0

    levels: tuple[Level, ...] = ladder(_UNIT, "1.05", "1.1", "1.2", "1.3", "1.5")
    assumed_thickness_mm: float = 55.0
    scatter_to_primary_per_mm: float = 0.0037
    kernel_fwhm_mm: float = 40.0
    rigid_below_mm: float = 1.0
    assumed_field_of_view_mm: float = 290.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("assumed_thickness_mm", "kernel_fwhm_mm"))
        require_positive(self, ("scatter_to_primary_per_mm", "rigid_below_mm"), zero=True)

    def prepare(self, batch: Batch) -> Alter:
        """Take the scatter off and find the breast and its chest wall, once for all levels."""
        spacing, usable, reason = self.spacing_mm(batch)
        said = torch.tensor(header_numbers(batch, _THICKNESS), dtype=spacing.dtype, device=batch.device)
        thickness = torch.where(said > 0.0, said, self.assumed_thickness_mm)
        source_ratio = self.scatter_to_primary_per_mm * thickness
        before = self.curve.exposure(batch.images)
        inside = breast(self._coarse(-before.clamp_min(_LEAST).log(), spacing))
        attenuation = -self._primary(before, inside, spacing, source_ratio).clamp_min(_LEAST).log()
        coarse = self._coarse(attenuation, spacing)
        centre, attached = chest_wall(inside)
        said_by = exposed(batch.images).to(batch.images.dtype)
        reasons = [reason, "" if bool(attached.all()) else "no chest wall at the left or right edge"]

        def alter(ratio: float) -> Change:
            places = spread_places(centre, math.sqrt(ratio), batch.images.shape[-2:])
            spread, covered = _spread(attenuation + (ratio - 1.0) * coarse, inside, places)
            primary, target_ratio = (-spread).exp(), source_ratio * ratio
            exposure = primary + per_case(target_ratio, primary) * self._scatter(primary * covered, spacing)
            exposure = exposure * (_mean(before, inside) / _mean(exposure, covered))
            signal = self.curve.signal(exposure / before.clamp_min(_LEAST), batch.images)
            known, ends = (_read(part, places, "nearest", "border") for part in (said_by, batch.images))
            small = (1.0 + source_ratio) / (1.0 + target_ratio)
            outside = (places.abs() > 1.0).any(-1)[:, None] & covered
            texts = [{_THICKNESS: number_text(mm * ratio)} if mm > 0.0 else {} for mm in said.tolist()]
            return Change(
                images=torch.where(known > 0.5, signal, ends.round()),
                measured={
                    "thickness_mm": torch.where(said > 0.0, said * ratio, torch.nan),
                    "scatter_to_primary": target_ratio,
                    "contrast_factor": ratio * small,
                    "small_contrast_factor": small,
                    "breast_area_ratio": covered.sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp_min(1),
                    "mirrored_share": outside.sum((1, 2, 3)) / covered.sum((1, 2, 3)).clamp_min(1),
                },
                applicable=usable & attached,
                reason=", ".join(filter(None, reasons)),
                case_attributes=tuple(texts),
                anatomy=None if batch.anatomy is None else _moved(batch.anatomy, places),
                lesion=None if batch.lesion is None else _moved(batch.lesion, places),
            )

        return alter

    def _coarse(self, attenuation: Tensor, spacing: Tensor) -> Tensor:
        """What flattens with the breast."""
        return mirrored(attenuation, spacing, _gaussian(self.rigid_below_mm), reach=3.0 * self.rigid_below_mm)

    def _primary(self, exposure: Tensor, inside: Tensor, spacing: Tensor, ratio: Tensor) -> Tensor:
        """Primary radiation P of an exposure ``P + ratio · K ∗ P``, where scatter comes from the breast alone.

        By Richardson's iteration: the spectrum of the operator lies between 1 and 1 + ratio, so every step takes the error
        times ratio / (2 + ratio) at most.
        """
        share = per_case(ratio, exposure)
        primary = exposure
        for _ in range(_STEPS):
            missing = exposure - primary - share * self._scatter(primary * inside, spacing)
            primary = primary + missing / (1.0 + share / 2.0)
        return primary

    def _scatter(self, primary: Tensor, spacing: Tensor) -> Tensor:
        """K ∗ P, on a coarser grid: the kernel is many pixels wide."""
        step = max(1, int(self.kernel_fwhm_mm / (_KERNEL_PIXELS * float(spacing.max()))))
        step = min(step, *primary.shape[-2:])
        pooled = functional.avg_pool2d(primary, step, ceil_mode=True, count_include_pad=False)
        blurred = mirrored(pooled, spacing * step, _gaussian(self.kernel_fwhm_mm))
        if step == 1:
            return blurred
        size = [step * n for n in pooled.shape[-2:]]
        smooth = functional.interpolate(blurred, size=size, mode="bilinear", align_corners=False)
        return smooth[..., : primary.shape[-2], : primary.shape[-1]]


def _gaussian(fwhm: float) -> Transfer:
    """Transfer function of a Gaussian of a full width at half maximum."""
    scale = (math.pi * fwhm) ** 2 / (4.0 * math.log(2.0))
    return lambda vertical, horizontal: torch.exp(-scale * (vertical**2 + horizontal**2))


def breast(attenuation: Tensor) -> Tensor:
    """Where the breast is, ``(N, 1, H, W)``: attenuation above a fifth of its 95th percentile; a constant for gradients."""
    bright = percentile(attenuation, 0.95, torch.ones_like(attenuation, dtype=torch.bool))
    return attenuation.detach() > _BREAST * per_case(bright, attenuation).clamp_min(_LEAST)


def chest_wall(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Place of the chest wall ``(N, 2)``, row and column from -1 to 1, and ``(N,)`` whether there is one.

    The edge, left or right, that shows more of the breast, at the row of the breast's centre of mass.

    >>> picture = torch.zeros(1, 1, 4, 100)
    >>> picture[..., 1:3, 60:] = 1
    >>> chest_wall(picture > 0)
    (tensor([[0., 1.]]), tensor([True]))
    """
    height, width = inside.shape[-2:]
    strip = max(1, round(_EDGE * width))
    shares = [part.float().mean((1, 2, 3)) for part in (inside[..., :strip], inside[..., -strip:])]
    rows = (torch.arange(height, device=inside.device) * 2.0 + 1.0) / height - 1.0
    mass = inside[:, 0].float().sum(2)
    row = (mass * rows).sum(1) / mass.sum(1).clamp_min(1.0)
    column = torch.where(shares[0] >= shares[1], -1.0, 1.0)
    return torch.stack([row, column], 1), torch.maximum(*shares) > _ATTACHED


def spread_places(centre: Tensor, factor: float, shape: torch.Size) -> Tensor:
    """Where every pixel is read, ``(N, H, W, 2)`` column and row from -1 to 1: ``factor`` times as far from the centre."""
    height, width = shape
    axes = [(torch.arange(n, device=centre.device) * 2.0 + 1.0) / n - 1.0 for n in (height, width)]
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    own = torch.stack([columns, rows], -1)
    fixed = centre.flip(1)[:, None, None]
    return fixed + factor * (own - fixed)


def _spread(attenuation: Tensor, inside: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Attenuation and breast at other places; beyond the field a mirror image where the breast reaches its edge, else air."""
    breast_there = inside.to(attenuation.dtype)
    reaches = _read(breast_there, places, "nearest", "border") > 0.5
    air, mirror = (_read(attenuation, places, "bicubic", outside) for outside in ("border", "reflection"))
    return torch.where(reaches, mirror, air), reaches & (_read(breast_there, places, "nearest", "reflection") > 0.5)


def _read(images: Tensor, places: Tensor, mode: str, outside: str) -> Tensor:
    return functional.grid_sample(images, places.to(images.dtype), mode=mode, padding_mode=outside, align_corners=False)


def _moved(mask: Tensor, places: Tensor) -> Tensor:
    """A mask that moves with the breast; what comes from outside of the field is not of it."""
    return _read(mask.to(places.dtype), places, "nearest", "zeros") > 0.5


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean ``(N, 1, 1, 1)`` over the pixels ``where``, not below 1e-6; exposure control holds it."""
    count = where.sum((1, 2, 3), keepdim=True).clamp_min(1)
    return ((values * where).sum((1, 2, 3), keepdim=True) / count).clamp_min(_LEAST)
