"""Scores of an audit: two tables, and how a chunk of them lies on disk.

ScoreTable: case × column → margin, a column being (condition, level, finding). MeasurementTable: case × quantity → value.
A chunk file is an NPZ without pickle, written to a temporary name, fsynced and renamed; reading it back checks its hash.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.errors import RunFolderError

CLEAN = "clean"
MOST_REASONS = 3  # why a level has no meaning for some cases; more would hide the first
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, order=True)
class Column:
    """What a column of margins belongs to."""

    condition: str
    level: str
    finding: str


@dataclass(frozen=True, kw_only=True, order=True)
class Quantity:
    """What a column of measurements belongs to."""

    condition: str
    name: str
    level: str = ""
    finding: str = ""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Scores of a run of cases.

    Attributes:
        cases: N case ids.
        columns: C columns of margins.
        margins: ``(N, C)`` float32; NaN where not evaluated.
        quantities: Q columns of measurements.
        values: ``(N, Q)`` float32; NaN where not measured.
        passes: Counted forward and backward passes per condition.
        full_search: (condition, level) whose margins rank: the search went on after the flip.
        reasons: (condition, level, why some cases are not applicable).
        attributes: (condition, level, DICOM keyword, text) that a header of altered images would say, each text once.
        vectors: (condition, name) → ``(N, F)`` float32, several numbers of each case that belong together.
    """

    cases: tuple[str, ...]
    columns: tuple[Column, ...]
    margins: Floats
    quantities: tuple[Quantity, ...]
    values: Floats
    passes: dict[str, tuple[int, int]]
    full_search: tuple[tuple[str, str], ...] = ()
    reasons: tuple[tuple[str, str, str], ...] = ()
    attributes: tuple[tuple[str, str, str, str], ...] = ()
    vectors: Mapping[tuple[str, str], Floats] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write atomically: temporary name, fsync, rename."""
        header = {
            "cases": self.cases,
            "columns": [[c.condition, c.level, c.finding] for c in self.columns],
            "quantities": [[q.condition, q.name, q.level, q.finding] for q in self.quantities],
            "passes": self.passes,
            "full_search": self.full_search,
            "reasons": self.reasons,
            "attributes": self.attributes,
            "vectors": list(self.vectors),
        }
        vectors = {f"vector_{place}": values for place, values in enumerate(self.vectors.values())}
        write_sealed(path, header, {"margins": self.margins, "values": self.values, **vectors})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and verify a chunk file.

        Raises:
            RunFolderError: The file is damaged; says which one to delete.
        """
        try:
            header, arrays = read_sealed(path)
            margins, values = arrays["margins"], arrays["values"]
            vectors = {(a, b): arrays[f"vector_{place}"] for place, (a, b) in enumerate(header.get("vectors", ()))}
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{path}: damaged chunk: {error}", hint="Delete this file and run the same command again."
            ) from error
        return cls(
            cases=tuple(header["cases"]),
            columns=tuple(Column(condition=a, level=b, finding=c) for a, b, c in header["columns"]),
            margins=margins,
            quantities=tuple(Quantity(condition=a, name=b, level=c, finding=d) for a, b, c, d in header["quantities"]),
            values=values,
            passes={key: (int(f), int(b)) for key, (f, b) in header["passes"].items()},
            full_search=tuple((a, b) for a, b in header["full_search"]),
            reasons=tuple((a, b, c) for a, b, c in header["reasons"]),
            attributes=tuple((a, b, c, d) for a, b, c, d in header.get("attributes", ())),
            vectors=vectors,
        )


