"""A look at the data: which source it is, and what its parts are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_rad.data.files import DICOM_SUFFIXES, NIFTI_SUFFIXES, is_dicom
from robustbench_rad.data.labels import TextTable, read_table
from robustbench_rad.data.raster import SUFFIXES as RASTER_SUFFIXES
from robustbench_rad.errors import DataError, MissingExtraError
from robustbench_rad.init_columns import UID_COLUMNS, Columns, look_at_columns
from robustbench_rad.init_images import ArrayHeader, ImagesLook, array_headers, look_at_array, look_at_images
from robustbench_rad.init_text import Note, guessed, listed, seen

TABLE_SUFFIXES = (".csv", ".parquet", ".pq")
IMAGE_SUFFIXES = (*RASTER_SUFFIXES, *NIFTI_SUFFIXES, *DICOM_SUFFIXES)
MOST_FILES = 20_000
MOST_TABLES = 20
BOX_COLUMNS = frozenset({"x", "y", "w", "h"})
USUAL_SPLIT = "test"


@dataclass(frozen=True, kw_only=True)
class DataLook:
    """What the data are.

    Attributes:
        source: manifest, dicom or npz.
        name: For the plan's title.
        manifest: Table or archive; None for a DICOM folder without one.
        manifest_note: How it was found.
        root: Folder that the paths in the manifest are relative to.
        columns: Columns of the table.
        images: A few of the images.
        labels: Finding to column.
        labels_note: How the labels are known.
        split: Of an archive.
        split_note: How it was chosen.
        boxes: A table of boxes beside the manifest.
    """

    source: str
    name: str
    images: ImagesLook
    manifest: Path | None = None
    manifest_note: Note | None = None
    root: Path | None = None
    columns: Columns | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    labels_note: Note | None = None
    split: str = ""
    split_note: Note | None = None
    boxes: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A table that may be the manifest."""

    table: TextTable
    columns: Columns

    @property
    def key(self) -> str | None:
        """The column that names images: a path, or the UID of a DICOM file."""
        return self.columns.image or next((name for name in UID_COLUMNS if name in self.table.columns), None)

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Order of candidates: images, then labels, then rows; boxes are never a manifest."""
        boxes = set(self.table.columns) >= BOX_COLUMNS
        return bool(self.key) and not boxes, bool(self.columns.labels), len(self.columns.labels), len(self.table)


def look_at_data(path: Path) -> DataLook:
    """Look at a folder, a manifest or an archive.

    Raises:
        DataError: Nothing usable; says what was looked for and what is there.
    """
    try:
        return _look(path)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be looked at: {error.strerror}", hint="Check who may read it."
        ) from error


def _look(path: Path) -> DataLook:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder", hint="Give a data folder, a manifest or an .npz archive.")
    if path.suffix.lower() in TABLE_SUFFIXES:
        candidate = _candidate(path, path.parent)
        if candidate.key is None:
            raise _no_images(candidate)
        return _from_table(candidate, path.parent, seen(f"{len(candidate.table)} cases"))
    if path.suffix.lower() == ".npz":
        return _from_archive(path)
    raise DataError(
        f"{path}: expected a folder, a manifest ({', '.join(TABLE_SUFFIXES)}) or an .npz archive",
        hint="For a single image, give its folder, with a manifest in it.",
    )


def _candidate(path: Path, folder: Path) -> Candidate:
    table = read_table(path)
    return Candidate(table=table, columns=look_at_columns(table, [folder]))


def _no_images(candidate: Candidate) -> DataError:
    return DataError(
        f"{candidate.table.path}: expected a column of paths to existing images, or a column "
        f"{' or '.join(UID_COLUMNS)}; the columns are: {listed(candidate.table.columns, 20)}",
        hint="Paths are tried from the manifest's folder and the folders in it. Name one per case in a column image.",
    )


def _folder(folder: Path) -> DataLook:
    candidates, problems = _candidates(folder)
    usable = sorted((c for c in candidates if c.rank[0]), key=lambda candidate: candidate.rank, reverse=True)
    files = _files(folder)
    if usable and (usable[0].columns.image or any(map(is_dicom, _dicom_first(files)))):
        best, *others = usable
        text = f"{len(best.table)} cases"
        note = seen(text) if not others else guessed(f"{text}; also usable: {_named(others, folder)}")
        look = _from_table(best, folder, note)
        return _with_boxes(look, candidates)
    dicom = [path for path in _dicom_first(files) if is_dicom(path)]
    if dicom:
        return DataLook(source="dicom", name=_name(folder), images=look_at_images(dicom), root=folder)
    archives = [path for path in files if path.suffix.lower() == ".npz" and path.parent == folder]
    if len(archives) == 1:
        return _from_archive(archives[0])
    raise _nothing(folder, files, archives, [*problems, *(_no_images(c).message for c in candidates)])


def _named(candidates: Sequence[Candidate], folder: Path) -> str:
    return listed([candidate.table.path.relative_to(folder).as_posix() for candidate in candidates])


def _name(path: Path) -> str:
    return path.resolve().name if path.name in ("", "..") else path.name


def _candidates(folder: Path) -> tuple[list[Candidate], list[str]]:
    """Tables in the folder, else those one folder deeper; and why others cannot be read."""
    found: list[Candidate] = []
    problems: list[str] = []
    for paths in (_tables(folder.glob("*")), _tables(folder.glob("*/*"))):
        for path in paths[:MOST_TABLES]:
            try:
                found.append(_candidate(path, folder))
            except (DataError, MissingExtraError) as error:
                problems.append(error.message)
        if any(candidate.rank[0] for candidate in found):
            break
    return found, problems


def _tables(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())


def _files(folder: Path) -> list[Path]:
    """Files below a folder, hidden ones left out; at most ``MOST_FILES``."""
    found: list[Path] = []
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            found.append(path)
        if len(found) >= MOST_FILES:
            break
    return sorted(found)


def _dicom_first(files: Sequence[Path]) -> list[Path]:
    """Files that may be DICOM: by suffix, else without any suffix that says otherwise."""
    named = [path for path in files if path.name.lower().endswith(DICOM_SUFFIXES)]
    other = (*TABLE_SUFFIXES, *RASTER_SUFFIXES, *NIFTI_SUFFIXES, ".npz", ".toml", ".txt", ".json", ".md")
    return named or [path for path in files if not path.name.lower().endswith(other)]


def _nothing(folder: Path, files: Sequence[Path], archives: Sequence[Path], problems: Sequence[str]) -> DataError:
    images = [path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)]
    groups = sorted({path.parent.relative_to(folder).as_posix() for path in images})
    there = f"{len(images)} images in {listed(groups)}" if images else f"{len(files)} files, none of them an image"
    hint = "Give the folder that holds them, or the manifest itself."
    if archives:
        there, hint = f"the archives {listed([path.name for path in archives])}", "Give one of them."
    elif images:
        hint = "Write a CSV with one row per image and the columns image, patient_id and one of 1 and 0 per finding."
    said = "".join(f"\n  {problem}" for problem in problems[:MOST_TABLES])
    return DataError(
        f"{folder}: nothing usable. Looked for a manifest ({', '.join(TABLE_SUFFIXES)}) with a column of paths to images, "
        f"here and one folder deeper, for DICOM files, and for one .npz archive; there are {there}{said}",
        hint=hint,
    )


def _from_table(candidate: Candidate, folder: Path, note: Note) -> DataLook:
    path, columns = candidate.table.path, candidate.columns
    files: Sequence[Path] = columns.images or [file for file in _dicom_first(_files(folder)) if is_dicom(file)]
    images = look_at_images(files)
    is_folder = images.kind == "dicom"
    return DataLook(
        source="dicom" if is_folder else "manifest",
        name=_name(path.parent) if path.stem.lower() in ("manifest", "labels", "test", "cases") else path.stem,
        manifest=path,
        manifest_note=note,
        root=(columns.root if columns.image else folder) if is_folder or columns.root != path.parent else None,
        columns=columns,
        images=images,
        labels=columns.labels,
        labels_note=columns.labels_note,
    )


def _with_boxes(look: DataLook, candidates: Sequence[Candidate]) -> DataLook:
    boxes = [c.table.path for c in candidates if set(c.table.columns) >= BOX_COLUMNS and c.columns.image]
    beside = [path for path in boxes if look.manifest and path.parent == look.manifest.parent]
    return DataLook(**{**vars(look), "boxes": beside[0]}) if beside else look


def _from_archive(path: Path) -> DataLook:
    """Look into an archive of ``{split}_images`` and ``{split}_labels``.

    Raises:
        DataError: It has no such pair.
    """
    arrays = array_headers(path)
    names = [name.removesuffix("_images") for name in arrays if name.endswith("_images")]
    splits = [name for name in names if f"{name}_labels" in arrays]
    if not splits:
        raise DataError(
            f"{path}: expected arrays named <split>_images and <split>_labels, the archive holds: "
            f"{listed(list(arrays), 20) or 'nothing'}",
            hint="Save them as numpy.savez(path, test_images=..., test_labels=...).",
        )
    split = USUAL_SPLIT if USUAL_SPLIT in splits else splits[0]
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    count = images.shape[0] if images.shape else 0
    said = f"{count} images; splits: {listed(splits)}"
    findings, note = _archive_findings(path, labels)
    return DataLook(
        source="npz",
        name=path.stem,
        manifest=path,
        manifest_note=seen(f"the archive holds {listed(list(arrays), 9)}"),
        images=_archive_images(images),
        labels=findings,
        labels_note=note,
        split=split,
        split_note=seen(said) if split == USUAL_SPLIT or len(splits) == 1 else guessed(said),
    )


def _archive_images(images: ArrayHeader) -> ImagesLook:
    planes = images.first[..., 0] if images.first.ndim > 3 and images.first.shape[-1] == 1 else images.first
    looks = tuple(look_at_array(plane) for plane in planes) if planes.ndim > 2 else ()
    failures = () if looks else (f"the images have shape {images.shape} and type {images.dtype}",)
    return ImagesLook(looks=looks, failures=failures, kind="array")


def _archive_findings(path: Path, labels: ArrayHeader) -> tuple[dict[str, str], Note]:
    """Findings by column number; an archive names none."""
    width = labels.shape[1] if len(labels.shape) == 2 else 1
    if width == 1:
        name = path.stem.lower().removesuffix("mnist") or "finding"
        return {name: "0"}, guessed(f"one column of labels without a name; named after {path.name}")
    named = {f"finding_{column}": str(column) for column in range(width)}
    return named, guessed(f"{width} columns of labels without names; name them as you like, in that order")
