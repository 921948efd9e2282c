"""NPZ archives in the MedMNIST layout: ``{split}_images`` and ``{split}_labels``, optionally ``{split}_patients``.

Images are ``(N, H, W)`` or ``(N, H, W, 1)``, volumes ``(N, D, H, W)``; labels are ``(N, K)`` or ``(N,)``. Masks of the lesions
are an array of the shape of the images, ``{split}_lesions`` with ``lesion = { column = "lesions" }``. Object arrays are never
unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from robustbench_rad.cases import CaseRecord
from robustbench_rad.data.images import PhysicalImage, ReadOptions, physical_from_array
from robustbench_rad.data.labels import parse_number_label
from robustbench_rad.errors import DataError, ImageError, suggestion
from robustbench_rad.plan import Plan


@dataclass(frozen=True, kw_only=True)
class NpzReader:
    """Reads the case's plane out of the archive's image array, which each process loads once."""

    split: str
    options: ReadOptions
    lesion: str | None = None

    def read(self, record: CaseRecord) -> PhysicalImage:
        """Take one image.

        Raises:
            ImageError: Not of the declared unit or range.
        """
        pixels, bits = physical_from_array(self._plane(record), self.options, record.reference)
        lesion = self._lesion(record)
        return PhysicalImage(pixels=pixels, unit=self.options.unit, stored_bits=bits, lesion=lesion)

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the case's stored pixels and lesions."""
        array, lesion = self._plane(record), self._lesion(record)
        mask = b"" if lesion is None else b"lesion" + lesion.tobytes()
        return hashlib.sha256(f"{array.shape}{array.dtype.str}".encode() + array.tobytes() + mask).hexdigest()

    def _plane(self, record: CaseRecord, name: str = "images") -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = _planes(record.files[0], f"{self.split}_{name}", self.options.volumes)[record.index]
        return array

    def _lesion(self, record: CaseRecord) -> npt.NDArray[np.bool_] | None:
        return None if self.lesion is None else np.asarray(self._plane(record, self.lesion) != 0)


@lru_cache(maxsize=4)
def _planes(path: Path, key: str, volumes: bool) -> npt.NDArray[Any]:
    images = read_array(path, key)
    dimensions = 4 if volumes else 3
    if images.ndim == dimensions + 1 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != dimensions:
        expected = "(N, D, H, W)" if volumes else "(N, H, W) or (N, H, W, 1)"
        raise ImageError(
            f"{path}: {key}: expected shape {expected}, got {images.shape}",
            hint="Colour is not supported; a model of volumes has three numbers in model.input.size.",
        )
    return images


def read_array(path: Path, key: str) -> npt.NDArray[Any]:
    """Load one array.

    Raises:
        DataError: No such file or array, or an object array (which would have to be unpickled).
    """
    with _archive(path) as archive:
        if key not in archive.files:
            raise DataError(
                f"{path}: array {key!r} is missing; the archive holds: {', '.join(archive.files)}",
                hint=f"Check data.split. {suggestion(key, archive.files)}",
            )
        array: npt.NDArray[Any] = archive[key]
    return array


@contextmanager
def _archive(path: Path) -> Iterator[NpzFile]:
    """Open an archive; whatever goes wrong with it is a DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an NPZ archive", hint="Check data.manifest and --root.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and struct each raise their own on a damaged archive
        raise DataError(f"{path}: not a readable NPZ archive: {error}") from error


def read_npz(plan: Plan, *, volumes: bool) -> tuple[CaseRecord, ...]:
    """Make the records of one split.

    Raises:
        DataError: An array is missing or of the wrong shape, or a label is none.
    """
    path, split = plan.path(plan.data.manifest or ""), plan.data.split
    labels = _labels(read_array(path, f"{split}_labels"), plan, f"{path}: {split}_labels")
    images = _planes(path, f"{split}_images", volumes)
    count = len(images)
    if count != len(labels) or count == 0:
        raise DataError(f"{path}: expected as many images as labels and at least one, got {count} and {len(labels)}")
    case_ids = [f"{split}-{row}" for row in range(count)]
    patients = _patients(path, split, case_ids)
    if plan.data.columns:
        raise DataError(
            f"{path}: an NPZ archive has no metadata columns; data.metadata names {', '.join(plan.data.columns)}"
        )
    _check_lesions(path, plan, images.shape, volumes=volumes)
    spacing = plan.data.spacing_mm
    if isinstance(spacing, str):
        raise DataError(f"data.spacing_mm: an NPZ archive has no columns; expected a number, got {spacing!r}")
    return tuple(
        CaseRecord(
            case_id=case_ids[row],
            patient_id=patients[row],
            reference=f"{path.name}#{row}",
            files=(path,),
            labels=labels[row],
            index=row,
            spacing_mm=(spacing, spacing) if spacing else None,
        )
        for row in range(count)
    )


def _check_lesions(path: Path, plan: Plan, shape: tuple[int, ...], *, volumes: bool) -> None:
    """Refuse masks of the lesions that do not lie on the images."""
    if plan.data.lesion is None or plan.data.lesion.column is None:
        return
    key = f"{plan.data.split}_{plan.data.lesion.column}"
    given = _planes(path, key, volumes).shape
    if given != shape:
        raise DataError(f"{path}: {key}: expected masks of the shape of the images, {shape}, got {given}")


def _patients(path: Path, split: str, case_ids: list[str]) -> list[str]:
    with _archive(path) as archive:
        names = archive.files
    if f"{split}_patients" not in names:
        return case_ids
    patients = [str(value) for value in read_array(path, f"{split}_patients").reshape(-1)]
    if len(patients) != len(case_ids):
        raise DataError(f"{path}: {split}_patients: expected {len(case_ids)} entries, got {len(patients)}")
    return patients


def _labels(array: npt.NDArray[Any], plan: Plan, where: str) -> list[tuple[float, ...]]:
    table = array[:, None] if array.ndim == 1 else array
    if table.ndim != 2:
        raise DataError(f"{where}: expected shape (N, findings) or (N,), got {array.shape}")
    columns = [_column_index(name, plan, table.shape[1], where) for name in plan.model.names]
    if np.issubdtype(table.dtype, np.number) and table.size and table.shape[1] == 1 and np.nanmax(table) > 1:
        raise DataError(
            f"{where}: expected labels 1, 0, -1 or NaN, got class codes up to {np.nanmax(table):g}",
            hint=f"Store one column of 1 and 0 per finding: {', '.join(plan.model.names)}.",
        )
    return [tuple(_label(table[row, c], plan, f"{where}[{row}, {c}]") for c in columns) for row in range(len(table))]


def _column_index(finding: str, plan: Plan, width: int, where: str) -> int:
    names = plan.model.names
    if finding not in plan.data.findings:
        if width != len(names):
            raise DataError(
                f"{where}: expected one column per finding ({len(names)}), got {width}",
                hint='Name the column of each finding: findings = { pneumonia = "0" }.',
            )
        return names.index(finding)
    text = plan.data.findings[finding]
    if not text.isdecimal() or int(text) >= width:
        raise DataError(f"{where}: data.findings.{finding}: expected a column number below {width}, got {text!r}")
    return int(text)


def _label(value: object, plan: Plan, where: str) -> float:
    try:
        return parse_number_label(value, plan.data.uncertain)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: expected 1, 0, -1 or NaN, got {value!r}") from error
