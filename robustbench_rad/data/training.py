"""The training manifest: which cases of the test set have their patient, or their very image, on the training side."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from robustbench_rad.cases import read_cases
from robustbench_rad.data.files import file_sha256
from robustbench_rad.data.labels import TextTable, read_table, some
from robustbench_rad.errors import DataError
from robustbench_rad.plan import Plan

PATIENTS, IMAGES = "patient of data.training_manifest", "image of data.training_manifest"


@dataclass(frozen=True, kw_only=True)
class TrainingOverlap:
    """What the test set shares with the training set.

    Attributes:
        patients: Case ids of the test set whose patient is in training.
        images: Case ids whose image file is in training, byte by byte; None when no column of images is declared.
        sha256: Of the training manifest.
    """

    patients: frozenset[str]
    images: frozenset[str] | None
    sha256: str


def training_overlap(plan: Plan) -> TrainingOverlap | None:
    """Compare the plan's test set with its training manifest; None when there is none.

    Patients are compared by salted hashes of their ids, written alike on both sides. Images by the SHA-256 of their files;
    only training files of the size of a test file are read.

    Raises:
        DataError: The manifest or a column is missing, a patient is not named, or a training image is not there.
    """
    table = training_table(plan)
    if table is None:
        return None
    cases, column = read_cases(plan), _column(plan)
    salt = secrets.token_bytes(16)
    trained = {_salted(salt, name) for name in table.filled(column, what=PATIENTS)}
    shared = {record.case_id for record in cases.records if _salted(salt, record.patient_id) in trained}
    images = None
    if plan.data.training_image is not None:
        files = {record.case_id: record.files for record in cases.records}
        copies = _copies({file for own in files.values() for file in own}, _training_files(table, plan))
        images = frozenset(case for case, own in files.items() if own and all(file in copies for file in own))
    return TrainingOverlap(patients=frozenset(shared), images=images, sha256=file_sha256(table.path))


def training_table(plan: Plan) -> TextTable | None:
    """The training manifest, with the columns that the plan names; None when the plan has none.

    Raises:
        DataError: The manifest or a column is missing, or a patient or an image is not named.
    """
    if plan.data.training_manifest is None:
        return None
    path = plan.path(plan.data.training_manifest)
    if not path.is_file():
        raise DataError(
            f"data.training_manifest: {path.name}: no such file",
            hint="One row per training case, with its patient; the path is taken relative to the plan, or to --root.",
        )
    table = read_table(path)
    table.filled(_column(plan), what=PATIENTS)
    if plan.data.training_image is not None:
        table.filled(plan.data.training_image, what=IMAGES)
    return table


def _column(plan: Plan) -> str:
    """Of the patients."""
    return plan.data.training_patient or plan.data.patient or ""


def _salted(salt: bytes, name: str) -> bytes:
    return hashlib.sha256(salt + name.encode()).digest()


def _training_files(table: TextTable, plan: Plan) -> list[Path]:
    """Files of the training images, beside the training manifest.

    Raises:
        DataError: Some are not there.
    """
    names = table.filled(plan.data.training_image or "", what=IMAGES)
    files = [table.path.parent / name for name in names]
    missing = [str(line) for line, file in zip(table.lines, files, strict=True) if not file.is_file()]
    if missing:
        raise DataError(
            f"{table.path}, column {plan.data.training_image!r}: {len(missing)} image files are not there, in line "
            f"{some(missing)}",
            hint="Paths are relative to the training manifest. Without the images leave data.training_image out.",
        )
    return files


def _copies(test: Iterable[Path], training: Iterable[Path]) -> set[Path]:
    """Test files of which training has a copy."""
    sizes: dict[int, list[Path]] = {}
    for file in test:
        sizes.setdefault(os.path.getsize(file), []).append(file)
    known = {file_sha256(file) for file in training if os.path.getsize(file) in sizes}
    return {file for group in sizes.values() for file in group if known and file_sha256(file) in known}
