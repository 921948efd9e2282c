"""The labelled test set as a table of records."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from robustbench_rad.anatomy_providers import HULL, NamedProvider
from robustbench_rad.atlas import Atlas
from robustbench_rad.cases.decoding import decode, stored_sha256
from robustbench_rad.cases.records import Case, CaseRecord, Reader, Unreadable
from robustbench_rad.errors import DataError, suggestion
from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from robustbench_rad.misfits import Misfit

Progress = Callable[[int, int], None]


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
        atlas: One mask of the anatomy for all cases, or None.
    """

    findings: tuple[str, ...]
    records: tuple[CaseRecord, ...]
    modality: str
    reader: Reader
    excluded: Mapping[str, int] = field(default_factory=dict)
    provider: NamedProvider | None = None
    atlas: Atlas | None = None
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
        """Who finds the anatomy, for hashes: True for the hull of the body, False for nobody, else a name or an atlas' hash."""
        if self.atlas is not None:
            return f"atlas {self.atlas.sha256}"
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
        """Decode one case: see :func:`~robustbench_rad.cases.decoding.decode` for the errors raised."""
        return decode(self.records[index], self.reader, self.provider, self.atlas)

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
            self._fingerprints[record.case_id] = stored_sha256(record, self.reader)
        return self._fingerprints[record.case_id]

    @property
    def digest(self) -> str:
        """SHA-256 over case ids, patients, labels, metadata, spacing, images, masks, atlas and lesions; folders do not count.

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
