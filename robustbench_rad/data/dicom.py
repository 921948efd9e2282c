"""DICOM: one file as a plane, or the files of a series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.data.dicom_attributes import whitelisted
from robustbench_rad.data.dicom_signal import hounsfield, magnitude, presentation_signal
from robustbench_rad.data.images import Floats, PhysicalImage, ReadOptions, check_range, decoding, scaled_magnitude
from robustbench_rad.errors import ImageError, MissingExtraError

if TYPE_CHECKING:
    from pydicom import Dataset

PROJECTION = frozenset({"CR", "DX", "RG"})  # one kind of image under three codes
GAP_TOLERANCE = 0.05  # of the slice distance
SAME_PLANE_TOLERANCE = 1e-3


def read_dicom(path: Path, options: ReadOptions) -> PhysicalImage:
    """Read one file.

    Raises:
        ImageError: Damaged, without pixel data, multi-frame, colour, of another modality, or outside its range.
        MissingExtraError: A compressed transfer syntax without its plug-in.
    """
    with decoding(str(path)):
        dataset = open_dicom(path, options)
        return _scaled(_physical(dataset, path, options), options, str(path))


def open_dicom(path: Path, options: ReadOptions) -> Dataset:
    """Parse a file and refuse what is not one grey plane of the plan's modality."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(path)
    except InvalidDicomError as error:
        raise ImageError(f"{path}: not a DICOM file: the DICM prefix is missing") from error
    _refuse_other_modality(dataset, path, options)
    if "PixelData" not in dataset:
        raise ImageError(f"{path}: the DICOM file has no pixel data: it is no image, or was cut off before its pixels")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise ImageError(
            f"{path}: expected one frame, got a multi-frame DICOM file with {frames}",
            hint="Split it into single-frame files, or convert it to NIfTI.",
        )
    photometric = dataset.get("PhotometricInterpretation", "")
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(
            f"{path}: expected a grey image (MONOCHROME1 or MONOCHROME2), got {photometric or 'no such entry'}",
            hint="Colour images are not supported.",
        )
    return dataset


def _refuse_other_modality(dataset: Dataset, path: Path, options: ReadOptions) -> None:
    came = str(dataset.get("Modality", "") or "")
    both_projection = came in PROJECTION and options.modality in PROJECTION
    if came and came != options.modality and not both_projection:
        raise ImageError(
            f"{path}: expected modality {options.modality}, as declared in the plan, got {came}",
            hint="Correct data.modality, or leave this file out.",
        )


def _physical(dataset: Dataset, path: Path, options: ReadOptions) -> PhysicalImage:
    """One plane; MR not yet scaled by the percentiles of its image, which may be a volume."""
    stored = _stored(dataset, path)
    pixels: Floats
    if options.unit is Unit.HU:
        pixels = hounsfield(dataset, stored, str(path))
    elif options.unit is Unit.MAGNITUDE:
        pixels = magnitude(dataset, stored)
    else:
        pixels = options.from_signal(presentation_signal(dataset, stored, str(path)))
    if options.unit is not Unit.MAGNITUDE:
        check_range(pixels, options, str(path))
    return PhysicalImage(
        pixels=pixels,
        unit=options.unit,
        stored_bits=min(int(dataset.BitsStored), 16),
        spacing_mm=_spacing(dataset),
        attributes=whitelisted(dataset),
        burned_in=str(dataset.get("BurnedInAnnotation", "")).upper() == "YES",
    )


def _scaled(image: PhysicalImage, options: ReadOptions, where: str) -> PhysicalImage:
    """MR on the scale of its own percentiles; anything else as it is."""
    if image.unit is not Unit.MAGNITUDE:
        return image
    pixels, zero = scaled_magnitude(image.pixels, options, where)
    return replace(image, pixels=pixels, zero_signal=zero)