def write_sealed(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a header and arrays as one file that says of itself whether it is whole: SHA-256, then an NPZ."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, header=text, **arrays)
    payload = buffer.getvalue()
    write_atomic(path, hashlib.sha256(payload).digest() + payload)


def read_sealed(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what :func:`write_sealed` wrote.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not whole.
        KeyError: It has no header.
    """
    raw = path.read_bytes()
    digest, payload = raw[:32], raw[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its hash does not match its content")
    with np.load(io.BytesIO(payload), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
    return header, arrays


def write_atomic(path: Path, payload: bytes) -> None:
    """Write ``payload`` so that a reader sees the old file or the whole new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All margins of an audit, and all measurements, in the order of the case table."""

    cases: tuple[str, ...]
    columns: dict[Column, Floats]
    quantities: dict[Quantity, Floats]
    full_search: frozenset[tuple[str, str]] = frozenset()
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    attributes: frozenset[tuple[str, str, str, str]] = frozenset()
    vectors: Mapping[tuple[str, str], Floats] = field(default_factory=dict)

    @classmethod
    def join(cls, chunks: Iterable[Chunk], order: Sequence[str]) -> Self:
        """Join chunks and put the cases in ``order``; a column absent from a chunk is NaN there."""
        parts = list(chunks)
        row = {case: index for index, case in enumerate(order)}
        columns: dict[Column, Floats] = {}
        quantities: dict[Quantity, Floats] = {}
        for part in parts:
            index = np.array([row[case] for case in part.cases], dtype=np.int64)
            for position, column in enumerate(part.columns):
                _slot(columns, column, len(order))[index] = part.margins[:, position]
            for position, quantity in enumerate(part.quantities):
                _slot(quantities, quantity, len(order))[index] = part.values[:, position]
        vectors: dict[tuple[str, str], Floats] = {}
        for part in parts:
            index = np.array([row[case] for case in part.cases], dtype=np.int64)
            for name, vector in part.vectors.items():
                empty = np.full((len(order), vector.shape[1]), np.nan, np.float32)
                vectors.setdefault(name, empty)[index] = vector
        full = frozenset(pair for part in parts for pair in part.full_search)
        why: dict[tuple[str, str], set[str]] = {}
        for condition, level, reason in (item for part in parts for item in part.reasons):
            why.setdefault((condition, level), set()).add(reason)
        return cls(
            cases=tuple(order),
            columns=columns,
            quantities=quantities,
            full_search=full,
            reasons={key: _listed(sorted(said)) for key, said in why.items()},
            attributes=frozenset(item for part in parts for item in part.attributes),
            vectors=vectors,
        )

    def margins(self, condition: str, level: str, finding: str) -> Floats:
        """Margins of one column in case order; NaN everywhere when it was never evaluated."""
        key = Column(condition=condition, level=level, finding=finding)
        return self.columns.get(key, np.full(len(self.cases), np.nan, np.float32))

    def clean(self, finding: str) -> Floats:
        """Margins of the unaltered images."""
        return self.margins(CLEAN, "", finding)

    def header(self, condition: str, level: str) -> dict[str, tuple[str, ...]]:
        """What headers of the altered images would say: DICOM keyword → texts, sorted."""
        found: dict[str, list[str]] = {}
        for _, _, keyword, text in sorted(item for item in self.attributes if item[:2] == (condition, level)):
            found.setdefault(keyword, []).append(text)
        return {keyword: tuple(texts) for keyword, texts in found.items()}

    def measured(self, condition: str, name: str, level: str = "", finding: str = "") -> Floats:
        """Values of one quantity in case order; NaN everywhere when it was never measured."""
        key = Quantity(condition=condition, name=name, level=level, finding=finding)
        return self.quantities.get(key, np.full(len(self.cases), np.nan, np.float32))

    def vector(self, condition: str, name: str) -> Floats:
        """``(N, F)`` in case order, NaN where not measured; ``(N, 0)`` when it never was."""
        return self.vectors.get((condition, name), np.empty((len(self.cases), 0), np.float32))


def _listed(reasons: Sequence[str]) -> str:
    """Reasons of all chunks in one line; what another says beside more is not said twice.

    >>> _listed(["no mask"]), _listed(["a", "b", "c", "d", "e"]), _listed(["a", "a; b"])
    ('no mask', 'a; b; c; and 2 more reasons', 'a; b')
    """
    parts = {reason: set(reason.split("; ")) for reason in reasons}
    reasons = [reason for reason in reasons if not any(parts[reason] < other for other in parts.values())]
    more = [f"and {len(reasons) - MOST_REASONS} more reasons"] * (len(reasons) > MOST_REASONS)
    return "; ".join([*reasons[:MOST_REASONS], *more])


def _slot(table: dict[Any, Floats], key: Column | Quantity, length: int) -> Floats:
    return table.setdefault(key, np.full(length, np.nan, np.float32))
