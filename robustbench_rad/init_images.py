"""A look at a few images: size, stored bits, modality, values."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.data.dicom_attributes import WHITELIST, whitelisted
from robustbench_rad.data.dicom_folder import IDENTIFIERS
from robustbench_rad.data.files import DICOM_SUFFIXES, NIFTI_SUFFIXES, is_dicom
from robustbench_rad.data.images import decoding
from robustbench_rad.data.raster import decode_raster
from robustbench_rad.errors import DataError, ImageError, MissingExtraError
from robustbench_rad.init_text import Note, decide, guessed, listed, seen
from robustbench_rad.plan import DataSection

LOOKED_AT = 8
HEADERS_READ = 32
MODALITIES = frozenset(DataSection.model_fields["modality"].annotation.__args__)  # type: ignore[union-attr]
PROJECTION_CODES = {"RG": "DX"}
USUAL_DEPTHS = (10, 12, 14)
AIR_BELOW = -200.0  # a volume with values below has air in HU


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one image turned out to be."""

    shape: tuple[int, ...]
    bits: int | None
    low: float | None = None
    high: float | None = None
    modality: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImagesLook:
    """What the images are, judged by a few.

    Attributes:
        looks: Those that could be read.
        failures: Why others could not.
        kind: raster, dicom, nifti or array.
    """

    looks: tuple[Look, ...]
    failures: tuple[str, ...] = ()
    kind: str = "raster"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Different shapes, the most common first."""
        return [shape for shape, _ in Counter(look.shape for look in self.looks).most_common()]

    @property
    def square(self) -> int | None:
        """Side of the images when all are squares of one size, as prepared data are."""
        shapes = self.shapes
        one = len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][0] == shapes[0][1]
        return shapes[0][0] if one else None

    @property
    def modality(self) -> tuple[str, Note]:
        """Modality for the plan; "decide" where the files name none that can be audited."""
        codes = Counter(PROJECTION_CODES.get(look.modality, look.modality) for look in self.looks if look.modality)
        if not codes:
            return "DX", guessed("the files do not say; CR, DX, CT, MR, MG or US")
        code, count = codes.most_common(1)[0]
        if code not in MODALITIES:
            return "decide", decide(f"the files say {code}; expected one of {', '.join(sorted(MODALITIES))}")
        if len(codes) > 1:
            return code, decide(f"the files are mixed: {listed(sorted(codes))}")
        if self.kind == "nifti":
            return code, guessed("by the values; the files do not say")
        return code, seen(f"in the header of {count} of {len(self.looks)} files looked at")

    @property
    def bits(self) -> tuple[int | None, Note]:
        """Stored bits for the plan; None where the files settle it."""
        looks = [look for look in self.looks if look.bits is not None]
        depths = sorted({look.bits for look in looks if look.bits})
        if len(depths) != 1 or self.kind in ("dicom", "nifti"):
            return None, seen(f"{listed(depths) or 'none'}: taken from each file")
        high = max(look.high or 0.0 for look in looks)
        usual = next((bits for bits in USUAL_DEPTHS if high < 2**bits), 16)
        if depths[0] == 16 and high > 255 and usual < 16:
            return usual, guessed(f"16-bit files with no value above {high:g} in {len(looks)} looked at")
        return depths[0], seen(f"{len(looks)} images looked at")

    @property
    def values(self) -> tuple[float, float] | None:
        """Least and largest number of images stored as floats; None for grey levels."""
        floats = [look for look in self.looks if look.bits is None and look.low is not None]
        if not floats:
            return None
        return min(look.low or 0.0 for look in floats), max(look.high or 0.0 for look in floats)

    def size_text(self) -> str:
        """Sizes in words."""
        shapes = ["×".join(map(str, shape)) for shape in self.shapes]
        return listed(shapes, 3) if shapes else "none could be read"


def kind_of(path: Path) -> str:
    """Say dicom, nifti or raster."""
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    return "dicom" if name.endswith(DICOM_SUFFIXES) or is_dicom(path) else "raster"


def look_at_images(files: Sequence[Path]) -> ImagesLook:
    """Read a few of the files."""
    kind = kind_of(files[0]) if files else "raster"
    step = max(1, len(files) // (HEADERS_READ if kind == "dicom" else LOOKED_AT))
    looks, failures = [], []
    for path in files[::step][: HEADERS_READ if kind == "dicom" else LOOKED_AT]:
        try:
            looks.append({"dicom": _dicom, "nifti": _nifti}.get(kind_of(path), _raster)(path))
        except (ImageError, MissingExtraError) as error:
            failures.append(error.message)
    return ImagesLook(looks=tuple(looks), failures=tuple(failures), kind=kind)


def _raster(path: Path) -> Look:
    return look_at_array(decode_raster(path))


def look_at_array(array: npt.NDArray[Any]) -> Look:
    """Shape, depth and values of bare numbers."""
    return Look(
        shape=tuple(array.shape),
        bits=8 * array.dtype.itemsize if array.dtype in (np.uint8, np.uint16) else None,
        low=float(array.min()) if array.size else None,
        high=float(array.max()) if array.size else None,
    )


def _nifti(path: Path) -> Look:
    from robustbench_rad.data.nifti import nifti_array

    array, _, bits = nifti_array(path)
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    return Look(shape=array.shape, bits=bits, low=low, high=high, modality="CT" if low < AIR_BELOW else "MR")


def _dicom(path: Path) -> Look:
    from pydicom import dcmread

    with decoding(str(path)):
        header = dcmread(path, stop_before_pixels=True, specific_tags=[*WHITELIST, *IDENTIFIERS, "Rows", "Columns"])
        attributes = whitelisted(header)
        return Look(
            shape=(int(header.get("Rows", 0)), int(header.get("Columns", 0))),
            bits=int(header.get("BitsStored", 0)) or None,
            modality=str(header.get("Modality", "") or ""),
            attributes=tuple(attributes.items()),
        )


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """Shape and type of an array in an archive, and its first rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first: npt.NDArray[Any]


def array_headers(path: Path) -> dict[str, ArrayHeader]:
    """Look into an NPZ archive without loading it: the first few rows of each array.

    Raises:
        DataError: Not a readable archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _array_header(archive, name) for name in names}
    except Exception as error:  # zipfile, zlib, numpy and struct each raise their own on a damaged archive
        raise DataError(
            f"{path}: not a readable NPZ archive: {error}", hint="Write it again with numpy.savez."
        ) from error


def _array_header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        rows = 0 if fortran or dtype.hasobject or not shape else min(shape[0], LOOKED_AT)
        each = int(np.prod(shape[1:]))
        content = file.read(rows * each * dtype.itemsize) if each else b""
        first = np.frombuffer(content, dtype=dtype).reshape(-1, *shape[1:]) if content else np.empty(0, np.uint8)
    return ArrayHeader(shape=shape, dtype=dtype, first=first)
