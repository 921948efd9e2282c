"""A less sharp detector in mammography: from selenium to a scintillator or a storage phosphor.

Reference:
    Mackenzie et al. 2012, Converting one set of mammograms to simulate a range of detector imaging characteristics, LNCS
    7361:394.
"""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import ladder
from robustbench_rad.shifts.xr_detector_mtf import XrDetectorMtf


@register(
    id="shift.mg.detector-mtf",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MG",),
    reference="Mackenzie et al. 2012, LNCS 7361:394",
    unit="per mm",
)
@dataclass(frozen=True, kw_only=True)
class MgDetectorMtf(XrDetectorMtf):
    """Blur of a less sharp mammographic detector, signal and noise alike.

    As ``shift.xr.detector-mtf``; measured are ``f50_per_mm_requested`` and ``f50_per_mm`` as achieved (NaN when it lies
    beyond what the pixels can hold).

    Attributes:
        levels: Frequency at which the MTF of the detector is 0.5, per mm.
        source_f50_per_mm: The same of the detector that the images were made with.
        focal_spot_mm: Size of a larger focal spot; 0 for none.
        magnification: Of the anatomy for that focal spot.
    """

    levels: tuple[Level, ...] = ladder("per mm", "5", "4", "3", "2.5", "2")
    source_f50_per_mm: float = 6.0
    assumed_field_of_view_mm: float = 290.0
