"""The noise that a lower CT dose adds: made once per batch, mixed for every dose.

Two noise images per slice, quantum and electronic, are reconstructed at one photon per ray, calibrated to the scan, and
mixed with √(1/α - 1) and √(1/α² - 1). Where photons starve, a correction is reconstructed per dose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.continuous import Value
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._header import header_numbers
from robustbench_rad.shifts._inputs import per_case, slice_distance_mm
from robustbench_rad.shifts._native_noise import NoiseProbe
from robustbench_rad.shifts._starvation import FEW_COUNTS, StarvedRays

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts.ct_dose import CtDose

_FIELDS = ("quantum", "electronic")
_REFERENCE = ("reference quantum", "reference electronic")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtraNoise:
    """What the levels share: two noise images per slice, how strong they are, and the starved rays.

    Attributes:
        scan: The slices.
        shape: Shape of the images or volumes, ``(N, 1, …)``.
        quantum: ``(N, D, H, W)`` quantum noise of the scan as it was acquired, HU.
        electronic: The same for electronic noise.
        inverse_i0: ``(N,)``; NaN where the shift has no meaning.
        native_sd_hu: ``(N,)`` global noise level as acquired; NaN where it cannot be read.
        probes: Where the noise of each case is read.
        support: ``(S, H, W)`` boolean, where noise belongs.
        field_sd_hu: ``(2, N)`` quantum and electronic noise as acquired, read in the windows.
        starved: Number and rays of the slices that have starved rays at the lowest dose.
        electronic_noise_quanta: σ_e.
    """

    scan: physics.Scan
    shape: torch.Size
    quantum: Tensor
    electronic: Tensor
    inverse_i0: Tensor
    native_sd_hu: Tensor
    probes: tuple[NoiseProbe, ...]
    support: Tensor
    field_sd_hu: Tensor
    starved: tuple[tuple[int, StarvedRays], ...]
    electronic_noise_quanta: float

    @classmethod
    @torch.no_grad()
    def of(cls, shift: CtDose, batch: Batch, spacing_mm: Tensor) -> Self:
        """Project the slices, reconstruct the two noise images, and calibrate them."""
        scan = shift.scan(batch, spacing_mm)
        stack = (len(batch), -1, *batch.images.shape[-2:])
        quantum, electronic, faintest = shift.unit_noise(scan)
        electronic = electronic * shift.electronic_noise_quanta
        quantum, electronic = (
            _correlated(values.reshape(stack), batch, shift.slice_profile_fwhm_mm) for values in (quantum, electronic)
        )
        cases = scan.slices_hu.reshape(stack)
        probes = tuple(NoiseProbe.placed(*case) for case in zip(cases, spacing_mm.tolist(), strict=True))
        native = [p.level(case) if p.soft_tissue else math.nan for p, case in zip(probes, cases, strict=True)]
        fields = _levels(probes, quantum), _levels(probes, electronic)
        readings = zip(native, *fields, strict=True)
        water = (scan.water_variance() / scan.readings).reshape(len(batch), -1)[:, 0].tolist()
        inverse = quantum.new_tensor([shift.inverse_i0(*r, w) for r, w in zip(readings, water, strict=True)])
        support = physics.noise_support(scan.slices_hu)
        strength = torch.stack([inverse.sqrt(), inverse])
        masks = support.reshape(stack)
        return cls(
            scan=scan,
            shape=batch.images.shape,
            quantum=quantum * masks * per_case(strength[0].nan_to_num(), quantum),
            electronic=electronic * masks * per_case(strength[1].nan_to_num(), quantum),
            inverse_i0=inverse,
            native_sd_hu=quantum.new_tensor(native),
            probes=probes,
            support=support,
            field_sd_hu=strength * quantum.new_tensor(fields),
            starved=_starved(shift, scan, faintest, inverse.repeat_interleave(cases.shape[1])),
            electronic_noise_quanta=shift.electronic_noise_quanta,
        )

    def image(self, dose_fraction: Value | Sequence[float]) -> Tensor:
        """Extra noise of one dose, or one per case, in the shape of the images; 0 where the shift has no meaning.

        Differentiable by doses ``(N,)``, apart from what starved rays add.
        """
        fractions = self._fractions(dose_fraction)
        quantum, electronic = self._weights(dose_fraction)
        extra = per_case(quantum, self.quantum) * self.quantum + per_case(electronic, self.quantum) * self.electronic
        extra = extra.reshape(self.scan.slices_hu.shape)
        for number, rays in self.starved:
            sinogram = rays.correction(
                dose_fraction=fractions[number // self.quantum.shape[1]],
                electronic_noise_quanta=self.electronic_noise_quanta,
            )
            if sinogram is not None:
                rows = slice(number, number + 1)
                extra[rows] += self.scan.rows(rows).reconstruct(sinogram) * self.support[rows]
        return extra.reshape(self.shape)

    def about_source(self) -> list[Measurement]:
        """Noise as acquired and photons per ray."""
        return [
            Measurement(quantity="native_noise_sd_hu", values=self.native_sd_hu),
            Measurement(quantity="i0_quanta", values=1.0 / self.inverse_i0),
        ]

    def _fractions(self, dose_fraction: Value | Sequence[float]) -> list[float]:
        if isinstance(dose_fraction, torch.Tensor):
            return dose_fraction.tolist()
        return [dose_fraction] * len(self.probes) if isinstance(dose_fraction, float | int) else list(dose_fraction)

    def _weights(self, dose_fraction: Value | Sequence[float]) -> Tensor:
        """Weights ``(2, N)`` of quantum and electronic noise."""
        if isinstance(dose_fraction, torch.Tensor):
            quantum, electronic = physics.mixed(dose_fraction)
            return torch.stack([torch.as_tensor(quantum), torch.as_tensor(electronic)]).to(self.quantum.dtype)
        return self.quantum.new_tensor([physics.mixed(alpha) for alpha in self._fractions(dose_fraction)]).T

    def about_level(
        self, level: Level, extra: Tensor, noisy: Tensor, dose_fraction: float | Sequence[float] | None = None
    ) -> list[Measurement]:
        """Requested and inserted noise of one level, and all noise of its images, in the windows of the native noise.

        Args:
            level: Its value is the dose, unless one is given.
            extra: What was inserted.
            noisy: The images with it.
            dose_fraction: One for all cases, or one for each.
        """
        fractions = self._fractions(level.value if dose_fraction is None else dose_fraction)
        weights = self._weights(fractions)
        requested = (weights * self.field_sd_hu).square().sum(0).sqrt()
        inserted = requested.new_tensor(_levels(self.probes, extra.reshape(self.quantum.shape)))
        inserted = torch.where(self.inverse_i0.isfinite(), inserted, torch.nan)
        return [
            Measurement(quantity="added_noise_sd_requested_hu", values=requested, level=level.name),
            Measurement(quantity="added_noise_sd_hu", values=inserted, level=level.name),
            Measurement(quantity="total_noise_sd_hu", values=self._total_sd_hu(noisy), level=level.name),
        ]

    def _total_sd_hu(self, noisy: Tensor) -> Tensor:
        """As ``native_noise_sd_hu``: in soft tissue, NaN where there is too little of it."""
        cases = zip(self.probes, noisy.reshape(self.quantum.shape), strict=True)
        return self.quantum.new_tensor([p.level(case) if p.soft_tissue else math.nan for p, case in cases])


def _levels(probes: Sequence[NoiseProbe], cases: Tensor) -> list[float]:
    return [probe.level(case) for probe, case in zip(probes, cases, strict=True)]


def unit_noise(scan: physics.Scan, stream: tuple[object, ...]) -> tuple[Tensor, Tensor, list[float]]:
    """Quantum and electronic noise ``(S, H, W)`` at I₀ = 1 and σ_e = 1, and the smallest transmission of every slice."""
    images, faintest = [], []
    for part in scan.one_by_one():
        transmission = part.transmission()
        quantum, electronic = (part.draw(*stream, name) for name in _FIELDS)
        electronic *= part.readings.sqrt()[:, None, None]
        noise = torch.cat([quantum * transmission.rsqrt(), electronic / transmission])
        images.append(torch.stack(part.reconstruct(noise).chunk(2)))
        faintest.append(float(transmission.min()))
    both = torch.cat(images, dim=1)
    return both[0], both[1], faintest


def _correlated(noise: Tensor, batch: Batch, fwhm_mm: float | None) -> Tensor:
    """Correlate the slices of volumes ``(N, D, H, W)``: by a profile, or as far as their headers say that they overlap."""
    if fwhm_mm == 0.0 or noise.shape[1] == 1:
        return noise
    distances = slice_distance_mm(batch).tolist()
    if fwhm_mm is None:
        overlapping = zip(noise, header_numbers(batch, "SliceThickness"), distances, strict=True)
        return torch.stack([physics.overlap_slices(c, thickness_mm=mm, distance_mm=d) for c, mm, d in overlapping])
    widths = [fwhm_mm / d if d > 0.0 else 0.0 for d in distances]
    pairs = zip(noise, widths, strict=True)
    return torch.stack([physics.smooth_along_slices(case, fwhm_slices=width) for case, width in pairs])


def _starved(
    shift: CtDose, scan: physics.Scan, faintest: Sequence[float], inverse_i0: Tensor
) -> tuple[tuple[int, StarvedRays], ...]:
    """Find the rays that have few counts at the lowest dose; ``inverse_i0`` is ``(S,)``."""
    lowest = min((level.value for level in shift.levels), default=1.0)
    found = []
    stream = (shift.id, shift.version)
    for number, (part, least, inverse) in enumerate(zip(scan.one_by_one(), faintest, inverse_i0.tolist(), strict=True)):
        if not lowest * least < FEW_COUNTS * inverse:  # also where inverse is NaN
            continue
        counts = part.transmission().flatten() / inverse
        index = (lowest * counts < FEW_COUNTS).nonzero().flatten()
        draws = torch.stack([part.draw(*stream, name).flatten()[index] for name in (*_FIELDS, *_REFERENCE)])
        draws[1::2] *= part.readings.sqrt()
        shape = torch.Size((1, part.geometry.views, part.geometry.channels))
        found.append((number, StarvedRays(index=index, counts=counts[index], draws=draws, shape=shape)))
    return tuple(found)
