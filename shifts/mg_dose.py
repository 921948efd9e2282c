"""A lower detector exposure in mammography: the noise of ``shift.xr.dose`` with the quanta of a mammographic beam.

Quanta per area and air kerma are those of photons of the mean energy E at the detector, ``q = 1 / (E · µ_en/ρ(E))``, with the
mass energy-absorption coefficient of dry air. Behind 2 to 7 cm of PMMA, with the beams that exposure control chose for them,
E was 17.8 to 24.7 keV (Marshall 2009), which is 4,500 to 9,000 quanta per mm² and µGy.

References:
    Borges et al. 2016, Method for simulating dose reduction in digital mammography using the Anscombe transformation,
    10.1118/1.4948502.
    Mackenzie et al. 2012, Converting one set of mammograms to simulate a range of detector imaging characteristics, LNCS
    7361:394.
    Marshall 2009, Detective quantum efficiency measured as a function of energy for two full-field digital mammography systems,
    10.1088/0031-9155/54/9/017 (mean energies; detector air kerma 100 µGy).
    Hubbell and Seltzer 1995, Tables of x-ray mass attenuation coefficients and mass energy-absorption coefficients,
    NISTIR 5632.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from robustbench_rad.registry import register
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts.xr_dose import XrDose

AIR_ABSORPTION_CM2_G = {10.0: 4.742, 15.0: 1.334, 20.0: 0.5389, 30.0: 0.1537, 40.0: 0.06833}
"""Mass energy-absorption coefficient of dry air by photon energy in keV (NISTIR 5632)."""

_JOULE_PER_KEV = 1.602176634e-16


@register(
    id="shift.mg.dose",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MG",),
    reference="Borges et al. 2016, 10.1118/1.4948502; Mackenzie et al. 2012, LNCS 7361:394",
    unit="of the exposure",
)
@dataclass(frozen=True, kw_only=True)
class MgDose(XrDose):
    """Quantum and electronic noise of a lower detector exposure in mammography.

    As ``shift.xr.dose``, with the quanta of a mammographic beam and a selenium detector, which hardly blurs its noise. Air
    around the breast is near the end of the display curve and gets hardly any noise there.

    Attributes:
        levels: Fractions α of the exposure, mildest first; 1 is the image itself.
        photon_energy_kev: Mean energy at the detector, from 10 to 40; that of W/Rh at 28 kV behind an average breast.
        detector_air_kerma_ugy: Mean air kerma at the detector of the image as it was taken.
        dqe: Detective quantum efficiency near zero frequency, in (0, 1].
        electronic_equivalent_ugy: Air kerma at which electronic noise equals quantum noise; 0 for none.
        detector_f50_per_mm: Frequency at which the MTF of what blurs the quanta is 0.5.
        white_fraction: Share of the quantum noise power that is not blurred, in [0, 1].
        display_curve: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
        decades: Decades of exposure over the full scale of the log-linear curve.
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown.
    """

    photon_energy_kev: float = 20.3
    detector_air_kerma_ugy: float = 100.0
    dqe: float = 0.55
    electronic_equivalent_ugy: float = 3.0
    detector_f50_per_mm: float = 6.0
    white_fraction: float = 0.8
    assumed_field_of_view_mm: float = 290.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("photon_energy_kev",))
        energies = list(AIR_ABSORPTION_CM2_G)
        if not energies[0] <= self.photon_energy_kev <= energies[-1]:
            raise ValueError(
                f"photon_energy_kev: expected a mean energy from {energies[0]:g} to {energies[-1]:g} keV, "
                f"got {self.photon_energy_kev:g}"
            )

    @property
    def quanta_per_mm2_ugy(self) -> float:  # type: ignore[override]  # a constant of the beam there, of an option here
        """Quanta per mm² and µGy."""
        return quanta_per_mm2_ugy(self.photon_energy_kev)


def quanta_per_mm2_ugy(energy_kev: float) -> float:
    """Photons of one energy per mm² and µGy of air kerma, ``1 / (E · µ_en/ρ)``; energies between the table's by power laws.

    >>> round(quanta_per_mm2_ugy(20.0)), round(quanta_per_mm2_ugy(30.0))
    (5791, 13536)
    """
    energies = list(AIR_ABSORPTION_CM2_G)
    upper = max(1, bisect_left(energies, energy_kev))
    low, high = energies[upper - 1], energies[upper]
    share = math.log(energy_kev / low) / math.log(high / low)
    absorption: float = AIR_ABSORPTION_CM2_G[low] ** (1.0 - share) * AIR_ABSORPTION_CM2_G[high] ** share
    gray_cm2 = energy_kev * _JOULE_PER_KEV * absorption * 1000.0  # per photon and cm²; 1000 g in a kg
    return 1e-6 / gray_cm2 / 100.0
