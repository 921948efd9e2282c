"""The lines of [data] and [data.metadata] of a first plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from robustbench_rad.init_columns import MOST_VALUES, Columns, role_of
from robustbench_rad.init_data import DataLook
from robustbench_rad.init_images import ImagesLook
from robustbench_rad.init_text import Entry, Note, decide, guessed, listed, place, seen

LEAST_SIDE_FOR_HULL = 64
BODIES = ("CR", "DX", "CT", "MR")
ATTRIBUTE_ROLES = (
    ("Manufacturer", "nuisance"),
    ("ManufacturerModelName", "nuisance"),
    ("DetectorType", "nuisance"),
    ("KVP", "nuisance"),
    ("ConvolutionKernel", "nuisance"),
    ("SliceThickness", "nuisance"),
    ("MagneticFieldStrength", "nuisance"),
    ("ViewPosition", "risk_factor"),
    ("PatientSex", "demographic"),
    ("PatientAge", "demographic"),
)


def data_entries(data: DataLook, base: Path, findings: Sequence[str]) -> Iterator[Entry]:
    """Lines of [data]."""
    yield from _files(data, base)
    if data.columns:
        yield from _identity(data.columns, data.source)
    elif data.source == "dicom":
        yield Entry(note=_FROM_HEADERS)
    else:
        yield Entry(note=decide("the archive names no patients: each image counts as a patient of its own"))
    yield from _pictures(data)
    yield Entry(
        key="role", value="internal", note=decide("internal | external | temporal, compared with the training data")
    )
    yield from _masks(data, base)
    yield from _rates(findings)


def _files(data: DataLook, base: Path) -> Iterator[Entry]:
    yield Entry(key="source", value=data.source, note=seen(f"{data.images.kind} images") if data.columns else None)
    if data.manifest:
        yield Entry(key="manifest", value=place(data.manifest, base), note=data.manifest_note)
    else:
        note = decide("a CSV with SOPInstanceUID and one column of 1 and 0 per finding; none was seen")
        yield Entry(key="manifest", value="labels.csv", note=note)
    if data.split:
        yield Entry(key="split", value=data.split, note=data.split_note)
    if data.root:
        note = seen("the DICOM files are below" if data.source == "dicom" else "the paths are relative to it")
        yield Entry(key="root", value=place(data.root, base), note=note)


_FROM_HEADERS = seen("no column names patients; they are taken from PatientID in the files")


def _identity(columns: Columns, source: str) -> Iterator[Entry]:
    if columns.image:
        found = f"{len(columns.images)} of {columns.tried} paths tried exist"
        yield Entry(key="image", value=columns.image, note=seen(found))
    if columns.case:
        yield Entry(key="case", value=columns.case, note=guessed("unique in every row; the images are not"))
    if columns.patient:
        count = len(columns.values[columns.patient])
        yield Entry(key="patient", value=columns.patient, note=seen(f"{count} patients"))
    elif source == "manifest":
        none = "no column named like it; without one each image counts as a patient of its own"
        yield Entry(key="patient", value="patient_id", note=decide(none), active=False)
    else:
        yield Entry(note=_FROM_HEADERS)
    if columns.uncertain:
        where = decide(f"unknown | positive | negative: what -1 means in {listed(columns.uncertain)}")
        yield Entry(key="uncertain", value="unknown", note=where)
    if columns.odd_labels:
        yield Entry(note=seen(f"named like labels, but not of 1, 0, -1 and empty: {listed(columns.odd_labels)}"))


def _pictures(data: DataLook) -> Iterator[Entry]:
    images = data.images
    modality, note = images.modality
    yield Entry(key="modality", value=modality, note=note)
    bits, bits_note = images.bits
    yield Entry(key="stored_bits", value=bits or 16, note=bits_note, active=bits is not None)
    yield Entry(note=seen(f"sizes of {len(images.looks)} images looked at: {images.size_text()}"))
    if images.failures:
        yield Entry(note=seen(f"{len(images.failures)} could not be read: {images.failures[0]}"))
    if data.columns and data.columns.spacing:
        note = decide("only if it is the spacing of these files in mm, not of the originals before resizing")
        yield Entry(key="spacing_mm", value=data.columns.spacing, note=note, active=False)


def _masks(data: DataLook, base: Path) -> Iterator[Entry]:
    columns, images = data.columns, data.images
    smallest = min((min(look.shape) for look in images.looks if look.shape), default=0)
    if columns and columns.mask:
        note = guessed("by its name: masks of the anatomy, not of lesions")
        yield Entry(key="anatomy", value={"column": columns.mask}, note=note)
    else:
        hull = images.modality[0] in BODIES and smallest >= LEAST_SIDE_FOR_HULL
        yield Entry(
            key="anatomy",
            value={"provider": "hull"},
            note=_HULL if hull else _NO_HULL,
            active=hull,
        )
    if columns and columns.lesion:
        yield Entry(key="lesion", value={"column": columns.lesion}, note=guessed("by the name of the column"))
    elif data.boxes:
        note = seen("boxes; take the # away if they bound lesions")
        yield Entry(key="lesion", value={"boxes": place(data.boxes, base)}, note=note, active=False)


_HULL = guessed("no masks seen; the outline of the body stands in")
_NO_HULL = decide("no masks seen, and the outline of the body says little here")


def _rates(findings: Sequence[str]) -> Iterator[Entry]:
    first = next(iter(findings), "finding")
    yield Entry(
        key="prevalence",
        value={first: 0.03},
        note=decide("where the model will work; for predictive values"),
        active=False,
    )
    yield Entry(
        key="cost",
        value={first: {"miss": 20.0, "false_alarm": 1.0}},
        note=decide("how much worse a miss is than a false alarm"),
        active=False,
    )


def metadata_entries(data: DataLook) -> Iterator[Entry]:
    """Suggested roles, one column a line."""
    columns = data.columns
    for name, role in (columns.roles if columns else {}).items():
        copied = columns.copies.get(name) if columns else None
        note = _values_note(columns.values[name] if columns else ()) if copied is None else decide(_copy(copied))
        yield Entry(key=name, value=role, note=note)
    if data.source == "dicom":
        yield from _attributes(data.images, taken=columns.values if columns else {})
    if columns and columns.others:
        counted = [f"{name} ({len(columns.values[name])} values)" for name in columns.others]
        yield Entry(note=decide(f"no role by name: {listed(counted, 20)}; nuisance | risk_factor | demographic"))
    yield from _copies(columns) if columns else ()
    crowded = [name for name, values in columns.values.items() if _crowded(name, values)] if columns else []
    if crowded:
        yield Entry(note=decide(f"too many values to compare, put them into bands: {listed(crowded)}"))


def _values_note(values: tuple[str, ...]) -> Note:
    return guessed(f"{len(values)} values: {listed(values, 5)}")


def _copies(columns: Columns) -> Iterator[Entry]:
    """Columns that are copies of a label, and whose role no one can tell."""
    for label in dict.fromkeys(columns.copies.values()):
        names = [name for name, own in columns.copies.items() if own == label and name not in columns.roles]
        if names:
            yield Entry(note=decide(f"{listed(names)}: {_copy(label)}"))


def _copy(label: str) -> str:
    """What is said of a column that no audit of these cases can tell from a label."""
    return (
        f"goes with {label} in every row, value by value: leave it out if it was written from the label; else these cases "
        "cannot tell the two apart"
    )


def _crowded(name: str, values: tuple[str, ...]) -> bool:
    return len(values) > MOST_VALUES and role_of(name) is not None


def _attributes(images: ImagesLook, *, taken: Mapping[str, object]) -> Iterator[Entry]:
    """Whitelisted attributes that differ between the files looked at."""
    for name, role in ATTRIBUTE_ROLES:
        values = tuple(sorted({dict(look.attributes).get(name, "") for look in images.looks} - {""}))
        if 2 <= len(values) <= MOST_VALUES and name not in taken:
            yield Entry(key=name, value=role, note=_values_note(values))
