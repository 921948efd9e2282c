"""What the columns of a manifest are: image, mask, patient, labels, metadata. Judged by values first, then by names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from robustbench_rad.data.labels import TextTable, parse_label
from robustbench_rad.init_text import Note, guessed, seen
from robustbench_rad.plan import Role

Item = TypeVar("Item")

ROWS_TRIED = 64
MOST_FOLDERS = 20
MOST_VALUES = 20
LEAST_ROWS_OF_A_COPY = 10  # in fewer, a column of two values goes with a label by chance

IMAGE_WORDS = frozenset({"image", "img", "path", "file", "filename", "filepath", "dicom", "volume", "scan"})
MASK_WORDS = frozenset({"mask", "masks", "lung", "lungs", "seg", "segmentation", "anatomy", "roi"})
LESION_WORDS = frozenset({"lesion", "lesions", "tumor", "tumour"})
PATIENT_WORDS = frozenset({"patient", "patientid", "subject", "mrn", "pid"})
CASE_NAMES = ("case", "case_id", "caseid", "image_id", "imageid", "sopinstanceuid", "uid", "id")
UID_COLUMNS = ("SOPInstanceUID", "SeriesInstanceUID")
ROLE_WORDS: Mapping[Role, frozenset[str]] = {
    "risk_factor": frozenset(
        {"view", "projection", "portable", "bedside", "ward", "icu", "inpatient", "support", "tube", "drain"}
        | {"position", "laterality", "emergency", "admission"}
    ),
    "nuisance": frozenset(
        {"scanner", "device", "manufacturer", "vendor", "model", "site", "hospital", "institution", "centre", "center"}
        | {"kernel", "kvp", "kv", "detector", "machine", "station", "protocol", "thickness", "grid", "software"}
    ),
    "demographic": frozenset({"sex", "gender", "age", "ethnicity", "race"}),
}
LABEL_PREFIX = re.compile(r"(?:labels?|lbl|gt|target)[_\-. ]+(?=.)", re.IGNORECASE)
LABEL_NAMES = frozenset({"label", "target", "y", "gt", "positive", "diagnosis", "outcome", "ground_truth"})
FINDING_WORDS = frozenset(
    {"abnormal", "abscess", "aneurysm", "atelectasis", "bleed", "calcification", "cancer", "cardiomegaly"}
    | {"consolidation", "covid", "covid19", "edema", "oedema", "effusion", "embolism", "emphysema", "enlarged"}
    | {"fibrosis", "finding", "fracture", "haemorrhage", "hemorrhage", "hernia", "infarct", "infiltration"}
    | {"lesion", "malignant", "mass", "metastasis", "nodule", "normal", "opacity", "pleural", "pneumonia"}
    | {"pneumothorax", "stenosis", "stroke", "tb", "thickening", "tuberculosis", "tumor", "tumour"}
)
NEVER_LABELS = frozenset({"fold", "split", "train", "test", "val", "follow", "followup", "index", "row", "id"})


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each column is.

    Attributes:
        root: Folder that the paths are relative to.
        image: Column of image files; None: there is none.
        images: Files that it names, of the rows tried.
        tried: Rows tried.
        case: Column of unique case names.
        patient: Column of patients.
        labels: Finding to column.
        labels_note: Why these are labels.
        odd_labels: Columns named like labels that hold something else.
        uncertain: Label columns that hold -1.
        mask: Column of anatomy masks.
        lesion: Column of lesion masks.
        roles: Metadata column to suggested role.
        values: Distinct values of each column, empty ones left out.
        spacing: Column of pixel spacing.
        others: Columns of 2 to 20 values whose role no one can tell.
        copies: Metadata column to the label column that it goes with, value by value, in every row.
    """

    root: Path
    image: str | None
    images: tuple[Path, ...] = ()
    tried: int = 0
    case: str | None = None
    patient: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    labels_note: Note | None = None
    odd_labels: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    mask: str | None = None
    lesion: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spacing: str | None = None
    others: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)


