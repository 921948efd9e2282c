"""Cases: the labelled test set as a table of records, and one case at a time as a physical image."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

from robustbench_rad.anatomy_providers import HULL, NamedProvider
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, suggestion
from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.data.images import PhysicalImage
    from robustbench_rad.masks import Box
    from robustbench_rad.misfits import Misfit
    from robustbench_rad.plan import Plan

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TissueFile:
    """A map of the brain's tissues.

    Attributes:
        path: The file.
        numbers: What it has for fluid, grey matter and white matter.
    """

    path: Path
    numbers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What the manifest says of a case.

    Attributes:
        case_id: Unique name.
        patient_id: Patient; the case's own name when none is declared.
        reference: Where the image is, as written in the manifest (``images/1.png``, ``file.npz#12``, a series UID).
        files: Files the image is read from.
        labels: One per finding: 1, 0, or NaN for unknown.
        metadata: Declared metadata columns as text; "" where missing.
        anatomy: Mask file, or None.
        lesion: Mask file of its lesions, or None.
        tissue: Map of its tissues, or None.
        boxes: Boxes around its lesions; empty: it has none; None: not said.
        index: Position inside ``files[0]`` for containers (NPZ), else 0.
        spacing_mm: Declared row and column spacing; None: what the file says.
    """

    case_id: str
    patient_id: str
    reference: str
    files: tuple[Path, ...]
    labels: tuple[float, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    anatomy: Path | None = None
    lesion: Path | None = None
    tissue: TissueFile | None = None
    boxes: tuple[Box, ...] | None = None
    index: int = 0
    spacing_mm: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case, decoded.

    Attributes:
        record: Its row.
        image: ``(1, H, W)`` or ``(1, D, H, W)`` float32 in ``unit``, native sampling.
        unit: HU for CT; signal in the model's declared range for radiographs; magnitude for MR.
        stored_bits: Bit depth of the stored pixels.
        spacing_mm: Row, column (slice, row, column for volumes) spacing, or None.
        anatomy: Boolean mask of the shape of ``image`` at native sampling, or None.
        lesion: Boolean mask of the lesions, likewise; all False: the case has none; None: it is not said where they are.
        tissue: uint8 of the shape of ``image``: 1 fluid, 2 grey matter, 3 white matter, 0 none of them; None: no map.
        burned_in: True when the file says that it carries burned-in annotation.
        attributes: Whitelisted DICOM attributes of the file as text; empty for other formats.
        zero_signal: Value of ``image`` that stands for no signal at all; not 0 for MR scaled by percentiles.
        misfit: Why its mask of the anatomy is left out: it is of another size than the image. None: it has none, or it fits.
    """

    record: CaseRecord
    image: Tensor
    unit: Unit
    stored_bits: int
    spacing_mm: tuple[float, ...] | None = None
    anatomy: Tensor | None = None
    lesion: Tensor | None = None
    tissue: Tensor | None = None
    burned_in: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    zero_signal: float = 0.0
    misfit: Misfit | None = None


class Reader(Protocol):
    """How the cases of one source are decoded; picklable, so that worker processes can do it."""

    def read(self, record: CaseRecord) -> PhysicalImage:
        """Decode one case."""
        ...

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the stored image, independent of where it lies."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A case whose image or mask cannot be used, and why."""

    record: CaseRecord
    reason: str


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """The labelled test set.

    Attributes:
        findings: K names.
        records: N cases.
        modality: DICOM modality code.
        reader: Decodes them.
        excluded: Reason → number of cases (or files of a folder) left out.
        provider: Finds the anatomy in images that come without a mask; None: nobody does.
    """

    findings: tuple[str, ...]
    records: tuple[CaseRecord, ...]
    modality: str
    reader: Reader
    excluded: Mapping[str, int] = field(default_factory=dict)
    provider: NamedProvider | None = None
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _misfits: dict[str, Misfit | None] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """N unique names."""
        return tuple(record.case_id for record in self.records)

    @property
    def found_by(self) -> str | bool:
        """Who finds the anatomy, for hashes: True for the hull of the body, False for nobody, else a name."""
        if self.provider is None or self.provider.name == HULL:
            return self.provider is not None
        return self.provider.name

    @property
    def patients(self) -> tuple[str, ...]:
        """N patient names, as written."""
        return tuple(record.patient_id for record in self.records)

    @property
    def patient_codes(self) -> npt.NDArray[np.int64]:
        """``(N,)`` numbers 0, 1, … by first appearance of the patient."""
        codes = {patient: code for code, patient in enumerate(dict.fromkeys(self.patients))}
        return np.array([codes[patient] for patient in self.patients], dtype=np.int64)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """``(N, K)``: 1 positive, 0 negative, NaN unknown."""
        rows = [record.labels for record in self.records]
        return np.array(rows, dtype=np.float32).reshape(len(self), len(self.findings))

    def metadata(self, column: str) -> list[str]:
        """Values of a declared metadata column; "" where missing.

        Raises:
            DataError: The column is not declared in the plan.
        """
        known = self.records[0].metadata if self.records else {}
        if self.records and column not in known:
            raise DataError(
                f"metadata column {column!r} is not declared in data.metadata", hint=suggestion(column, known)
            )
        return [record.metadata[column] for record in self.records]

    def one_class_findings(self) -> tuple[str, ...]:
        """Findings with no positive or no negative case: nothing can be concluded about them."""
        labels = self.labels
        both = ((labels == 1).any(axis=0)) & ((labels == 0).any(axis=0))
        return tuple(name for name, ok in zip(self.findings, both, strict=True) if not ok)

    def load(self, index: int) -> Case:
        """Decode one case.

        Raises:
            ImageError: The image is unreadable, of another unit, or outside its declared range.
            DataError: A mask of lesions, a map or a box does not fit the image, or a mask is unreadable. A mask of the
                anatomy of another size is left out, and said in ``misfit``.
            MissingExtraError: The format needs an optional package.
        """
        import torch

        from robustbench_rad.misfits import Misfit

        record = self.records[index]
        image = self.reader.read(record)
        pixels = torch.from_numpy(np.ascontiguousarray(image.pixels))[None]
        anatomy = self._anatomy(record, pixels, image)
        return Case(
            record=record,
            image=pixels,
            unit=image.unit,
            stored_bits=image.stored_bits,
            spacing_mm=record.spacing_mm or image.spacing_mm,
            anatomy=None if isinstance(anatomy, Misfit) else anatomy,
            misfit=anatomy if isinstance(anatomy, Misfit) else None,
            lesion=_lesion(record, pixels, image),
            tissue=_tissue(record, pixels, image),
            burned_in=image.burned_in,
            attributes=image.attributes,
            zero_signal=image.zero_signal,
        )

    def _anatomy(self, record: CaseRecord, pixels: Tensor, image: PhysicalImage) -> Tensor | Misfit | None:
        from robustbench_rad.masks import mask_of, read_mask

        shape = tuple(pixels.shape[1:])
        if record.anatomy is not None:
            return read_mask(record.anatomy, shape)
        if image.anatomy is not None:
            return mask_of(image.anatomy, shape)
        if self.provider is None:
            return None
        spacing = record.spacing_mm or image.spacing_mm
        return self.provider.mask(pixels, unit=image.unit, spacing_mm=spacing, reference=record.reference)

    def verify(self, *, workers: int = 0, progress: Progress | None = None) -> list[Unreadable]:
        """Decode every case once, so that a long run does not meet a damaged file half-way.

        Fingerprints, and masks of another size than their image, are noted.

        Args:
            workers: Processes that decode; 0: this one.
            progress: Called with cases done and cases in all.

        Returns:
            All cases that cannot be used, with the reason.

        Raises:
            MissingExtraError: At once, when an optional package is needed.
        """
        from robustbench_rad.data.verify import examine

        unreadable = []
        for done, seen in enumerate(examine(self, workers), start=1):
            record = self.records[seen.index]
            if seen.missing_extra:
                self.load(seen.index)
            if seen.reason is None:
                self._fingerprints[record.case_id] = seen.fingerprint
                self._misfits[record.case_id] = seen.misfit
            else:
                unreadable.append(Unreadable(record=record, reason=seen.reason))
            if progress is not None:
                progress(done, len(self))
        return unreadable

    @property
    def misfits(self) -> dict[str, Misfit]:
        """Case id → what is wrong with the size of its mask of the anatomy, sorted, for the cases whose mask is left out.

        Cases not yet seen by :meth:`verify` are read.
        """
        for index, record in enumerate(self.records):
            if record.case_id not in self._misfits:
                self._misfits[record.case_id] = self.load(index).misfit
        known = ((case_id, self._misfits[case_id]) for case_id in sorted(self.case_ids))
        return {case_id: misfit for case_id, misfit in known if misfit is not None}

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the stored image, mask and lesions of a case."""
        if record.case_id not in self._fingerprints:
            self._fingerprints[record.case_id] = self._fingerprint(record)
        return self._fingerprints[record.case_id]

    def _fingerprint(self, record: CaseRecord) -> str:
        from robustbench_rad.data.files import file_sha256

        image = self.reader.fingerprint(record)
        mask = file_sha256(record.anatomy) if record.anatomy else ""
        lesion = f" lesion {file_sha256(record.lesion)}" if record.lesion else ""
        boxes = "" if record.boxes is None else f" boxes {[astuple(box) for box in record.boxes]}"
        map_ = record.tissue
        tissue = f" tissue {map_.numbers} {file_sha256(map_.path)}" if map_ else ""
        return hashlib.sha256(f"{image}{mask}{lesion}{boxes}{tissue}".encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 over case ids, patients, labels, metadata, spacing, images, masks and lesions; folders do not count.

        Files not yet seen by :meth:`verify` are read.
        """
        total = hashlib.sha256(json.dumps([self.findings, self.modality, self.found_by]).encode())
        for record in self.records:
            labels = [None if math.isnan(label) else label for label in record.labels]
            row = [record.case_id, record.patient_id, labels, sorted(record.metadata.items()), record.spacing_mm]
            total.update(json.dumps([*row, self.fingerprint(record)]).encode())
        return total.hexdigest()

    def without(self, case_ids: Collection[str], reason: str) -> Self:
        """The table without some cases, which are counted under ``reason``."""
        leave = set(case_ids)
        kept = tuple(record for record in self.records if record.case_id not in leave)
        return self._keep(kept, reason)

    def subset(self, count: int, seed: int) -> Self:
        """At most ``count`` cases, chosen by hash of seed and case id; their order is kept."""
        if count >= len(self):
            return self
        ranked = sorted(self.records, key=lambda record: derive_seed(seed, "max_cases", record.case_id))
        chosen = {record.case_id for record in ranked[:count]}
        return self._keep(tuple(r for r in self.records if r.case_id in chosen), "beyond max_cases")

    def _keep(self, kept: tuple[CaseRecord, ...], reason: str) -> Self:
        dropped = len(self) - len(kept)
        excluded = {**self.excluded, reason: self.excluded.get(reason, 0) + dropped} if dropped else self.excluded
        return replace(self, records=kept, excluded=excluded)


def _lesion(record: CaseRecord, pixels: Tensor, image: PhysicalImage) -> Tensor | None:
    import torch

    from robustbench_rad.masks import box_mask, load_mask

    shape = tuple(pixels.shape[1:])
    if record.lesion is not None:
        return load_mask(record.lesion, shape)
    if record.boxes is not None:
        return box_mask(record.boxes, shape)
    return None if image.lesion is None else torch.from_numpy(np.ascontiguousarray(image.lesion))[None]


def _tissue(record: CaseRecord, pixels: Tensor, image: PhysicalImage) -> Tensor | None:
    import torch

    from robustbench_rad.data.tissue import load_tissue

    codes = image.tissue
    if record.tissue is not None:
        codes = load_tissue(record.tissue.path, tuple(pixels.shape[1:]), record.tissue.numbers)
    return None if codes is None else torch.from_numpy(np.ascontiguousarray(codes))[None]


def read_cases(plan: Plan, *, volumes: bool = False) -> CaseTable:
    """Read the plan's labelled test set; images are decoded later, one at a time.

    Args:
        plan: The plan.
        volumes: The model takes volumes; also taken from a ``model.input.size`` of three numbers.

    Raises:
        DataError: A manifest, a label or a file is not as declared.
    """
    from robustbench_rad.data.boxes import with_boxes
    from robustbench_rad.data.sources import read_source

    volumes = volumes or len(plan.model.input.size) == 3
    source = read_source(plan, volumes=volumes)
    table = CaseTable(
        findings=plan.model.names,
        records=with_boxes(source.records, plan, volumes=volumes),
        modality=plan.data.modality,
        reader=source.reader,
        excluded=source.excluded,
        provider=_provider(plan),
    )
    return table.subset(plan.data.max_cases, plan.seed) if plan.data.max_cases else table


def _provider(plan: Plan) -> NamedProvider | None:
    name = plan.data.anatomy.provider if plan.data.anatomy is not None else None
    return NamedProvider(name=name, base=plan.base) if name else None


def require_readable(table: CaseTable, policy: str, *, workers: int = 0, progress: Progress | None = None) -> CaseTable:
    """Decode every case once, then fail on, or leave out, the unreadable ones.

    Args:
        table: All cases.
        policy: ``fail`` or ``skip`` (``data.on_unreadable``).
        workers: Processes that decode.
        progress: Called with cases done and cases in all.

    Raises:
        DataError: Lists every unreadable file under ``fail``, or when nothing is left under ``skip``.
    """
    unreadable = table.verify(workers=workers, progress=progress)
    if unreadable and (policy == "fail" or len(unreadable) == len(table)):
        only_masks = all("expected a mask" in item.reason for item in unreadable)
        without = " Left out of [data], audits that need masks are not assessable." if only_masks else ""
        hint = f'Repair them, or set data.on_unreadable = "skip".{without}'
        raise DataError(_listing(unreadable, len(table)), hint=hint)
    return table.without([item.record.case_id for item in unreadable], "unreadable file")


def _listing(unreadable: Iterable[Unreadable], count: int) -> str:
    lines = [f"  {item.record.case_id}: {item.reason}" for item in unreadable]
    return "\n".join([f"{len(lines)} of {count} cases cannot be read:", *lines])
