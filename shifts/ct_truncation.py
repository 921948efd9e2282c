"""A patient who reaches beyond the scan field of view: cut-off projections, a bright rim and cupping.

Rays outside of the scan field measure nothing. What they would have measured is missing in the reconstruction,

    HU' = HU - FBP[p · (|s| > R)]      inside the field,

so the artefact alone is made in the projections, and the image itself is never re-projected. The sharp step at the edge of the
detector is what makes the rim; scanners soften it by continuing the projections, here by a cosine to zero over the option
``extrapolation_mm``.

Reference:
    Ohnesorge et al. 2000, Efficient correction for CT image artifacts caused by objects extending outside the scan field of
    view, 10.1118/1.598855.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._ct_kernels import KERNELS
from robustbench_rad.shifts._inputs import per_case, require_hounsfield, require_physical, unclipped_spacing_mm
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._planes import reconstructed, slices_of

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

_UNIT = "mm beyond the scan field"
_BODY_ABOVE_HU = -300.0
_BODY_SHARE = 0.995  # of the body's pixels, so that a table or a wire does not count
_LEAST_FIELD_MM = 50.0
_CUT_SHARE = 0.05


def _beyond_level(value: float | str) -> Level:
    millimetres = float(value)
    if not 0.0 <= millimetres <= 200.0:
        raise ValueError(f"expected 0 to 200 mm of the body beyond the scan field, got {value}")
    return Level(name=str(value), value=millimetres, unit=_UNIT)


@register(
    id="shift.ct.truncation",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Ohnesorge et al. 2000, 10.1118/1.598855",
    unit="mm beyond the scan field",
)
@dataclass(frozen=True, kw_only=True)
class CtTruncation(Condition):
    """A scan field of view that is smaller than the patient.

    Attributes:
        levels: How far the body reaches beyond the scan field, in mm from its outermost point; 0 is the image itself.
        extrapolation_mm: Distance over which the projections are continued beyond the detector; 0 for not at all.
        water_attenuation_per_mm: Attenuation of water (0.0190 at 120 kVp).
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = tuple(_beyond_level(millimetres) for millimetres in (5, 10, 20, 30, 50))
    extrapolation_mm: float = 20.0
    water_attenuation_per_mm: float = 0.0190

    def __post_init__(self) -> None:
        require_positive(self, ("water_attenuation_per_mm",))
        require_positive(self, ("extrapolation_mm",), zero=True)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the millimetres of the body beyond the scan field."""
        return _beyond_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Add the artefact to images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU; outside of the field is air.

        The artefact is a constant for gradients. A case without pixel spacing or without a body, or whose body is cut by the
        border of the image already, or whose scan field would be below 50 mm, is not applicable and comes back unchanged.

        Measurements per level: ``scan_field_mm``, and ``rim_hu`` and ``centre_hu``: mean change in the outermost and the
        innermost tenth of the field's radius.

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
        spacing, reason = unclipped_spacing_mm(batch)
        size = spacing.nan_to_num(1.0)
        reach, cut = body_radius_mm(batch.images, size), body_is_cut(batch.images)
        for level in self.levels:
            radius = reach - level.value
            large = 2.0 * radius >= _LEAST_FIELD_MM
            applicable = spacing.isfinite() & large & ~cut
            reasons = [(reason, bool(reason)), ("body reaches the border of the image", bool(cut.any()))]
            reasons += [("no body, or one too small for the scan field", bool((spacing.isfinite() & ~large).any()))]
            why = ", ".join(text for text, holds in reasons if holds)
            images = batch.images
            if level.value != 0.0 and bool(applicable.any()):
                made = [
                    self._truncated(image, mm, edge) if does else image
                    for image, mm, edge, does in zip(
                        batch.images, size.tolist(), radius.tolist(), applicable.tolist(), strict=True
                    )
                ]
                images = torch.stack(made)
            measurements += self._measured(batch, images, size, torch.where(applicable, radius, torch.nan), level)
            yield Variant(level=level, images=images, applicable=applicable, reason=why)

    def _truncated(self, image_hu: Tensor, spacing_mm: float, radius_mm: float) -> Tensor:
        """One case ``(1, …, H, W)`` in a scan field of ``radius_mm``."""
        slices = image_hu.reshape(-1, *image_hu.shape[-2:])
        artefact = torch.stack([self._artefact(plane, spacing_mm, radius_mm) for plane in slices.detach()])
        seen = distance_mm(slices, spacing_mm) <= radius_mm
        inside = physics.noise_support(slices.detach())
        changed = torch.where(seen, slices + artefact, physics.AIR_HU)
        return torch.where(inside, changed, slices).reshape(image_hu.shape)

    @torch.no_grad()
    def _artefact(self, slice_hu: Tensor, spacing_mm: float, radius_mm: float) -> Tensor:
        scan = physics.Scan(
            slices_hu=slice_hu[None],
            spacing_mm=slice_hu.new_tensor([spacing_mm]),
            seeds=(0,),
            kernels=(KERNELS["soft"],),
            window="ram-lak",
            water_per_mm=self.water_attenuation_per_mm,
        )
        lost = scan.line_integrals() * (1.0 - self._kept(scan, radius_mm))
        return -scan.reconstruct(lost)[0]

    def _kept(self, scan: physics.Scan, radius_mm: float) -> Tensor:
        """Share of every channel's line integral that is measured or continued."""
        positions = torch.from_numpy(scan.geometry.positions_px).float().to(scan.slices_hu.device)
        beyond = (positions * scan.spacing_mm).abs() - radius_mm
        if self.extrapolation_mm == 0.0:
            return (beyond <= 0.0).float()
        falling = (beyond / self.extrapolation_mm).clamp(0.0, 1.0)
        return 0.5 + 0.5 * torch.cos(math.pi * falling)

    def _measured(
        self, batch: Batch, images: Tensor, spacing_mm: Tensor, radius_mm: Tensor, level: Level
    ) -> list[Measurement]:
        change = slices_of((images - batch.images).detach())
        weight = slices_of(reconstructed(batch.images))
        relative = torch.stack([distance_mm(change[0], float(mm)) for mm in spacing_mm]) / per_case(
            radius_mm, change[:, 0]
        )
        zones = {"rim_hu": (relative > 0.9) & (relative <= 1.0), "centre_hu": relative <= 0.1}
        means = {name: _mean(change, weight & zone[:, None]) for name, zone in zones.items()}
        means["scan_field_mm"] = 2.0 * radius_mm
        known = radius_mm.isfinite()
        return [
            Measurement(quantity=name, values=torch.where(known, values, torch.nan), level=level.name)
            for name, values in means.items()
        ]


