"""Iterative or deep-learning reconstruction, emulated: less noise where the image is flat, edges kept.

The image is split by a guided filter into a base and the fine residual, and the residual is attenuated,

    HU' = B + (1 - a) · (HU - B),      B = ⟨k⟩ · HU + ⟨(1 - k) · m⟩,      k = v / (v + ε),      ε = (3 · σ)²

with m and v mean and variance in a window, ⟨·⟩ the mean over the windows that hold the pixel, and σ the noise of the image.
Where the variance is that of noise the base is the mean, at edges it is the image: noise falls and moves to lower
frequencies, and blur depends on contrast, as with iterative reconstruction. Nothing is reconstructed: an emulation of what
these images look like, not of any product.

Reference:
    He, Sun and Tang 2013, Guided image filtering, 10.1109/TPAMI.2012.213.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._inputs import per_case, require_hounsfield, require_physical, unclipped_spacing_mm
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._planes import box_mean, native_noise_hu, noise_probes, reconstructed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

_UNIT = "% less residual"
_NOISELESS_HU = 0.5


def _residual_level(value: float | str) -> Level:
    percent = float(value)
    if not 0.0 <= percent < 100.0:
        raise ValueError(f"expected a share of the residual from 0 to below 100 %, got {value}")
    return Level(name=str(value), value=percent, unit=_UNIT)


@register(
    id="shift.ct.recon-algorithm",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CT",),
    reference="He et al. 2013, 10.1109/TPAMI.2012.213",
    unit="% less residual",
)
@dataclass(frozen=True, kw_only=True)
class CtReconAlgorithm(Condition):
    """Iterative or deep-learning reconstruction of a scan that was reconstructed by filtered backprojection, emulated.

    Attributes:
        levels: How much of the fine residual is taken away, in per cent; 0 is the image itself.
        window_mm: Side of the window of the guided filter.
        edge_sd: Standard deviation in a window, as a multiple of the noise, at which half of a structure is kept in the base.
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = tuple(_residual_level(percent) for percent in (20, 35, 50, 65, 80))
    window_mm: float = 3.5
    edge_sd: float = 3.0

    def __post_init__(self) -> None:
        require_positive(self, ("window_mm", "edge_sd"))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the share of the residual that is taken away, in per cent."""
        return _residual_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attenuate the residual of images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU, slice by slice.

        Differentiable; padding stays as it is. A case without pixel spacing, or whose noise cannot be read in soft tissue,
        is not applicable and comes back unchanged.

        Measurements: ``native_noise_sd_hu``; per level ``noise_sd_hu`` and ``noise_ratio`` in the same windows.

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
        probes = noise_probes(batch, spacing)
        native = native_noise_hu(probes, batch.images)
        noisy = native >= _NOISELESS_HU
        if not bool(noisy.all()):
            reason = ", ".join(filter(None, (reason, "no native noise to be read: no soft tissue, or no noise")))
        applicable = spacing.isfinite() & noisy
        inside = reconstructed(batch.images)
        residual = torch.where(inside, batch.images - self._base(batch.images, inside, spacing, native), 0.0)
        residual = residual * per_case(applicable, residual)
        measurements.append(Measurement(quantity="native_noise_sd_hu", values=native))
        for level in self.levels:
            images = batch.images if level.value == 0.0 else batch.images - level.value / 100.0 * residual
            achieved = torch.where(applicable, native_noise_hu(probes, images), torch.nan)
            measurements += [
                Measurement(quantity="noise_sd_hu", values=achieved, level=level.name),
                Measurement(quantity="noise_ratio", values=achieved / native, level=level.name),
            ]
            yield Variant(level=level, images=images, applicable=applicable, reason=reason)

    def _base(self, images_hu: Tensor, inside: Tensor, spacing_mm: Tensor, noise_hu: Tensor) -> Tensor:
        filled = torch.where(inside, images_hu, physics.AIR_HU)
        strength = (self.edge_sd * noise_hu.nan_to_num(1.0).clamp_min(1e-3)).square()
        sides = (self.window_mm / spacing_mm.nan_to_num(1.0)).tolist()
        cases = zip(filled, sides, strength, strict=True)
        return torch.stack([guided_base(image, side_px=_odd(side), strength=value) for image, side, value in cases])


def guided_base(images_hu: Tensor, *, side_px: int, strength: Tensor | float) -> Tensor:
    """Base of the self-guided filter in the plane, ``(…, H, W)``.

    Args:
        images_hu: ``(…, H, W)``.
        side_px: Odd side of the window.
        strength: ε in HU²: the variance in a window at which half of the structure stays in the base.
    """
    mean = box_mean(images_hu, side_px=side_px)
    # about the mean of the whole image, where float32 has digits to spare for the square
    centre = images_hu.detach().mean()
    shifted = images_hu - centre
    variance = (box_mean(shifted.square(), side_px=side_px) - (mean - centre).square()).clamp_min(0.0)
    slope = variance / (variance + strength)
    return box_mean(slope, side_px=side_px) * images_hu + box_mean((1.0 - slope) * mean, side_px=side_px)


def _odd(pixels: float) -> int:
    """Nearest odd number, at least 3.

    >>> [_odd(value) for value in (0.5, 3.9, 5.2)]
    [3, 3, 5]
    """
    return max(3, 2 * int(pixels / 2.0) + 1)
