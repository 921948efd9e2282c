"""Quantum and electronic noise of a CT slice, made in its projections.

With mean counts N = I₀ · T on a ray, T the transmission behind the bow-tie filter, the log-domain noise of a scan has the
variance 1 / N + (σ_e / N)². Two white fields, weighted by 1 / √T and 1 / T, are reconstructed with the kernel of the
source; every dose is a mixture of the two images. The anatomy is never re-projected: only noise is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.nn import functional

from robustbench_rad.continuous import Value, root
from robustbench_rad.seeds import derive_seed, normal
from robustbench_rad.shifts._ct_kernels import Kernel, transfer
from robustbench_rad.shifts._slice_profile import shared_lengths
from robustbench_rad.shifts.ct_gridding import filtered_backprojection, frequencies_per_px
from robustbench_rad.shifts.ct_projector import ScanGeometry, coarse_line_integrals, line_integrals, refined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from robustbench_rad.conditions import Batch

AIR_HU = -1000.0
_PADDING_BELOW_HU = -1024.0
_AIR_BELOW_HU = -900.0
_DEEPEST = 14.0  # e⁻¹⁴: such a ray carries less than one quantum at any clinical exposure
_BOWTIE_RANGE = 20.0
_READING_MM = 0.6
_READING_VIEWS = 720
NAMED_APODISATIONS = ("ram-lak", "shepp-logan", "hann")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """How a stack of slices is projected and its noise reconstructed.

    Attributes:
        slices_hu: ``(S, H, W)``.
        spacing_mm: ``(S,)`` pixel spacing.
        seeds: S base seeds; those of a volume's slices are derived from the volume's.
        kernels: S kernels.
        window: One of :data:`NAMED_APODISATIONS` instead of the kernels; "" for the kernels.
        water_per_mm: Attenuation of water.
        bowtie_diameter_mm: Diameter of the water disc behind which the bow-tie filter gives equal counts on all rays,
            at most 20 : 1; 0 for no filter.
    """

    slices_hu: Tensor
    spacing_mm: Tensor
    seeds: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    window: str = ""
    water_per_mm: float = 0.0190
    bowtie_diameter_mm: float = 500.0

    @cached_property
    def geometry(self) -> ScanGeometry:
        """Sampling of the padded square."""
        return ScanGeometry.covering(*self.slices_hu.shape[-2:])

    @classmethod
    def of(
        cls,
        batch: Batch,
        spacing_mm: Tensor,
        kernels: Sequence[Kernel],
        *,
        window: str = "",
        water_per_mm: float = 0.0190,
        bowtie_diameter_mm: float = 500.0,
    ) -> Self:
        """Take a batch of images or volumes apart into slices.

        Args:
            batch: N cases.
            spacing_mm: ``(N,)`` pixel spacing, known for every case.
            kernels: N kernels.
            window: See :class:`Scan`, as the others.
            water_per_mm: Attenuation of water.
            bowtie_diameter_mm: Diameter of the disc.
        """
        images = batch.images.detach()
        depth = images.shape[2] if images.ndim == 5 else 1
        numbers = [("slice", number) for number in range(depth)] if images.ndim == 5 else [()]
        return cls(
            slices_hu=images.reshape(-1, *images.shape[-2:]),
            spacing_mm=spacing_mm.repeat_interleave(depth),
            seeds=tuple(derive_seed(seed, *number) if number else seed for seed in batch.seeds for number in numbers),
            kernels=tuple(kernel for kernel in kernels for _ in range(depth)),
            window=window,
            water_per_mm=water_per_mm,
            bowtie_diameter_mm=bowtie_diameter_mm,
        )

    def one_by_one(self) -> Iterator[Self]:
        """Single slices: memory stays small, and no number depends on which slices share a batch."""
        yield from self._parts

    @cached_property
    def _parts(self) -> tuple[Self, ...]:
        return tuple(self.rows(slice(number, number + 1)) for number in range(len(self.seeds)))

    def rows(self, rows: slice) -> Self:
        """Some of the slices."""
        return replace(
            self,
            slices_hu=self.slices_hu[rows],
            spacing_mm=self.spacing_mm[rows],
            seeds=self.seeds[rows],
            kernels=self.kernels[rows],
        )

    @cached_property
    def readings(self) -> Tensor:
        """Detector readings that one simulated ray stands for, ``(S,)``.

        Photons and electronic noise are given per reading of 0.6 mm in 720 views, so that they mean the same for every
        pixel size and image size.
        """
        pitch_mm = self.geometry.pitch_px * self.spacing_mm
        return pitch_mm / _READING_MM * (_READING_VIEWS / self.geometry.views)

    def draw(self, *parts: object) -> Tensor:
        """Standard normal noise for every ray, ``(S, views, channels)``."""
        shape = (self.geometry.views, self.geometry.channels)
        return normal(shape, self.slices_hu.device, self.seeds, *parts)

    def transmission(self) -> Tensor:
        """Mean counts per ray over I₀, ``(S, views, channels)``.

        Readings per ray × bow-tie × exp(-line integral), the last two not below e⁻¹⁴.
        """
        depth = self.line_integrals()
        return self.readings[:, None, None] * (self._bowtie()[:, None, :] - depth).clamp_min(-_DEEPEST).exp()

    def line_integrals(self) -> Tensor:
        """Attenuation along every ray, ``(S, views, channels)``; padding counts as air."""
        return refined(self._coarse, self.geometry)

    @cached_property
    def _coarse(self) -> Tensor:
        """Line integrals before they are interpolated: small enough to be kept, for whoever asks again."""
        per_px = (self.water_per_mm * self.spacing_mm)[:, None, None]
        hu = torch.where(self.slices_hu < _PADDING_BELOW_HU, AIR_HU, self.slices_hu)
        attenuation = (per_px * (1.0 + hu / 1000.0)).clamp_min(0.0)
        return coarse_line_integrals(functional.pad(attenuation, self._padding()), self.geometry)

    def projected(self, per_px: Tensor) -> Tensor:
        """Line integrals ``(S, views, channels)`` of images ``(S, H, W)`` given per pixel length, nothing around them."""
        return line_integrals(functional.pad(per_px, self._padding()), self.geometry)

    def reconstruct(self, noise: Tensor, apodisation: Tensor | None = None) -> Tensor:
        """Reconstruct log-domain noise with the source's kernel, or another apodisation ``(S, F)``.

        Args:
            noise: ``(k · S, views, channels)``: k fields after one another, reconstructed in one go.
            apodisation: Factor on the ramp; None for the kernel of the source.

        Returns:
            ``(k · S, H, W)`` HU.
        """
        fields = noise.shape[0] // self.spacing_mm.shape[0]
        window = self.apodisation() if apodisation is None else apodisation
        per_px = filtered_backprojection(noise, self.geometry, window.repeat(fields, 1))
        scale = (1000.0 / (self.water_per_mm * self.spacing_mm)).repeat(fields)
        return self.cropped(per_px) * scale[:, None, None]

    def cropped(self, square: Tensor) -> Tensor:
        """The slice ``(…, H, W)`` in its padded square ``(…, pixels, pixels)``."""
        left, _, top, _ = self._padding()
        height, width = self.slices_hu.shape[-2:]
        return square[..., top : top + height, left : left + width]

    def apodisation(self) -> Tensor:
        """Factor A on the ramp that the kernel of the source stands for, ``(S, F)``."""
        frequency = torch.from_numpy(frequencies_per_px(self.geometry)).float()
        return self.apodised(frequency.to(self.slices_hu.device))

    def water_variance(self) -> Tensor:
        """Variance (HU², ``(S,)``) behind unit variance of the log-domain noise on every ray.

        ``(1000 / µ_w)² · (π / views) · pitch · ∬ f A(f)² df`` over the frequencies that the pixels hold. For the bare
        ramp up to the detector's Nyquist frequency this is ``(1000 / µ_w)² · π² / (12 · views · pitch²)``.
        """
        side = (torch.arange(257, device=self.slices_hu.device) - 128.0) / 256.0
        radius = torch.hypot(side[:, None], side).flatten()
        radius = radius[radius <= 0.5 / self.geometry.pitch_px]
        power = (radius * self.apodised(radius).square()).sum(1) / 256.0**2
        scale = 1000.0 / (self.water_per_mm * self.spacing_mm)
        return scale**2 * (math.pi / self.geometry.views) * self.geometry.pitch_px * power

    @property
    def frequencies_per_mm(self) -> Tensor:
        """Frequencies at which :meth:`apodisation` is given, ``(S, F)`` cycles per mm."""
        frequency = torch.from_numpy(frequencies_per_px(self.geometry)).float().to(self.slices_hu.device)
        return frequency / self.spacing_mm[:, None]

    def apodised(self, frequency_per_px: Tensor) -> Tensor:
        """Factor on the ramp ``(S, F)`` at frequencies ``(F,)`` in cycles per pixel."""
        if not self.window:
            return transfer(self.kernels, frequency_per_px / self.spacing_mm[:, None])
        scaled = frequency_per_px * self.geometry.pitch_px
        named = {
            "ram-lak": torch.ones_like(scaled),
            "shepp-logan": torch.sinc(scaled),
            "hann": 0.5 + 0.5 * torch.cos(2.0 * math.pi * scaled),
        }
        return named[self.window].expand(self.spacing_mm.shape[0], -1)

    def _bowtie(self) -> Tensor:
        """Logarithm of the filter's transmission relative to the centre, ``(S, channels)``."""
        positions = torch.from_numpy(self.geometry.positions_px).float().to(self.slices_hu.device)
        distance_mm = positions * self.spacing_mm[:, None]
        radius_mm = self.bowtie_diameter_mm / 2.0
        chord_mm = 2.0 * (radius_mm**2 - distance_mm.square()).clamp_min(0.0).sqrt()
        return (self.water_per_mm * (chord_mm - self.bowtie_diameter_mm)).clamp_min(-math.log(_BOWTIE_RANGE))

    def _padding(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom pixels of air around the slice."""
        height, width = self.slices_hu.shape[-2:]
        right, below = self.geometry.pixels - width, self.geometry.pixels - height
        return right // 2, right - right // 2, below // 2, below - below // 2


def noise_support(slices_hu: Tensor) -> Tensor:
    """Pixels ``(S, H, W)`` that were reconstructed: not padding.

    Padding is what lies below -1024 HU, and everything outside the inscribed circle of a square slice when it is air of
    one constant value.
    """
    height, width = slices_hu.shape[-2:]
    support = slices_hu >= _PADDING_BELOW_HU
    if height != width or height < 3:
        return support
    side = torch.arange(height, device=slices_hu.device) - (height - 1) / 2
    corners = torch.hypot(side[:, None], side) > height / 2
    values = slices_hu[:, corners]
    constant = (values.amax(1) == values.amin(1)) & (values.amax(1) < _AIR_BELOW_HU)
    return support & ~(constant[:, None, None] & corners)


def inverse_exposure(variance: float, quantum: float, electronic: float) -> float:
    """Solve ``variance = quantum · x + electronic · x²`` for x = 1 / I₀ ≥ 0.

    Args:
        variance: Noise variance of the scan, HU².
        quantum: Variance that quantum noise would have at I₀ = 1.
        electronic: Variance that electronic noise would have at I₀ = 1.

    >>> inverse_exposure(6.0, 1.0, 1.0)
    2.0
    """
    return 2.0 * variance / (quantum + math.sqrt(quantum**2 + 4.0 * electronic * variance))


def mixed(dose_fraction: Value) -> tuple[Value, Value]:
    """Weights of quantum and electronic noise that a dose α adds: ``√(1/α - 1)`` and ``√(1/α² - 1)``."""
    return root(1.0 / dose_fraction - 1.0), root(1.0 / dose_fraction**2 - 1.0)


def smooth_along_slices(noise: Tensor, *, fwhm_slices: float) -> Tensor:
    """Correlate noise ``(D, H, W)`` of neighbouring slices by a Gaussian slice profile; its variance stays.

    Args:
        noise: Independent from slice to slice.
        fwhm_slices: Full width at half maximum of the profile over the distance of slices; 0 leaves it alone.
    """
    if fwhm_slices <= 0.0 or noise.shape[0] == 1:
        return noise
    index = np.arange(noise.shape[0])
    distance = (index[:, None] - index) / (fwhm_slices / math.sqrt(8.0 * math.log(2.0)))
    return _mixed_slices(noise, np.exp(-0.5 * distance**2))


def overlap_slices(noise: Tensor, *, thickness_mm: float, distance_mm: float) -> Tensor:
    """Correlate noise ``(D, H, W)`` of slices that overlap, as they share their data; its variance stays.

    Slices of thickness T share ``1 - d / T`` of what they are made of with those at the distance d, and their noise has that
    correlation (exactly where T is a multiple of the distance of neighbours).

    Args:
        noise: Independent from slice to slice.
        thickness_mm: Thickness of the slices.
        distance_mm: Distance of neighbours; slices that do not overlap, or of which one number is not known, stay as they are.
    """
    if not thickness_mm > 1.01 * distance_mm or noise.shape[0] == 1:
        return noise
    places = np.arange(noise.shape[0]) * distance_mm
    return _mixed_slices(noise, shared_lengths(places, places, thickness_mm=thickness_mm, distance_mm=distance_mm))


def _mixed_slices(noise: Tensor, weights: NDArray[np.floating[Any]]) -> Tensor:
    """Sums of slices with weights ``(D, D)``, scaled so that the variance of independent slices stays."""
    scaled = weights / np.sqrt((weights**2).sum(1, keepdims=True))
    return torch.einsum("de,ehw->dhw", torch.from_numpy(scaled).to(noise), noise)
