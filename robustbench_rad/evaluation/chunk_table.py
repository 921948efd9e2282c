"""What is found out about the cases of a chunk, while conditions are being applied to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustbench_rad.conditions import CaseVector, Measurement
from robustbench_rad.scores import Chunk, Column, Floats, Quantity


@dataclass
class ChunkTable:
    """Columns of a chunk while it is being filled."""

    cases: tuple[str, ...]
    findings: tuple[str, ...]
    columns: dict[Column, Floats] = field(default_factory=dict)
    quantities: dict[Quantity, Floats] = field(default_factory=dict)
    passes: dict[str, tuple[int, int]] = field(default_factory=dict)
    full_search: set[tuple[str, str]] = field(default_factory=set)
    reasons: set[tuple[str, str, str]] = field(default_factory=set)
    attributes: set[tuple[str, str, str, str]] = field(default_factory=set)
    vectors: dict[tuple[str, str], Floats] = field(default_factory=dict)

    def add(self, condition: str, level: str, margins: Tensor, rows: NDArray[np.int64]) -> None:
        """Margins ``(n, K)`` of the cases at ``rows`` under one level."""
        values = margins.detach().float().cpu().numpy()
        for k, finding in enumerate(self.findings):
            column = Column(condition=condition, level=level, finding=finding)
            self.columns.setdefault(column, self._empty())[rows] = values[:, k]

    def measure(self, condition: str, measured: Measurement, rows: NDArray[np.int64]) -> None:
        """Numbers of the cases at ``rows`` that are not margins."""
        quantity = Quantity(condition=condition, name=measured.quantity, level=measured.level, finding=measured.finding)
        values = measured.values.detach().float().cpu().numpy()
        self.quantities.setdefault(quantity, self._empty())[rows] = values

    def keep(self, condition: str, vector: CaseVector, rows: NDArray[np.int64]) -> None:
        """Vectors of the cases at ``rows``."""
        values = vector.values.detach().float().cpu().numpy()
        empty = np.full((len(self.cases), values.shape[1]), np.nan, np.float32)
        self.vectors.setdefault((condition, vector.name), empty)[rows] = values

    def chunk(self) -> Chunk:
        """What goes to disk, in an order that does not depend on how it was filled."""
        columns, quantities = sorted(self.columns), sorted(self.quantities)
        return Chunk(
            cases=self.cases,
            columns=tuple(columns),
            margins=_side_by_side([self.columns[column] for column in columns], len(self.cases)),
            quantities=tuple(quantities),
            values=_side_by_side([self.quantities[quantity] for quantity in quantities], len(self.cases)),
            passes=self.passes,
            full_search=tuple(sorted(self.full_search)),
            reasons=tuple(sorted(self.reasons)),
            attributes=tuple(sorted(self.attributes)),
            vectors=dict(sorted(self.vectors.items())),
        )

    def _empty(self) -> Floats:
        return np.full(len(self.cases), np.nan, np.float32)


def _side_by_side(columns: Sequence[Floats], rows: int) -> Floats:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), np.float32)