def distance_mm(slices: Tensor, spacing_mm: float) -> Tensor:
    """Distance ``(H, W)`` of every pixel from the centre of rotation, the middle of the image."""
    rows, columns = (
        (torch.arange(size, device=slices.device) - (size - 1) / 2.0) * spacing_mm for size in slices.shape[-2:]
    )
    return torch.hypot(rows[:, None], columns)


def body_radius_mm(images_hu: Tensor, spacing_mm: Tensor) -> Tensor:
    """Distance ``(N,)`` from the centre within which 99.5 % of the body lie; NaN where there is none."""
    found = []
    for case, spacing in zip(slices_of(images_hu.detach()), spacing_mm.tolist(), strict=True):
        body = (case > _BODY_ABOVE_HU).any(0)
        radii = distance_mm(case, spacing)[body].sort().values
        found.append(radii[math.ceil(_BODY_SHARE * len(radii)) - 1] if len(radii) else radii.new_tensor(torch.nan))
    return torch.stack(found)


def body_is_cut(images_hu: Tensor) -> Tensor:
    """Whether ``(N,)`` the body goes on beyond the image: it covers more than a twentieth of the border."""
    slices = slices_of(images_hu.detach()) > _BODY_ABOVE_HU
    sides = (slices[..., 0, :], slices[..., -1, :], slices[..., :, 0], slices[..., :, -1])
    return torch.cat([side.any(1) for side in sides], dim=1).float().mean(1) > _CUT_SHARE


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).flatten(1).sum(1) / where.flatten(1).sum(1)
