"""Reading a case from files: the reader is chosen by what the file is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from robustbench_rad.cases import CaseRecord
from robustbench_rad.data import raster
from robustbench_rad.data.images import PhysicalImage, ReadOptions
from robustbench_rad.errors import ImageError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, kw_only=True)
class FileReader:
    """Reads PNG, JPEG, TIFF, DICOM (one file, or a series for volumes) and NIfTI."""

    options: ReadOptions

    def read(self, record: CaseRecord) -> PhysicalImage:
        """Decode the case's files.

        Raises:
            ImageError: Unreadable, of another unit, or outside its declared range.
            MissingExtraError: The format needs an optional package.
        """
        if len(record.files) > 1:
            from robustbench_rad.data.dicom import read_series

            return read_series(record.files, self.options)
        return read_file(record.files[0], self.options)

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the content of the case's files; their names, folders and order do not count."""
        return hashlib.sha256("".join(sorted(file_sha256(path) for path in record.files)).encode()).hexdigest()


def read_file(path: Path, options: ReadOptions) -> PhysicalImage:
    """Read one image file of any supported format."""
    name = path.name.lower()
    if name.endswith(raster.SUFFIXES):
        if options.volumes:
            raise ImageError(
                f"{path}: expected a volume for a model of volumes, got a plane", hint="Give NIfTI or a DICOM series."
            )
        return raster.read_raster(path, options)
    if name.endswith(NIFTI_SUFFIXES):
        from robustbench_rad.data.nifti import read_nifti

        return read_nifti(path, options)
    if name.endswith(DICOM_SUFFIXES) or is_dicom(path):
        from robustbench_rad.data.dicom import read_dicom, read_series

        return read_series((path,), options) if options.volumes else read_dicom(path, options)
    raise ImageError(
        f"{path}: unknown kind of image",
        hint="Supported: PNG, JPEG, TIFF, DICOM, NIfTI (.nii, .nii.gz), and NPZ as a source.",
    )


def is_dicom(path: Path) -> bool:
    """Whether the file carries the DICOM prefix (128 bytes, then ``DICM``)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        ImageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
