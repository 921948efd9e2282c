"""A lower detector exposure in mammography: the noise of ``shift.xr.dose`` with the quanta of a mammographic beam.

References:
    Borges et al. 2016, Method for simulating dose reduction in digital mammography using the Anscombe transformation,
    10.1118/1.4948502.
    Mackenzie et al. 2012, Conversion of mammographic images to appear with the noise and sharpness of a different detector,
    10.1118/1.4704525.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustbench_rad.registry import register
from robustbench_rad.shifts.xr_dose import XrDose

QUANTA_PER_MM2_UGY = 5975.0
"""Squared signal-to-noise ratio per area and air kerma of W/Rh at 28 kV behind 2 mm of aluminium (IEC 62220-1-2)."""


@register(
    id="shift.mg.dose",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MG",),
    reference="Borges et al. 2016, 10.1118/1.4948502; Mackenzie et al. 2012, 10.1118/1.4704525",
    unit="of the exposure",
)
@dataclass(frozen=True, kw_only=True)
class MgDose(XrDose):
    """Quantum and electronic noise of a lower detector exposure in mammography.

    As ``shift.xr.dose``, with W/Rh quanta and a selenium detector, which hardly blurs its noise. Air around the breast is
    near the end of the display curve and gets hardly any noise there.

    Attributes:
        levels: Fractions α of the exposure, mildest first; 1 is the image itself.
        detector_air_kerma_ugy: Mean air kerma at the detector of the image as it was taken.
        dqe: Detective quantum efficiency near zero frequency, in (0, 1].
        electronic_equivalent_ugy: Air kerma at which electronic noise equals quantum noise; 0 for none.
        detector_f50_per_mm: Frequency at which the MTF of what blurs the quanta is 0.5.
        white_fraction: Share of the quantum noise power that is not blurred, in [0, 1].
        display_curve: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
        decades: Decades of exposure over the full scale of the log-linear curve.
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown.
    """

    quanta_per_mm2_ugy: ClassVar[float] = QUANTA_PER_MM2_UGY

    detector_air_kerma_ugy: float = 100.0
    dqe: float = 0.55
    electronic_equivalent_ugy: float = 3.0
    detector_f50_per_mm: float = 6.0
    white_fraction: float = 0.8
    assumed_field_of_view_mm: float = 290.0
