"""Generic scanners A to D, as data: physical parameters of each, and where the numbers come from.

They stand for the spread of what is installed, and for no product: no manufacturer publishes these numbers for a whole system,
so each row puts together values that were measured on some system of its kind.

CT, frequency at half MTF per mm: a soft-tissue kernel of filtered backprojection 0.34 (B30-like) and 0.47, hybrid iterative
0.37, deep-learning 0.62 (measured, doi:10.1002/acm2.13318), medium 0.55 (B50-like). Dose: 5-9 mGy is a routine chest CT, 3 mGy
or less is screening, hence a quarter to one. Slices of 1 to 5 mm are in clinical use. A reader sees differences of noise from
25 % on (Massoumzadeh et al. 2009, Med Phys 36:174).

Radiography: CsI flat panel 1.29 per mm at half MTF (Marshall et al. 2011, Phys Med Biol 56(4)); a powder storage phosphor has
a DQE of 0.26 where a flat panel has 0.57 (doi:10.1088/1361-6560/aa9599), which is the noise of 0.45 of the exposure. Scatter
with a grid 0.4-0.5 of the field, without 0.65 and more (Floyd et al. 1994, doi:10.1097/00004424-199409000-00010; Niklason et
al. 1981, doi:10.1118/1.595027). Display gammas and gains of multi-scale contrast within the range of consoles (Vuylsteke and
Schoeters 1994, doi:10.1117/12.175090).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CtScanner:
    """A CT scanner; None leaves a property as it is.

    Attributes:
        description: In a few words.
        kernel_f50_per_mm: Frequency at half MTF of the reconstruction kernel.
        dose_fraction: Dose relative to that of the images.
        residual_percent: How much of the fine residual iterative or deep-learning reconstruction takes away.
        slice_thickness_mm: Of the reconstructed slices; volumes only, and where it is more than that of the images.
    """

    description: str
    kernel_f50_per_mm: float | None = None
    dose_fraction: float | None = None
    residual_percent: float | None = None
    slice_thickness_mm: float | None = None


@dataclass(frozen=True, kw_only=True)
class XrScanner:
    """A radiographic system; None leaves a property as it is.

    Attributes:
        description: In a few words.
        detector_f50_per_mm: Frequency at half MTF of the detector.
        exposure_fraction: Exposure, or exposure of the same noise, relative to that of the images.
        scatter_fraction: Scattered over all radiation in the whole field.
        gamma: Of the console's display curve.
        gain_percent: Of its multi-scale contrast amplification.
    """

    description: str
    detector_f50_per_mm: float | None = None
    exposure_fraction: float | None = None
    scatter_fraction: float | None = None
    gamma: float | None = None
    gain_percent: float | None = None


CT_SCANNERS: Mapping[str, CtScanner] = {
    "vendor A": CtScanner(
        description="filtered backprojection, standard kernel, routine dose, 3 mm",
        kernel_f50_per_mm=0.47,
        slice_thickness_mm=3.0,
    ),
    "vendor B": CtScanner(
        description="hybrid iterative, soft, half the dose, 2.5 mm",
        kernel_f50_per_mm=0.37,
        dose_fraction=0.5,
        residual_percent=35.0,
        slice_thickness_mm=2.5,
    ),
    "vendor C": CtScanner(
        description="deep-learning reconstruction, sharp, a quarter of the dose, 1.5 mm",
        kernel_f50_per_mm=0.62,
        dose_fraction=0.25,
        residual_percent=65.0,
        slice_thickness_mm=1.5,
    ),
    "vendor D": CtScanner(
        description="filtered backprojection, medium kernel, a quarter of the dose, 5 mm",
        kernel_f50_per_mm=0.55,
        dose_fraction=0.25,
        slice_thickness_mm=5.0,
    ),
}

XR_SCANNERS: Mapping[str, XrScanner] = {
    "vendor A": XrScanner(
        description="flat panel with grid, strong multi-scale processing",
        detector_f50_per_mm=1.29,
        gamma=1.18,
        gain_percent=50.0,
    ),
    "vendor B": XrScanner(
        description="flat panel with grid, half the exposure, bright display curve",
        detector_f50_per_mm=1.1,
        exposure_fraction=0.5,
        gamma=0.75,
        gain_percent=15.0,
    ),
    "vendor C": XrScanner(
        description="powder storage phosphor with grid, dark display curve",
        detector_f50_per_mm=0.7,
        exposure_fraction=0.45,
        gamma=1.33,
    ),
    "vendor D": XrScanner(
        description="portable flat panel without grid",
        detector_f50_per_mm=0.9,
        exposure_fraction=0.5,
        scatter_fraction=0.65,
        gamma=0.85,
        gain_percent=30.0,
    ),
}
