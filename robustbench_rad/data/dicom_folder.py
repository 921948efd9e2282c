"""A DICOM folder without a manifest: whitelisted attributes become metadata, labels come from a CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_rad.cases import CaseRecord
from robustbench_rad.data.dicom_attributes import WHITELIST, whitelisted
from robustbench_rad.data.files import FileReader
from robustbench_rad.data.images import ReadOptions, decoding
from robustbench_rad.data.labels import TextTable, read_table, refuse_duplicates, some
from robustbench_rad.data.manifest import check_readers, label_rows, mask_columns, spacing_column, tissue_column
from robustbench_rad.data.sources import Source
from robustbench_rad.errors import DataError, ImageError, suggestion
from robustbench_rad.plan import Plan

NOT_AN_IMAGE = "file is not a DICOM image"
NO_LABEL = "no row in the label file"
IDENTIFIERS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")
HEADER = [*IDENTIFIERS, "Rows", *WHITELIST]


@dataclass(frozen=True, kw_only=True)
class Found:
    """One case of the folder: a file, or for volumes the files of a series."""

    uid: str
    patient: str
    files: tuple[Path, ...]
    attributes: Mapping[str, str]


def read_folder(plan: Plan, options: ReadOptions) -> Source:
    """Scan the plan's folder and join it with the label file.

    Raises:
        DataError: No folder, no DICOM image in it, no label file, or rows of it without a file.
    """
    root = plan.path(plan.data.root or "")
    table = _label_table(plan)
    found, others = scan(root, volumes=options.volumes, leave=table.path)
    rows = _join(table, found, root, plan, volumes=options.volumes)
    records = _records(table, rows, root, plan)
    excluded = {NOT_AN_IMAGE: others, NO_LABEL: len(found) - len(rows)}
    return Source(
        records=records,
        reader=FileReader(options=options),
        excluded={reason: count for reason, count in excluded.items() if count},
    )


def _label_table(plan: Plan) -> TextTable:
    if plan.data.manifest is None:
        raise DataError(
            "a DICOM folder holds no labels: data.manifest is missing",
            hint="Name a CSV with the columns SOPInstanceUID (or SeriesInstanceUID, or a path) and one per finding: "
            'manifest = "labels.csv".',
        )
    return read_table(plan.path(plan.data.manifest))


def scan(root: Path, *, volumes: bool, leave: Path | None = None) -> tuple[list[Found], int]:
    """Find the cases below a folder, in the order of their paths.

    Args:
        root: The folder.
        volumes: Group files by SeriesInstanceUID.
        leave: A file that is known to be something else.

    Returns:
        The cases and the number of other files.

    Raises:
        DataError: No such folder, nothing in it, or one SOPInstanceUID in two files.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="Check data.root and --root.")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path != leave]
    headers = {path: header for path in files if (header := _header(path))}
    if not headers:
        raise DataError(f"{root}: expected DICOM images, got {len(files)} files of which none is one")
    names = [header["SOPInstanceUID"] for header in headers.values()]
    refuse_duplicates(names, f"{root}: SOPInstanceUID")
    key = "SeriesInstanceUID" if volumes else "SOPInstanceUID"
    groups: dict[str, list[Path]] = {}
    for path, header in headers.items():
        groups.setdefault(header[key], []).append(path)
    return [_found(uid, paths, headers[paths[0]]) for uid, paths in groups.items()], len(files) - len(headers)


def _found(uid: str, paths: Sequence[Path], header: Mapping[str, str]) -> Found:
    patient = header["PatientID"] or header["StudyInstanceUID"] or uid
    attributes = {name: header[name] for name in WHITELIST}
    return Found(uid=uid, patient=patient, files=tuple(paths), attributes=attributes)


def _header(path: Path) -> dict[str, str] | None:
    """Identifiers and whitelisted attributes of an image; None for any other file."""
    from pydicom import dcmread

    try:
        with decoding(str(path)):
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=HEADER)
            header = {name: str(dataset.get(name, "") or "").strip() for name in IDENTIFIERS}
            is_image = bool(header["SOPInstanceUID"]) and dataset.get("Rows") is not None
            return {**header, **whitelisted(dataset)} if is_image else None
    except ImageError:
        return None