def _stored(dataset: Dataset, path: Path) -> npt.NDArray[Any]:
    """Decode the stored values; refuse a missing plug-in with its pip line, and a cut-off file."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise MissingExtraError(
            f"{path}: DICOM files compressed as {syntax.name}",
            package="pylibjpeg with its plug-ins",
            extra="dicom",
        )
    array: npt.NDArray[Any] = dataset.pixel_array
    return array


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing: calibrated, else at the detector."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(name)
        if value is not None and len(value) == 2 and min(value) > 0:
            return float(value[0]), float(value[1])
    return None


def read_series(paths: Sequence[Path], options: ReadOptions) -> PhysicalImage:
    """Read the files of one series as a volume, sorted by position along the slice normal.

    Returns:
        Pixels ``(D, H, W)``; spacing slice, row, column. The slice spacing is the median distance of the positions.

    Raises:
        ImageError: A file is unusable, or the files do not form one regular volume.
    """
    where = f"{paths[0].parent} ({len(paths)} files)"
    with decoding(where):
        datasets = {path: open_dicom(path, options) for path in paths}
        _refuse_mixture(datasets, where)
        positions = {path: _position(dataset, path) for path, dataset in datasets.items()}
        order = sorted(paths, key=lambda path: positions[path])
        thickness = _slice_spacing([positions[path] for path in order], datasets[order[0]], where)
        planes = [_physical(datasets[path], path, options) for path in order]
    return _scaled(_stack(planes, thickness, where), options, where)


def _refuse_mixture(datasets: dict[Path, Dataset], where: str) -> None:
    first, *others = datasets.values()
    for name in ("SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        for other in others:
            if not _equal(first.get(name), other.get(name)):
                raise ImageError(f"{where}: the slices differ in {name}: {first.get(name)} and {other.get(name)}")


def _equal(a: Any, b: Any) -> bool:  # noqa: ANN401 - any DICOM value
    if a is None or b is None or not hasattr(a, "__iter__") or isinstance(a, str):
        return bool(a == b)
    return len(a) == len(b) and bool(np.allclose(np.array(a, float), np.array(b, float), atol=SAME_PLANE_TOLERANCE))


def _position(dataset: Dataset, path: Path) -> float:
    """Position along the slice normal in mm: ImagePositionPatient projected on row × column."""
    orientation, origin = dataset.get("ImageOrientationPatient"), dataset.get("ImagePositionPatient")
    if orientation is None or origin is None:
        raise ImageError(f"{path}: a slice of a volume needs ImageOrientationPatient and ImagePositionPatient")
    axes = np.array(orientation, dtype=float)
    return float(np.dot(np.cross(axes[:3], axes[3:]), np.array(origin, dtype=float)))


def _slice_spacing(positions: Sequence[float], dataset: Dataset, where: str) -> float:
    """Distance of neighbouring slices in mm.

    Raises:
        ImageError: A position twice, or a gap (a missing slice).
    """
    if len(positions) < 2:
        return float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or np.nan)
    steps = np.diff(positions)
    usual = float(np.median(steps))
    if steps.min() < SAME_PLANE_TOLERANCE:
        raise ImageError(f"{where}: two slices lie at the same position; expected one series of one acquisition")
    if np.abs(steps - usual).max() > GAP_TOLERANCE * usual:
        raise ImageError(
            f"{where}: expected equal distances of {usual:.3g} mm between slices, got {steps.min():.3g} to "
            f"{steps.max():.3g} mm: a slice is missing, or two series are mixed"
        )
    return usual


def _stack(planes: Sequence[PhysicalImage], slice_mm: float, where: str) -> PhysicalImage:
    first = planes[0]
    if first.spacing_mm is None and np.isfinite(slice_mm):
        raise ImageError(f"{where}: the slices have no PixelSpacing")
    return PhysicalImage(
        pixels=np.stack([plane.pixels for plane in planes]),
        unit=first.unit,
        stored_bits=first.stored_bits,
        spacing_mm=None if first.spacing_mm is None else (slice_mm, *first.spacing_mm),
        attributes=first.attributes,
        burned_in=any(plane.burned_in for plane in planes),
    )
