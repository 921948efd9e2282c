"""A manifest: one row per case, with the path of its image, its labels and what else is known."""

from __future__ import annotations

import os
from pathlib import Path

from robustbench_rad.cases import CaseRecord, TissueFile
from robustbench_rad.data.labels import TextTable, parse_column, read_table, refuse_duplicates, some
from robustbench_rad.errors import DataError
from robustbench_rad.plan import Plan


def read_manifest(plan: Plan, *, volumes: bool) -> tuple[CaseRecord, ...]:
    """Read the plan's manifest.

    Raises:
        DataError: A column, a label, a file or the uniqueness of the case ids is not as declared.
    """
    data = plan.data
    path = plan.path(data.manifest or "")
    table = read_table(path)
    root = plan.path(data.root) if data.root else path.parent
    images = table.filled(data.image, what="image file")
    case_ids = table.filled(data.case, what="case id") if data.case else images
    refuse_duplicates(case_ids, f"{path}, column {data.case or data.image!r}")
    patients = table.filled(data.patient, what="patient") if data.patient else case_ids
    files = [_files(root, image, volumes=volumes) for image in images]
    _refuse_missing(table, images, [bool(entry) for entry in files], root, data.image)
    labels = label_rows(table, plan)
    metadata = metadata_rows(table, plan)
    anatomy, lesion = mask_columns(table, plan, root)
    tissue = tissue_column(table, plan, root)
    spacing = spacing_column(table, plan)
    return tuple(
        CaseRecord(
            case_id=case_ids[row],
            patient_id=patients[row],
            reference=images[row],
            files=files[row],
            labels=labels[row],
            metadata=metadata[row],
            anatomy=anatomy[row],
            lesion=lesion[row],
            tissue=tissue[row],
            spacing_mm=spacing[row],
        )
        for row in range(len(table))
    )


def label_rows(table: TextTable, plan: Plan) -> list[tuple[float, ...]]:
    """Labels of every row, one per finding in the order of the plan."""
    columns = [
        parse_column(table, plan.data.findings.get(name, name), name, plan.data.uncertain) for name in plan.model.names
    ]
    return [tuple(row) for row in zip(*columns, strict=True)]


def check_readers(table: TextTable, plan: Plan) -> None:
    """Refuse a reader's column that holds anything but labels."""
    for finding, columns in plan.data.readers.items():
        for column in columns:
            parse_column(table, column, finding, plan.data.uncertain)


def metadata_rows(table: TextTable, plan: Plan) -> list[dict[str, str]]:
    """Declared metadata columns of every row, and the labels of single readers."""
    check_readers(table, plan)
    names = plan.data.columns
    columns = [table.column(name, what="metadata") for name in names]
    return [{name: column[row] for name, column in zip(names, columns, strict=True)} for row in range(len(table))]


def spacing_column(table: TextTable, plan: Plan) -> list[tuple[float, ...] | None]:
    """Pixel spacing in mm of every row, from a column or one number for all.

    Raises:
        DataError: A value that is not a positive number (names line, column and value), or declared for volumes.
    """
    declared = plan.data.spacing_mm
    if declared is not None and len(plan.model.input.size) == 3:
        raise DataError("data.spacing_mm: the spacing of volumes is read from their files; leave it out")
    if not isinstance(declared, str):
        return [(declared, declared) if declared else None] * len(table)
    cells = table.column(declared, what="pixel spacing in mm")
    return [_spacing(cell, table.path, line, declared) for line, cell in zip(table.lines, cells, strict=True)]


def _spacing(cell: str, path: Path, line: int, column: str) -> tuple[float, float] | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1000.0:
        raise DataError(f"{path}, line {line}, column {column!r}: expected a spacing in mm above 0, got {cell!r}")
    return (value, value)


def _files(root: Path, image: str, *, volumes: bool) -> tuple[Path, ...]:
    """The file of an image, or for volumes the files of a folder that holds one series; empty when missing."""
    path = root / image
    if os.path.isfile(path):
        return (path,)
    if volumes and os.path.isdir(path):
        return tuple(sorted(entry for entry in path.iterdir() if entry.is_file() and entry.name[0] != "."))
    return ()


def mask_columns(table: TextTable, plan: Plan, root: Path) -> tuple[list[Path | None], list[Path | None]]:
    """Mask files of the anatomy and of the lesions of every row; None where a cell is empty or no column is declared.

    Raises:
        DataError: Lists the files that are missing.
    """
    anatomy, lesion = plan.data.anatomy, plan.data.lesion
    return (
        _mask_column(table, anatomy.column if anatomy else None, root, what="anatomy mask"),
        _mask_column(table, lesion.column if lesion else None, root, what="lesion mask"),
    )


def tissue_column(table: TextTable, plan: Plan, root: Path) -> list[TissueFile | None]:
    """Maps of the tissues of every row; None where a cell is empty or no column is declared.

    Raises:
        DataError: Lists the files that are missing.
    """
    declared = plan.data.tissue
    paths = _mask_column(table, declared.column if declared else None, root, what="map of tissues")
    numbers = declared.numbers if declared else ()
    return [None if path is None else TissueFile(path=path, numbers=numbers) for path in paths]


def _mask_column(table: TextTable, column: str | None, root: Path, *, what: str) -> list[Path | None]:
    if column is None:
        return [None] * len(table)
    cells = table.column(column, what=what)
    masks = [root / cell if cell else None for cell in cells]
    found = [mask is None or os.path.isfile(mask) for mask in masks]
    _refuse_missing(table, cells, found, root, column)
    return masks


def _refuse_missing(table: TextTable, cells: list[str], found: list[bool], root: Path, column: str) -> None:
    missing = [f"{c!r} (line {line})" for c, line, ok in zip(cells, table.lines, found, strict=True) if not ok]
    if missing:
        raise DataError(
            f"{table.path}, column {column!r}: {len(missing)} of {len(cells)} files are missing below {root}: "
            f"{some(missing)}",
            hint="Paths are relative to data.root, or to the manifest's folder when data.root is not given.",
        )
