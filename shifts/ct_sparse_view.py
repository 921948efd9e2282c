"""Too few views: the streaks of a C-arm or cone-beam scan.

Filtered backprojection from N equally spaced views is a convolution with a star,

    PSF_N(x) = (π / N) · Σ_k h(x · n_k),      h the band-limited ramp, n_k the directions of the views,

which for very many views is the band-limited point ``J₁(πr) / 2r``. The error of N views is the image convolved with the
difference of the two: the back-projected difference of the projections, made without projecting, linear and differentiable.

Reference:
    Barrett and Keat 2004, Artifacts in CT: recognition and avoidance, 10.1148/rg.246045065.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.special import j1

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ct_artefact import AlterCase, CtArtefact, ErrorScan
from robustbench_rad.shifts._ladder import ladder

if TYPE_CHECKING:
    from torch import Tensor

_UNIT = "views"
_FINE = 32  # samples of the ramp per pixel


@register(
    id="shift.ct.sparse-view",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Barrett and Keat 2004, 10.1148/rg.246045065",
    unit="views",
)
@dataclass(frozen=True, kw_only=True)
class CtSparseView(CtArtefact):
    """Streaks of few views over half a turn, of the dose of all.

    What lies beyond the field of view is taken for air. Linear and differentiable in the image. Measured per level:
    ``streak_sd_hu`` over the body.

    Attributes:
        levels: Equally spaced views in half a turn.
    """

    unit: ClassVar[str] = _UNIT
    neutral: ClassVar[float | None] = None
    lowest: ClassVar[float] = 8.0
    highest: ClassVar[float] = 4096.0

    levels: tuple[Level, ...] = ladder(_UNIT, 480, 360, 240, 180, 120)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a whole number of views.

        Raises:
            ValueError: Not whole, or too few.
        """
        made = super().level(value)
        if made.value != int(made.value):
            raise ValueError(f"expected a whole number of views, got {value}")
        return made

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Count padding as air."""
        dense = torch.where(scan.support, scan.hu + 1000.0, 0.0)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            change = aliasing(dense, views=int(value)) * scan.support
            return scan.with_error(change), {"streak_sd_hu": scan.sd_in_body(change)}

        return alter


def aliasing(slices: Tensor, *, views: int) -> Tensor:
    """What few views change of slices ``(D, H, W)`` with nothing around them."""
    height, width = slices.shape[-2:]
    star = _star(max(height, width), views).to(slices.device)
    size = star.shape[0], 2 * (star.shape[1] - 1)
    error: Tensor = torch.fft.irfft2(torch.fft.rfft2(slices, s=size) * star, s=size)
    return error[:, :height, :width]


@lru_cache(maxsize=8)
def _star(pixels: int, views: int) -> Tensor:
    """Spectrum of ``PSF_N - PSF_∞`` on a grid of twice the size, real because both are even."""
    axis = torch.arange(pixels, dtype=torch.float32)
    ramp = _ramp(pixels)
    found = torch.zeros(pixels, pixels)
    for view in range(views):
        angle = math.pi * view / views
        place = (axis[:, None] * math.sin(angle) + axis * math.cos(angle)).abs_().mul_(_FINE)
        lower = place.long()
        found += torch.lerp(ramp[lower], ramp[lower + 1], place - lower)
    error = found * (math.pi / views) - _point(pixels)
    wide = torch.zeros(2 * pixels, 2 * pixels)
    wide[:pixels, :pixels] = error
    wide[pixels + 1 :, :pixels] = error[1:].flip(0)
    wide[:, pixels + 1 :] = wide[:, 1:pixels].flip(1)  # views lie symmetrically, so that a quarter tells the rest
    spectrum: Tensor = torch.fft.rfft2(wide).real.contiguous()
    return spectrum


def _ramp(pixels: int) -> Tensor:
    """Ramp filter up to half a cycle per pixel, at every fraction of a pixel up to the diagonal."""
    place = torch.arange(2 * pixels * _FINE, dtype=torch.float64) / _FINE
    values: Tensor = 0.5 * torch.sinc(place) - 0.25 * torch.sinc(place / 2.0).square()
    return values.float()


def _point(pixels: int) -> Tensor:
    """Band-limited point ``J₁(πr) / 2r`` in a quarter of the plane."""
    axis = np.arange(pixels, dtype=np.float64)
    radius = np.hypot(axis[:, None], axis)
    radius[0, 0] = 1.0
    point = 0.5 * j1(math.pi * radius) / radius
    point[0, 0] = math.pi / 4.0
    return torch.from_numpy(point).float()
