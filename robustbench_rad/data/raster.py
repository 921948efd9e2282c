"""PNG, JPEG and TIFF of 8 and 16 bits, and float TIFF.

Colour that is grey in disguise (three equal channels) is accepted; true colour is refused. Alpha is dropped.
Orientation tags of photographs are not applied: a radiograph is shown as it is stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.data.images import PhysicalImage, ReadOptions, decoding, physical_from_array
from robustbench_rad.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
CHROMA_TOLERANCE = 2  # grey levels that JPEG's colour rounding may leave between equal channels
PHOTOMETRIC_TAG, MIN_IS_WHITE = 262, 0


def read_raster(path: Path, options: ReadOptions) -> PhysicalImage:
    """Read one raster image.

    Raises:
        ImageError: Damaged, true colour, several frames, or outside its declared range; integer grey levels for CT.
    """
    array = decode_raster(path)
    if options.unit is Unit.HU and array.dtype.kind != "f":
        raise ImageError(
            f"{path}: expected CT in HU, got an {8 * array.dtype.itemsize}-bit {path.suffix[1:].upper()}: "
            "a raster image holds grey levels, whose relation to HU is lost",
            hint="Give CT as DICOM or NIfTI.",
        )
    pixels, bits = physical_from_array(array, options, str(path))
    return PhysicalImage(pixels=pixels, unit=options.unit, stored_bits=bits)


def decode_raster(path: Path) -> npt.NDArray[Any]:
    """Decode to ``(H, W)`` uint8, uint16, int32 or float32."""
    from PIL import Image

    with decoding(str(path)), Image.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageError(f"{path}: expected one image, got {frames} frames", hint="Split the file.")
        _refuse_deep_colour(image, path)
        image.load()
        return _grey(image, path)


def _refuse_deep_colour(image: ImageFile, path: Path) -> None:
    """Pillow reads 16-bit colour as 8-bit without a word; grey levels would be lost."""
    raw_modes = [str(tile[3]) for tile in image.tile]
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in raw for raw in raw_modes):
        raise ImageError(
            f"{path}: expected one grey plane, got 16 bits per channel with colour or alpha",
            hint="Store it as 16-bit grey.",
        )


def _grey(image: Image, path: Path) -> npt.NDArray[Any]:
    if image.mode in ("L", "I", "F"):
        return np.array(image)
    if image.mode.startswith("I;16"):
        return _sixteen_bit(image)
    if image.mode == "1":
        return np.array(image.convert("L"))
    if image.mode == "LA":
        return np.array(image.getchannel(0))
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBX"):
        return _equal_channels(np.array(image.convert("RGBA").convert("RGB")), path)
    raise ImageError(f"{path}: expected a grey image, got colour mode {image.mode}", hint="Store it as grey.")


def _sixteen_bit(image: Image) -> npt.NDArray[np.uint16]:
    """Pillow inverts white-is-zero TIFFs of 8 bits but not of 16."""
    array = np.array(image).astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    return np.uint16(65535) - array if tags.get(PHOTOMETRIC_TAG) == MIN_IS_WHITE else array


def _equal_channels(rgb: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.uint8]:
    spread = int((rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)).max())
    if spread > CHROMA_TOLERANCE:
        raise ImageError(
            f"{path}: expected a grey image, got colour: channels differ by up to {spread} of 255",
            hint="Only grayscale modalities are supported; colour overlays must be removed first.",
        )
    return np.ascontiguousarray(rgb[:, :, 1])
