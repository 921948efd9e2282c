"""NIfTI volumes through nibabel (the ``nifti`` extra), turned to the order of a DICOM series.

Whatever way a file stores its axes, the array comes out as slice (towards the head), row (towards the back), column
(towards the patient's left), so an axial series read from DICOM and from NIfTI gives the same tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.data.images import PhysicalImage, ReadOptions, check_range, decoding, scaled_magnitude
from robustbench_rad.errors import ImageError, MissingExtraError


def read_nifti(path: Path, options: ReadOptions) -> PhysicalImage:
    """Read a NIfTI file: CT in HU, MR scaled by its own percentiles, anything else as it is.

    Raises:
        ImageError: Damaged, four-dimensional, a volume for a model of planes, or outside its declared range,
            or MR that is not magnitude.
        MissingExtraError: nibabel is not installed.
    """
    array, spacing, bits = nifti_array(path)
    if not options.volumes and array.shape[0] != 1:
        raise ImageError(
            f"{path}: expected one plane for a model of planes, got a volume of {array.shape[0]} slices",
            hint="Export the slices one by one, or declare three numbers in model.input.size.",
        )
    pixels, zero = np.asarray(array, dtype=np.float32), 0.0
    if options.unit is Unit.MAGNITUDE:
        pixels, zero = scaled_magnitude(pixels, options, str(path))
    else:
        check_range(pixels, options, str(path))
    return PhysicalImage(
        pixels=pixels if options.volumes else pixels[0],
        unit=options.unit,
        stored_bits=bits,
        spacing_mm=spacing if options.volumes else spacing[1:],
        zero_signal=zero,
    )


def nifti_array(path: Path) -> tuple[npt.NDArray[Any], tuple[float, float, float], int]:
    """Decode a file.

    Returns:
        ``(D, H, W)`` array, spacing slice, row, column in mm, and bit depth of the stored numbers (at most 16).
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError(f"{path}: NIfTI files", package="nibabel", extra="nifti") from error
    with decoding(str(path)):
        image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
        values = np.asanyarray(image.dataobj)
        stored = image.get_data_dtype()
        zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        values, zooms = values[..., None], [*zooms[:2], 1.0]
    if values.ndim != 3:
        raise ImageError(f"{path}: expected a volume of three axes, got shape {values.shape}")
    ordered = values.transpose(2, 1, 0)[:, ::-1, ::-1]
    return ordered, (zooms[2], zooms[1], zooms[0]), min(8 * stored.itemsize, 16)
