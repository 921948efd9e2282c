"""The DICOM attributes that may leave a file. Everything else, names and dates above all, stays in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

WHITELIST = (
    "BitsStored",
    "BodyPartExamined",
    "BodyPartThickness",
    "ConvolutionKernel",
    "DetectorType",
    "EchoTime",
    "Exposure",
    "ExposureTime",
    "FilterType",
    "Grid",
    "ImageLaterality",
    "ImagerPixelSpacing",
    "InPlanePhaseEncodingDirection",
    "InversionTime",
    "KVP",
    "Laterality",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "PatientAge",
    "PatientPosition",
    "PatientSex",
    "PhotometricInterpretation",
    "PixelSpacing",
    "PresentationIntentType",
    "ReconstructionDiameter",
    "RepetitionTime",
    "SliceThickness",
    "ViewPosition",
    "XRayTubeCurrent",
)
OLDEST_BAND = 90


def whitelisted(dataset: Dataset) -> dict[str, str]:
    """Whitelisted attributes as text; "" where missing. PatientAge becomes a band of ten years."""
    texts = {name: _text(dataset.get(name)) for name in WHITELIST}
    texts["PatientAge"] = age_band(texts["PatientAge"])
    return texts


def age_band(age: str) -> str:
    """Turn a DICOM age string into a band of ten years; 90 and above are one band.

    >>> [age_band(age) for age in ("063Y", "018M", "091Y", "", "young")]
    ['60-69', '0-9', '90+', '', '']
    """
    number, unit = age[:-1], age[-1:].upper()
    if not number.isdecimal() or unit not in "DWMY":
        return ""
    years = int(number) // {"D": 365, "W": 52, "M": 12, "Y": 1}[unit]
    return f"{OLDEST_BAND}+" if years >= OLDEST_BAND else f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def _text(value: object) -> str:
    """Text of a value; several values are joined as DICOM joins them, and 120, 120.0 and 120.00 read the same."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{float(value):.8g}"
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return str(value).strip()
    return "\\".join(_text(part) for part in value)
