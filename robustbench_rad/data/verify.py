"""Decoding every case once before a long run, in worker processes where asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

from robustbench_rad.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from robustbench_rad.cases import CaseTable
    from robustbench_rad.misfits import Misfit


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one case turned out to be.

    Attributes:
        index: Its row.
        fingerprint: SHA-256 of image and mask.
        reason: Why it cannot be used; None: it can.
        missing_extra: An optional package is needed, so that every such file would fail.
        misfit: Its mask of the anatomy is of another size than the image, and left out.
    """

    index: int
    fingerprint: str = ""
    reason: str | None = None
    missing_extra: bool = False
    misfit: Misfit | None = None


class _Examination(Dataset[Seen]):
    def __init__(self, table: CaseTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Seen:
        try:
            misfit = self.table.load(index).misfit
            fingerprint = self.table.fingerprint(self.table.records[index])
            return Seen(index=index, fingerprint=fingerprint, misfit=misfit)
        except DataError as error:
            return Seen(index=index, reason=error.message)
        except MissingExtraError as error:
            return Seen(index=index, reason=error.message, missing_extra=True)


def examine(table: CaseTable, workers: int) -> Iterator[Seen]:
    """Decode every case in order; nothing is raised for an unusable one.

    Decoding runs in processes, not threads: decoders and warning filters have state of the whole process.

    Raises:
        DataError: A worker process died.
    """
    loader = DataLoader(
        _Examination(table), batch_size=None, num_workers=workers, generator=torch.Generator().manual_seed(0)
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that decodes images died while the files were checked",
            hint="Too little memory? Run again with --workers 0.",
        ) from error
