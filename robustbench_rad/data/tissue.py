"""Maps of tissue classes of the brain: one whole number per pixel, as segmentation programs write them.

Whatever numbers a file has, a map comes out as 0 (none of the classes), 1 (cerebrospinal fluid), 2 (grey matter) and 3 (white
matter), on the grid of its image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.data.images import decoding
from robustbench_rad.errors import DataError

CLASSES = ("fluid", "grey matter", "white matter")
Codes = npt.NDArray[np.uint8]


def load_tissue(path: Path, shape: tuple[int, ...], numbers: tuple[int, ...]) -> Codes:
    """Read a map.

    Args:
        path: NIfTI, NPY, NPZ (one array), PNG or TIFF of one channel.
        shape: ``(H, W)`` or ``(D, H, W)`` of its image.
        numbers: What the file has for each of :data:`CLASSES`; every other number is none of them.

    Raises:
        DataError: Unreadable, of another size, not of whole numbers, or without any of the classes.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such map of tissues")
    return tissue_codes(_decoded(path), shape, numbers, str(path))


def tissue_codes(values: npt.NDArray[Any], shape: tuple[int, ...], numbers: tuple[int, ...], where: str) -> Codes:
    """Codes 0 to 3 from the numbers of a map.

    Raises:
        DataError: Of another size, not of whole numbers, or without any of the classes.

    >>> tissue_codes(np.array([[0, 8, 2], [4, 8, 7]]), (2, 3), (8, 4, 2), "map").tolist()
    [[0, 1, 3], [2, 1, 0]]
    """
    values = values[0] if values.ndim == len(shape) + 1 and values.shape[0] == 1 else values
    if values.shape != shape:
        raise DataError(f"{where}: expected a map of tissues of the size of its image, {shape}, got {values.shape}")
    if values.dtype.kind not in "biuf" or not np.array_equal(values, np.rint(values)):
        raise DataError(
            f"{where}: expected whole numbers, one for each tissue, got {values.dtype} with fractions",
            hint="Give the classes (1, 2, 3), not their probabilities; resample maps by nearest neighbour.",
        )
    codes = np.zeros(shape, dtype=np.uint8)
    for code, number in enumerate(numbers, start=1):
        codes[values == number] = code
    if not codes.any():
        wanted = ", ".join(f"{number} ({name})" for name, number in zip(CLASSES, numbers, strict=True))
        raise DataError(
            f"{where}: expected a map of tissues with {wanted}, got none of them",
            hint="Say the numbers of the file: tissue = { column = …, fluid = 1, grey_matter = 2, white_matter = 3 }.",
        )
    return codes


def _decoded(path: Path) -> npt.NDArray[Any]:
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from robustbench_rad.data.nifti import nifti_array

        return nifti_array(path)[0]
    with decoding(str(path)):
        if name.endswith((".npy", ".npz")):
            return _array(path)
        from PIL import Image

        with Image.open(path) as image:
            if len(image.getbands()) != 1:
                raise DataError(f"{path}: expected a map of tissues of one channel, got {image.mode}")
            return np.array(image)


def _array(path: Path) -> npt.NDArray[Any]:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content as archive:
        if len(archive.files) != 1:
            raise DataError(f"{path}: expected one array, got {', '.join(archive.files) or 'none'}")
        array: npt.NDArray[Any] = archive[archive.files[0]]
        return array
