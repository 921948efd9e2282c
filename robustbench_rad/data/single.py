"""One image read by itself, without a plan: what the file says of its modality and spacing, and what the caller adds.

DICOM says its modality. A raster image is taken for presentation signal. NIfTI says neither modality nor unit, so the caller
has to: the unit of an image is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.data import raster
from robustbench_rad.data.files import NIFTI_SUFFIXES, is_dicom, read_file
from robustbench_rad.data.images import Floats, PhysicalImage, ReadOptions, decoding
from robustbench_rad.errors import ImageError

MODALITY_OF = {Unit.HU: "CT", Unit.SIGNAL: "DX", Unit.MAGNITUDE: "MR"}
KNOWN_MODALITIES = ("CR", "CT", "DX", "MG", "MR", "RG", "US")


@dataclass(frozen=True, kw_only=True, eq=False)
class SingleImage:
    """One decoded image and where it comes from.

    Attributes:
        path: The file.
        pixels: ``(H, W)`` or ``(D, H, W)`` float32 in ``unit``: HU, signal in [0, 1], or magnitude scaled by its percentiles.
        stored: The numbers of the file, before any scaling, in the same shape.
        unit: HU, signal or magnitude.
        modality: DICOM code.
        stored_bits: Bit depth that the file declares.
        spacing_mm: Row, column (slice, row, column) spacing, or None.
        attributes: Whitelisted DICOM attributes.
        zero_signal: Value of ``pixels`` that stands for no signal at all.
    """

    path: Path
    pixels: Floats
    stored: npt.NDArray[Any]
    unit: Unit
    modality: str
    stored_bits: int
    spacing_mm: tuple[float, ...] | None
    attributes: Mapping[str, str] = field(default_factory=dict)
    zero_signal: float = 0.0

    @property
    def planes(self) -> Floats:
        """Pixels ``(D, H, W)``, D = 1 for a plane."""
        return self.pixels if self.pixels.ndim == 3 else self.pixels[None]


def read_single(path: Path, *, unit: Unit | None = None, spacing_mm: float | None = None) -> SingleImage:
    """Read one PNG, JPEG, TIFF, DICOM or NIfTI file.

    Args:
        path: The file.
        unit: What its numbers are, for files that do not say so; it must not contradict a DICOM file.
        spacing_mm: Side of a square pixel, in place of what the file says.

    Raises:
        ImageError: No such file, of no known kind, damaged, in colour, or of another unit.
        MissingExtraError: The format needs an optional package.
    """
    if not path.is_file():
        raise ImageError(f"{path}: {'is a folder, expected an image file' if path.is_dir() else 'no such file'}")
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        read = _nifti(path, unit)
    elif name.endswith(raster.SUFFIXES):
        read = _raster(path, unit)
    elif is_dicom(path):
        read = _dicom(path, unit)
    else:
        raise ImageError(f"{path}: unknown kind of image", hint="Supported: PNG, JPEG, TIFF, DICOM and NIfTI.")
    if spacing_mm is None:
        return read
    slices = () if read.pixels.ndim == 2 else (read.spacing_mm[0] if read.spacing_mm else spacing_mm,)
    return replace(read, spacing_mm=(*slices, spacing_mm, spacing_mm))


def one_slice(image: SingleImage, index: int) -> SingleImage:
    """One slice of a volume as a plane.

    Raises:
        ImageError: Not a volume, or no such slice.
    """
    if image.pixels.ndim != 3:
        raise ImageError(f"{image.path}: expected a volume to take a slice of, got a plane")
    if not 0 <= index < len(image.pixels):
        raise ImageError(f"{image.path}: expected a slice from 0 to {len(image.pixels) - 1}, got {index}")
    spacing = None if image.spacing_mm is None else image.spacing_mm[-2:]
    return replace(image, pixels=image.pixels[index], stored=image.stored[index], spacing_mm=spacing)


def _raster(path: Path, unit: Unit | None) -> SingleImage:
    modality = MODALITY_OF[unit or Unit.SIGNAL]
    options = ReadOptions(modality=modality)
    return _single(path, raster.read_raster(path, options), raster.decode_raster(path), modality)


def _nifti(path: Path, unit: Unit | None) -> SingleImage:
    from robustbench_rad.data.nifti import nifti_array

    if unit is None:
        raise ImageError(
            f"{path}: a NIfTI file does not say what its numbers are",
            hint="Say so: --unit HU, --unit magnitude (MR) or --unit signal (in [0, 1]).",
        )
    modality = MODALITY_OF[unit]
    read = read_file(path, ReadOptions(modality=modality, volumes=True))
    stored = nifti_array(path)[0]
    if stored.shape[0] == 1:
        spacing = None if read.spacing_mm is None else read.spacing_mm[1:]
        read, stored = replace(read, pixels=read.pixels[0], spacing_mm=spacing), stored[0]
    return _single(path, read, stored, modality)


def _dicom(path: Path, unit: Unit | None) -> SingleImage:
    from pydicom import dcmread

    with decoding(str(path)):
        modality = str(dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", "") or "")
    if modality not in KNOWN_MODALITIES:
        raise ImageError(
            f"{path}: expected modality {', '.join(KNOWN_MODALITIES)}, got {modality or 'none'}",
            hint="Store it as PNG, TIFF or NIfTI and say its unit.",
        )
    read = read_file(path, ReadOptions(modality=modality))
    if unit is not None and unit is not read.unit:
        raise ImageError(f"{path}: expected {unit.value}, as given, got {read.unit.value}: the file is {modality}")
    with decoding(str(path)):
        stored = np.asarray(dcmread(path).pixel_array)
    return _single(path, read, stored, modality)


def _single(path: Path, read: PhysicalImage, stored: npt.NDArray[Any], modality: str) -> SingleImage:
    return SingleImage(
        path=path,
        pixels=read.pixels,
        stored=stored,
        unit=read.unit,
        modality=modality,
        stored_bits=read.stored_bits,
        spacing_mm=read.spacing_mm,
        attributes=read.attributes,
        zero_signal=read.zero_signal,
    )
