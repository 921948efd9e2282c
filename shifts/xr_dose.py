"""A lower detector exposure in projection radiography: more quantum and electronic noise, same anatomy.

Only the *extra* noise is added, because the image already carries its own. With detector air kerma E per pixel (µGy), q
quanta per mm² and µGy, pixel area Δ² and dose fraction α, the image made with α of the exposure and rescaled by 1/α has

    extra variance = [(1/α - 1) · E + (1/α² - 1) · E_e] / (q · DQE · Δ²)      (µGy²)

where E_e is the air kerma at which electronic noise equals quantum noise. Quantum noise passes the scintillator, so its
power spectrum is a blurred part and a white part; its value at zero frequency is E / (q · DQE), whatever the blur.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.continuous import Value, per_case_factor, root
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import NO_LEVEL, everywhere, kept_where
from robustbench_rad.shifts._display_curve import DISPLAY_CURVES, DisplayCurve, exposed, mean_exposure
from robustbench_rad.shifts._header import TUBE_OUTPUT, scaled_attributes
from robustbench_rad.shifts._inputs import in_plane_spacing_mm, per_case, require_physical, require_signal_range
from robustbench_rad.shifts._levels import dose_ladder, dose_level, require_one_of, require_positive
from robustbench_rad.shifts._spectral import filtered, lorentzian_mtf, mean_power, radial_frequency_per_mm

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State
    from robustbench_rad.continuous import AtValues

QUANTA_PER_MM2_UGY = 30174.0
"""Squared signal-to-noise ratio per area and air kerma of the RQA5 beam (IEC 62220-1)."""

_UNIT = "of the exposure"


@register(
    id="shift.xr.dose",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="Båth et al. 2005, Radiat Prot Dosimetry 114:253; Saunders and Samei 2003, Med Phys 30:3006",
    unit="of the exposure",
)
@dataclass(frozen=True, kw_only=True)
class XrDose(Condition):
    """Quantum and electronic noise of a lower detector exposure.

    Approximate, because presentation images reach the detector signal only through a declared display curve.

    Attributes:
        levels: Fractions α of the exposure, mildest first; 1 is the image itself.
        detector_air_kerma_ugy: Mean air kerma at the detector of the image as it was taken.
        dqe: Detective quantum efficiency near zero frequency, in (0, 1].
        electronic_equivalent_ugy: Air kerma at which electronic noise equals quantum noise; 0 for none.
        detector_f50_per_mm: Frequency at which the MTF of the scintillator is 0.5 (CsI about 1.29).
        white_fraction: Share of the quantum noise power that the scintillator does not blur, in [0, 1].
        display_curve: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
        decades: Decades of exposure over the full scale of the log-linear curve.
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown; such cases
            are reported by the measurement ``assumed_spacing_mm``.
    """

    neutral: ClassVar[float | None] = 1.0
    quanta_per_mm2_ugy: ClassVar[float] = QUANTA_PER_MM2_UGY

    levels: tuple[Level, ...] = dose_ladder(_UNIT)
    detector_air_kerma_ugy: float = 2.5
    dqe: float = 0.6
    electronic_equivalent_ugy: float = 0.05
    detector_f50_per_mm: float = 1.29
    white_fraction: float = 0.2
    display_curve: str = "log-linear"
    decades: float = 1.5
    assumed_field_of_view_mm: float = 430.0

    def __post_init__(self) -> None:
        positive = ("detector_air_kerma_ugy", "dqe", "detector_f50_per_mm", "decades", "assumed_field_of_view_mm")
        require_positive(self, positive)
        require_positive(self, ("electronic_equivalent_ugy", "white_fraction"), zero=True)
        require_one_of(self, "display_curve", DISPLAY_CURVES)
        if max(self.dqe, self.white_fraction) > 1.0:
            raise ValueError(f"dqe and white_fraction: expected at most 1, got {self.dqe} and {self.white_fraction}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from an exposure fraction in (0, 1]."""
        return dose_level(value, _UNIT)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Add the extra noise of every level to presentation images in [0, 1].

        Measurements per level: ``added_noise_sd_requested`` and ``added_noise_sd``, the root mean square of the predicted
        and the inserted noise over the pixels that are not saturated, as a fraction of the display range; and once
        ``assumed_spacing_mm``, NaN where the file gave the spacing.

        Raises:
            DataError: Not signal in physical space, or not ``(N, 1, H, W)``.
            ImageError: NaN pixels, or values outside [0, 1].
        """
        del query, state
        self._refuse(batch)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def continuous(self, batch: Batch) -> AtValues:
        """See :class:`robustbench_rad.continuous.Continuous`."""
        self._refuse(batch)
        spacing, _ = self.spacing_mm(batch)
        kerma, quanta_per_ugy = self._exposure(batch, spacing)
        at_dose = self._at_dose(batch, kerma, self._transfer(batch.images, spacing), quanta_per_ugy)

        def at(values: Tensor) -> Variant:
            return Variant(
                level=NO_LEVEL,
                images=kept_where(batch, at_dose(values), values.detach() != 1.0),
                applicable=everywhere(batch),
                case_attributes=scaled_attributes(batch, TUBE_OUTPUT, values.tolist()),
            )

        return at

    def _refuse(self, batch: Batch) -> None:
        require_physical(batch, shift=self.id, unit=Unit.SIGNAL, ndim=(4,))
        require_signal_range(batch, shift=self.id)

    def _exposure(self, batch: Batch, spacing_mm: Tensor) -> tuple[Tensor, Tensor]:
        """Air kerma at every pixel, and detected quanta per pixel and µGy."""
        quanta_per_ugy = self.quanta_per_mm2_ugy * self.dqe * per_case(spacing_mm.prod(1), batch.images)
        return self.kerma_ugy(batch.images), quanta_per_ugy

    def _at_dose(
        self, batch: Batch, kerma: Tensor, transfer: Tensor, quanta_per_ugy: Tensor
    ) -> Callable[[Value], Tensor]:
        """Images at an exposure fraction; all fractions share their noise."""
        quantum, electronic = self._fields(batch, kerma, transfer, quanta_per_ugy)
        where = exposed(batch.images)

        def at_dose(alpha: Value) -> Tensor:
            noisy = add_noise(kerma, quantum, electronic, 1.0 / quanta_per_ugy, dose_fraction=alpha)
            return torch.where(where, self.signal(noisy, kerma, batch.images), batch.images)

        return at_dose

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        spacing, assumed = self.spacing_mm(batch)
        measurements.append(Measurement(quantity="assumed_spacing_mm", values=assumed))
        kerma, quanta_per_ugy = self._exposure(batch, spacing)
        transfer = self._transfer(batch.images, spacing)
        at_dose = self._at_dose(batch, kerma, transfer, quanta_per_ugy)
        kept_power = per_case(mean_power(transfer, batch.images.shape[-2:]), batch.images)
        where = exposed(batch.images)
        for level in self.levels:
            images = batch.images if level.value == 1.0 else at_dose(level.value)
            requested = self._relative_sd(kerma, kept_power, quanta_per_ugy, level.value) * self._slope(batch.images)
            change = (images - batch.images).detach()
            measurements += [
                Measurement(quantity="added_noise_sd_requested", values=_rms(requested, where), level=level.name),
                Measurement(quantity="added_noise_sd", values=_rms(change, where), level=level.name),
            ]
            header = scaled_attributes(batch, TUBE_OUTPUT, level.value) if level.value != 1.0 else ()
            yield Variant(level=level, images=images, case_attributes=header)

    def spacing_mm(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Spacing ``(N, 2)`` of every case, and ``(N,)`` the assumed spacing where the case has none (else NaN)."""
        known = in_plane_spacing_mm(batch)
        assumed = self.assumed_field_of_view_mm / max(batch.images.shape[-2:])
        missing = known.isnan().any(1)
        values = torch.where(missing, assumed, torch.nan)
        return torch.where(missing[:, None], assumed, known), values

    def kerma_ugy(self, signal: Tensor) -> Tensor:
        """Air kerma at every pixel, scaled so that the pixels that are not saturated have the declared mean.

        The mean is taken as given: exposure control fixes it, so no gradient flows through it. Pixels at 0 or 1
        (shutters, padding, burned-in letters) say nothing about the exposure and do not count.
        """
        relative = self.curve.exposure(signal)
        return relative * (self.detector_air_kerma_ugy / mean_exposure(relative, signal).detach())

    @property
    def curve(self) -> DisplayCurve:
        """The declared curve."""
        return DisplayCurve(display_curve=self.display_curve, decades=self.decades)

    def signal(self, noisy_ugy: Tensor, kerma_ugy: Tensor, signal: Tensor) -> Tensor:
        """Bring a noisy exposure back through the display curve; stored signal ends at 0 and 1."""
        return self.curve.signal(noisy_ugy / kerma_ugy.clamp_min(1e-12), signal)

    def _transfer(self, images: Tensor, spacing_mm: Tensor) -> Tensor:
        """Amplitude transfer of quantum noise, ``√((1 - w) · MTF² + w)``, 1 at zero frequency."""
        frequency = radial_frequency_per_mm((images.shape[-2], images.shape[-1]), spacing_mm)
        blurred = lorentzian_mtf(frequency, f50_per_mm=self.detector_f50_per_mm) ** 2
        return ((1.0 - self.white_fraction) * blurred + self.white_fraction).sqrt()

    def _fields(self, batch: Batch, kerma: Tensor, transfer: Tensor, quanta_per_ugy: Tensor) -> tuple[Tensor, Tensor]:
        """Noise fields in µGy that all levels share: quantum noise (blurred by the detector) and electronic noise."""
        shape = batch.images.shape[1:]
        draws = [seeds.normal(shape, batch.device, batch.seeds, self.id, self.version, name) for name in _FIELDS]
        quantum = filtered((kerma / quanta_per_ugy).sqrt() * draws[0], transfer)
        return quantum, (self.electronic_equivalent_ugy / quanta_per_ugy).sqrt() * draws[1]

    def _relative_sd(self, kerma: Tensor, kept_power: Tensor, quanta_per_ugy: Tensor, dose_fraction: float) -> Tensor:
        quantum = extra_variance(kerma, 0.0, quanta_per_ugy, dose_fraction=dose_fraction)
        both = extra_variance(kerma, self.electronic_equivalent_ugy, quanta_per_ugy, dose_fraction=dose_fraction)
        variance = both - quantum + kept_power * quantum
        return (variance.sqrt() / kerma.clamp_min(1e-12)).detach()

    def _slope(self, signal: Tensor) -> Tensor | float:
        """Change of signal per relative change of exposure."""
        return 1.0 / (math.log(10.0) * self.decades) if self.display_curve == "log-linear" else signal.detach()


