"""A lower CT dose: the extra noise of fewer photons, made in the projections and added to the untouched image.

A round trip through projections would cost tens of HU of blur, several times the noise that is asked for, so only noise is
reconstructed. Relative to the scan as it was acquired, a dose α adds to the log-domain variance of a ray with N counts

    (1/α - 1) / N + (1/α² - 1) · σ_e² / N²
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._continuous import NO_LEVEL
from robustbench_rad.shifts._ct_kernels import KERNELS, source_kernels
from robustbench_rad.shifts._extra_noise import ExtraNoise, unit_noise
from robustbench_rad.shifts._header import TUBE_OUTPUT, scaled_attributes
from robustbench_rad.shifts._inputs import (
    per_case,
    require_hounsfield,
    require_physical,
    unclipped_spacing_mm,
)
from robustbench_rad.shifts._levels import dose_ladder, dose_level, require_one_of, require_positive

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.continuous import AtValues

_UNIT = "of the dose"
_NOISELESS_HU = 0.5


@register(
    id="shift.ct.dose",
    version=3,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Kim and Kim 2014, 10.1118/1.4830431; Yu et al. 2012, 10.1097/RCT.0b013e318258e891",
    unit="of the dose",
)
@dataclass(frozen=True, kw_only=True)
class CtDose(Condition):
    """Quantum and electronic noise of a lower tube current.

    The noise of the scan as it was acquired is read from its own soft tissue, unless a reference noise or the photons per
    ray are given. Slices of a volume are independent where they touch; where the file says that they are thicker than their
    distance, neighbours share noise as they share data. Sources reconstructed iteratively or by deep learning get the noise
    of filtered backprojection.

    Attributes:
        levels: Fractions α of the dose, mildest first; 1 is the image itself.
        reference_noise_hu: Noise of the protocol in the centre of a water disc; None to read it from the image.
        reference_diameter_mm: Diameter of that disc.
        i0: Noise-equivalent quanta of a detector reading (0.6 mm, 720 views) behind no object; None to derive them.
        electronic_noise_quanta: Standard deviation σ_e of the electronic noise of a reading, in such quanta; 0 for none.
        kernel: ``auto`` (from ConvolutionKernel of the file or a declared column, else soft), ``soft``, ``medium``,
            ``sharp``, ``ram-lak``, ``shepp-logan`` or ``hann``.
        bowtie_diameter_mm: Water disc behind which the bow-tie filter gives equal counts; 0 for no filter. Real filters
            flatten less than the patient would need: with 500 the noise varies over a chest as in a real slice, with
            320 its centre is a quarter too quiet and its rim too noisy.
        water_attenuation_per_mm: Attenuation of water (0.0190 at 120 kVp).
        slice_profile_fwhm_mm: Width of a Gaussian slice profile, which correlates the noise of a volume's slices; 0 for
            independent slices, None for what SliceThickness of the file and the distance of the slices say.
    """

    neutral: ClassVar[float | None] = 1.0

    levels: tuple[Level, ...] = dose_ladder(_UNIT)
    reference_noise_hu: float | None = None
    reference_diameter_mm: float = 200.0
    i0: float | None = None
    electronic_noise_quanta: float = 10.0
    kernel: str = "auto"
    bowtie_diameter_mm: float = 500.0
    water_attenuation_per_mm: float = 0.0190
    slice_profile_fwhm_mm: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("reference_noise_hu", "i0") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError("reference_noise_hu and i0: expected one of them, got both")
        require_positive(self, (*given, "reference_diameter_mm", "water_attenuation_per_mm"))
        profile = () if self.slice_profile_fwhm_mm is None else ("slice_profile_fwhm_mm",)
        require_positive(self, ("electronic_noise_quanta", "bowtie_diameter_mm", *profile), zero=True)
        require_one_of(self, "kernel", ("auto", *KERNELS, *physics.NAMED_APODISATIONS))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a dose fraction in (0, 1]."""
        return dose_level(value, _UNIT)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Add the extra noise of every level to images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU.

        HU are never clipped. The noise is a constant for gradients: d(out)/d(in) is the identity. A case without pixel
        spacing, or without soft tissue to read its noise from, is not applicable and comes back unchanged.

        Measurements: ``native_noise_sd_hu`` (as acquired), ``i0_quanta``, ``source_kernel_assumed`` (1 where the file
        names no known kernel); per level ``added_noise_sd_requested_hu`` (Gaussian) and ``added_noise_sd_hu`` (inserted,
        with photon starvation), of the extra noise alone, and ``total_noise_sd_hu`` of the altered image. All are read in the
        windows of homogeneous soft tissue; where there are too few, the added noise is that of the whole image.

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        self._refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`; values are not below the lowest level.

        What photon starvation adds to the Gaussian noise has no slope.
        """
        self._refuse(batch)
        noise, rows, applicable, reason = self._noise(batch)

        def at(values: Tensor) -> Variant:
            images = batch.images
            if noise is not None:
                extra = torch.where(per_case(values.detach()[rows] == 1.0, images), 0.0, noise.image(values[rows]))
                images = images.index_add(0, rows, extra)
            header = scaled_attributes(batch, TUBE_OUTPUT, values.tolist())
            return Variant(level=NO_LEVEL, images=images, applicable=applicable, reason=reason, case_attributes=header)

        return at

    def _refuse(self, batch: Batch) -> None:
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def _noise(self, batch: Batch) -> tuple[ExtraNoise | None, Tensor, Tensor, str]:
        """Noise of the cases that can be projected, which they are, ``(N,)`` the shift's applicability, and why not."""
        spacing, reason = unclipped_spacing_mm(batch)
        rows = spacing.isfinite().nonzero().flatten()
        noise = ExtraNoise.of(self, batch.select(rows), spacing[rows]) if rows.numel() else None
        applicable = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        if noise is not None:
            applicable[rows] = noise.inverse_i0.isfinite()
            if not bool(applicable[rows].all()):
                reason = ", ".join(filter(None, (reason, "no native noise to be read: no soft tissue, or no noise")))
        return noise, rows, applicable, reason

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        measurements.append(self._assumed_kernels(batch))
        noise, rows, applicable, reason = self._noise(batch)
        if noise is not None:
            measurements += spread(noise.about_source(), rows, len(batch))
        for level in self.levels:
            images = batch.images
            if level.value != 1.0 and noise is not None:
                extra = noise.image(level.value)
                images = images.index_add(0, rows, extra)
                measurements += spread(noise.about_level(level, extra, images[rows]), rows, len(batch))
            header = scaled_attributes(batch, TUBE_OUTPUT, level.value) if level.value != 1.0 else ()
            yield Variant(level=level, images=images, applicable=applicable, reason=reason, case_attributes=header)

    def _assumed_kernels(self, batch: Batch) -> Measurement:
        """1 where the source kernel had to be assumed."""
        _, assumed = source_kernels(self._source, batch)
        return Measurement(
            quantity="source_kernel_assumed", values=torch.tensor(assumed, dtype=torch.float32, device=batch.device)
        )

    def scan(self, batch: Batch, spacing_mm: Tensor) -> physics.Scan:
        """How the slices of a batch are projected, and its noise reconstructed."""
        kernels, _ = source_kernels(self._source, batch)
        return physics.Scan.of(
            batch,
            spacing_mm,
            kernels,
            window=self.kernel if self.kernel in physics.NAMED_APODISATIONS else "",
            water_per_mm=self.water_attenuation_per_mm,
            bowtie_diameter_mm=self.bowtie_diameter_mm,
        )

    def unit_noise(self, scan: physics.Scan) -> tuple[Tensor, Tensor, list[float]]:
        """Quantum and electronic noise ``(S, H, W)`` at I₀ = 1 and σ_e = 1, and the smallest transmission of every slice."""
        return unit_noise(scan, (self.id, self.version))

    @property
    def _source(self) -> str:
        """What the source kernel is taken from; a named apodisation needs none."""
        return "soft" if self.kernel in physics.NAMED_APODISATIONS else self.kernel

    def inverse_i0(self, native_sd_hu: float, quantum_sd_hu: float, electronic_sd_hu: float, water: float) -> float:
        """One over the photons per ray, by the calibration that the options choose; NaN where there is none.

        Args:
            native_sd_hu: Global noise level of the image.
            quantum_sd_hu: The same reading of the quantum noise made at I₀ = 1.
            electronic_sd_hu: The same reading of the electronic noise made at I₀ = 1.
            water: Variance (HU²) in the centre of a disc behind unit variance on every reading.
        """
        if self.i0 is not None:
            return 1.0 / self.i0
        if self.reference_noise_hu is not None:
            depth = math.exp(self.water_attenuation_per_mm * self.reference_diameter_mm)
            electronic = water * (self.electronic_noise_quanta * depth) ** 2
            return physics.inverse_exposure(self.reference_noise_hu**2, water * depth, electronic)
        if not native_sd_hu >= _NOISELESS_HU:
            return math.nan
        return physics.inverse_exposure(native_sd_hu**2, quantum_sd_hu**2, electronic_sd_hu**2)


def spread(measurements: Sequence[Measurement], rows: Tensor, count: int) -> list[Measurement]:
    """Put values of the cases ``rows`` into all N cases; NaN for the others."""
    spread = []
    for measurement in measurements:
        values = torch.full((count,), torch.nan, dtype=measurement.values.dtype, device=rows.device)
        values[rows] = measurement.values
        spread.append(replace(measurement, values=values))
    return spread