def _join(
    table: TextTable, found: Sequence[Found], root: Path, plan: Plan, *, volumes: bool
) -> list[tuple[int, Found]]:
    """Pair rows of the label file with cases, by UID or by path relative to the folder.

    Raises:
        DataError: A row matches no case, or two rows match one.
    """
    column = _key_column(table, plan, volumes=volumes)
    known = {**_by_path(found, root), **{case.uid: case for case in found}}
    keys = table.filled(column, what="UID or path of the case")
    matches = [known.get(key) or known.get(Path(key).as_posix()) for key in keys]
    lost = [f"{key!r} (line {line})" for key, line, case in zip(keys, table.lines, matches, strict=True) if not case]
    if lost:
        raise DataError(
            f"{table.path}, column {column!r}: {len(lost)} of {len(keys)} rows match no DICOM image below {root}: "
            f"{some(lost)}",
            hint="Use SOPInstanceUID (SeriesInstanceUID for volumes) or paths relative to data.root.",
        )
    pairs = [(row, case) for row, case in enumerate(matches) if case is not None]
    refuse_duplicates((case.uid for _, case in pairs), f"{table.path}, column {column!r}")
    return pairs


def _key_column(table: TextTable, plan: Plan, *, volumes: bool) -> str:
    if plan.data.case is not None:
        return plan.data.case
    usual = ["SeriesInstanceUID" if volumes else "SOPInstanceUID", plan.data.image]
    return next((name for name in usual if name in table.columns), usual[0])


def _by_path(found: Sequence[Found], root: Path) -> dict[str, Found]:
    """Cases by path of each of their files, and by folder where a folder holds one case only."""
    paths: dict[str, Found] = {}
    folders: dict[str, set[str]] = {}
    for case in found:
        for path in case.files:
            relative = path.relative_to(root)
            paths[relative.as_posix()] = case
            folders.setdefault(relative.parent.as_posix(), set()).add(case.uid)
    owners = {case.uid: case for case in found}
    return {**{folder: owners[next(iter(uids))] for folder, uids in folders.items() if len(uids) == 1}, **paths}


def _records(table: TextTable, rows: Sequence[tuple[int, Found]], root: Path, plan: Plan) -> tuple[CaseRecord, ...]:
    labels, spacing = label_rows(table, plan), spacing_column(table, plan)
    anatomy, lesion = mask_columns(table, plan, root)
    tissue = tissue_column(table, plan, root)
    patients = _patients(table, plan)
    check_readers(table, plan)
    columns = {name: _metadata_column(table, name) for name in plan.data.columns}
    return tuple(
        CaseRecord(
            case_id=case.uid,
            patient_id=patients[row] if patients else case.patient,
            reference=case.files[0].relative_to(root).as_posix() if len(case.files) == 1 else case.uid,
            files=case.files,
            labels=labels[row],
            metadata={name: cells[row] if cells else case.attributes[name] for name, cells in columns.items()},
            anatomy=anatomy[row],
            lesion=lesion[row],
            tissue=tissue[row],
            spacing_mm=spacing[row],
        )
        for row, case in rows
    )


def _patients(table: TextTable, plan: Plan) -> list[str] | None:
    """Patients from the label file, or None: from the files."""
    name = plan.data.patient
    if name is None or (name == "PatientID" and name not in table.columns):
        return None
    return table.filled(name, what="patient")


def _metadata_column(table: TextTable, name: str) -> list[str] | None:
    """A metadata column of the label file, or None: a whitelisted attribute of the files."""
    if name in table.columns:
        return table.column(name, what="metadata")
    if name not in WHITELIST:
        raise DataError(
            f"data.metadata: {name!r} is neither a column of {table.path} nor a whitelisted DICOM attribute",
            hint=suggestion(name, [*table.columns, *WHITELIST]),
        )
    return None