_FIELDS = ("quantum", "electronic")


def extra_variance(
    kerma_ugy: Tensor, electronic_equivalent_ugy: float, quanta_per_ugy: Tensor | float, *, dose_fraction: float
) -> Tensor:
    """Variance (µGy²) that a lower exposure adds, before blur, at the original scale.

    Relative noise at 5 % of 2.5 µGy behind the mediastinum (a fifth of the mean), DQE 0.6, 224 pixels over 43 cm, as a
    fraction of a display range of 1.5 decades; the total adds the noise the image had:

    >>> quanta = QUANTA_PER_MM2_UGY * 0.6 * (430 / 224) ** 2
    >>> extra = extra_variance(torch.tensor(0.5), 0.0, quanta, dose_fraction=0.05)
    >>> own = 0.5 / quanta
    >>> round(float((extra + own).sqrt()) / 0.5 / (1.5 * math.log(10)), 4)
    0.0071
    """
    quantum = (1.0 / dose_fraction - 1.0) * kerma_ugy
    electronic = (1.0 / dose_fraction**2 - 1.0) * electronic_equivalent_ugy
    return (quantum + electronic) / quanta_per_ugy


def add_noise(
    kerma_ugy: Tensor, quantum: Tensor, electronic: Tensor, one_quantum_ugy: Tensor, *, dose_fraction: Value
) -> Tensor:
    """Mix the two shared fields for one exposure fraction α, or one per case.

    ``E + √(1/α - 1) · quantum + √(1/α² - 1) · electronic``, not below one detected quantum of the lower exposure: a
    detector that counts less than that has no logarithm.
    """
    weights = root(1.0 / dose_fraction - 1.0), root(1.0 / dose_fraction**2 - 1.0)
    more_quantum, more_electronic = (per_case_factor(weight, kerma_ugy) for weight in weights)
    noisy = kerma_ugy + more_quantum * quantum + more_electronic * electronic
    return torch.maximum(noisy, one_quantum_ugy / per_case_factor(dose_fraction, kerma_ugy))


def _rms(values: Tensor, where: Tensor) -> Tensor:
    """Root mean square ``(N,)`` over the pixels ``where``; NaN where there are none."""
    kept = (values**2 * where).sum((1, 2, 3))
    return (kept / where.sum((1, 2, 3))).sqrt()