def words(name: str) -> frozenset[str]:
    """Words of a column name in lower case, and the whole name.

    >>> sorted(words("ViewPosition")), sorted(words("KVP"))
    (['position', 'view', 'viewposition'], ['kvp'])
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+", name)
    return frozenset(part.lower() for part in [*parts, name])


def role_of(name: str) -> Role | None:
    """Suggest a role for a metadata column by its name."""
    return next((role for role, known in ROLE_WORDS.items() if words(name) & known), None)


def look_at_columns(table: TextTable, folders: Sequence[Path] = ()) -> Columns:
    """Tell what each column of a manifest is.

    Args:
        table: The manifest.
        folders: Further folders that image paths may be relative to.
    """
    cells = {name: table.column(name, what=name) for name in table.columns}
    values = {name: tuple(sorted(set(column) - {""})) for name, column in cells.items()}
    root, files = _file_columns(cells, _roots(table.path.parent, folders))
    image = _image_column(files, values)
    taken = {name for name in files if name != image}
    mask = next((name for name in taken if words(name) & MASK_WORDS and not words(name) & LESION_WORDS), None)
    lesion = next((name for name in taken if words(name) & LESION_WORDS), None)
    labels, note = _labels(cells, values)
    left = [name for name in cells if name not in files and name not in labels.values()]
    patient = next((name for name in left if _is_patient(name) and "" not in cells[name]), None)
    case = _case_column(cells, left, files.get(image or "", ()), cells.get(image or "", []))
    spacing = next((name for name in left if "spacing" in words(name) and _numbers(values[name])), None)
    metadata = [name for name in left if name not in (patient, case, spacing) and 2 <= len(values[name]) <= MOST_VALUES]
    roles = {name: role for name in metadata if (role := role_of(name)) is not None}
    copies = {name: label for name in metadata for label in labels.values() if one_to_one(cells[name], cells[label])}
    return Columns(
        root=root,
        image=image,
        images=files.get(image or "", ()),
        tried=len(spread(table.rows, ROWS_TRIED)),
        case=case,
        patient=patient,
        labels=labels,
        labels_note=note,
        odd_labels=tuple(n for n in left if LABEL_PREFIX.match(n) and not is_label(values[n])),
        uncertain=tuple(n for n in labels.values() if {"-1", "-1.0"} & set(values[n])),
        mask=mask,
        lesion=lesion,
        roles=roles,
        values=values,
        spacing=spacing,
        others=tuple(name for name in metadata if name not in roles and name not in copies),
        copies=copies,
    )


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` items, evenly spaced."""
    step = max(1, -(-len(items) // most))
    return list(items[::step])


def _roots(folder: Path, others: Iterable[Path]) -> list[Path]:
    below = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return list(dict.fromkeys([folder, *others, *below[:MOST_FOLDERS]]))


def _file_columns(cells: Mapping[str, list[str]], roots: Sequence[Path]) -> tuple[Path, dict[str, tuple[Path, ...]]]:
    """The folder below which most paths exist, and the columns that name files there."""
    best: tuple[Path, dict[str, tuple[Path, ...]]] = (roots[0], {})
    for root in roots:
        found = {name: files for name, column in cells.items() if (files := _files(root, column))}
        if sum(map(len, found.values())) > sum(map(len, best[1].values())):
            best = (root, found)
    return best


def _files(root: Path, column: Sequence[str]) -> tuple[Path, ...]:
    given = [cell for cell in spread(column, ROWS_TRIED) if cell and "\0" not in cell]
    found = tuple(root / cell for cell in given if os.path.isfile(root / cell))
    return found if 2 * len(found) >= len(given) else ()


def _image_column(files: Mapping[str, tuple[Path, ...]], values: Mapping[str, tuple[str, ...]]) -> str | None:
    free = [name for name in files if not words(name) & (MASK_WORDS | LESION_WORDS)]
    ranked = sorted(free, key=lambda name: (not words(name) & IMAGE_WORDS, -len(values[name])))
    return ranked[0] if ranked else None


def _is_patient(name: str) -> bool:
    """Whether a column names patients; "patient_age" does not."""
    return bool(words(name) & PATIENT_WORDS) and role_of(name) is None


def _case_column(
    cells: Mapping[str, list[str]], left: Sequence[str], files: Sequence[Path], images: Sequence[str]
) -> str | None:
    """A column of unique names; only looked for where the image itself does not name the case."""
    if files and len(set(images)) == len(images):
        return None
    unique = [name for name in left if "" not in cells[name] and len(set(cells[name])) == len(cells[name])]
    return next((name for name in unique if name.lower() in CASE_NAMES), None)


def is_label(values: Sequence[str]) -> bool:
    """Whether all values of a column are labels, at least one of them given."""
    try:
        return bool([parse_label(value, "unknown") for value in values])
    except ValueError:
        return False


def one_to_one(column: Sequence[str], label: Sequence[str]) -> bool:
    """Whether each value of a column stands beside one value of a label and the other way round, where both are given.

    >>> one_to_one(["yes", "no"] * 5, ["1", "0"] * 5), one_to_one(["yes", "no"] * 5, ["1", "0"] * 4 + ["0", "1"])
    (True, False)
    """
    rows = [pair for pair in zip(column, label, strict=True) if all(pair)]
    pairs = set(rows)
    sides = [len({pair[side] for pair in pairs}) for side in (0, 1)]
    return len(rows) >= LEAST_ROWS_OF_A_COPY and sides == [len(pairs)] * 2 and len(pairs) > 1


def _labels(
    cells: Mapping[str, list[str]], values: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, str], Note | None]:
    """Findings and their columns: those named label_*, else known findings, else any column of 0 and 1."""
    binary = [name for name in cells if is_label(values[name])]
    prefixed = {LABEL_PREFIX.sub("", name, count=1): name for name in binary if LABEL_PREFIX.match(name)}
    if prefixed:
        return prefixed, seen("label columns by name and values")
    known = [name for name in binary if name.lower() in LABEL_NAMES or words(name) & FINDING_WORDS]
    if known:
        return {name: name for name in known}, seen("1, 0, -1 and empty only, and named like findings")
    both = [name for name in binary if {"0", "1"} <= {value.removesuffix(".0") for value in values[name]}]
    rest = [name for name in both if not role_of(name) and not _is_patient(name) and not words(name) & NEVER_LABELS]
    return {name: name for name in rest}, guessed("columns of 1 and 0 with no other meaning by name") if rest else None


def _numbers(values: Sequence[str]) -> bool:
    try:
        return bool(values) and all(0 < float(value) < 100 for value in values)
    except ValueError:
        return False
