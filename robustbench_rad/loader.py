"""Decoding cases ahead of the model, in worker processes, one chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader, Dataset

from robustbench_rad.errors import DataError, RobustbenchRadError

if TYPE_CHECKING:
    from robustbench_rad.cases import Case, CaseTable


class _Decoding(Dataset["Case | RobustbenchRadError"]):
    """Cases by position; an error is handed over as a value, so that a worker's traceback never reaches the user."""

    def __init__(self, table: CaseTable, order: Sequence[int]) -> None:
        self.table = table
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Case | RobustbenchRadError:
        try:
            return self.table.load(self.order[position])
        except RobustbenchRadError as error:
            return error


def load_in_order(table: CaseTable, order: Sequence[int], *, workers: int) -> Iterator[Case]:
    """Yield the cases at ``order``, decoded by ``workers`` processes (0: in this one).

    Raises:
        DataError: A case cannot be read, or a worker process died.
    """
    loader = DataLoader(
        _Decoding(table, order), batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None
    )
    try:
        for case in loader:
            if isinstance(case, RobustbenchRadError):
                raise case
            yield case
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that decodes images died", hint="Too little memory? Run again with --workers 0; nothing is lost."
        ) from error


def in_chunks(cases: Iterator[Case], size: int) -> Iterator[list[Case]]:
    """Group an iterator of cases into lists of ``size``."""
    chunk: list[Case] = []
    for case in cases:
        chunk.append(case)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
