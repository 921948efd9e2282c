"""Are two runs on the same cases, and which belongs to which? Told without an identifier, wherever the runs lie.

A run keeps one hash over its set of cases and, for each case, its rank among the sorted case ids. Equal hashes mean equal
sets of ids, so equal ranks mean the same case, whatever folder, salt or order of the manifest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from robustbench_rad.cases import CaseTable
    from robustbench_rad.judging import JudgingRecord

OTHER_CASES = "unpaired: the baseline was made on other cases, so the intervals are wider"


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseSet:
    """Which cases a run is on.

    Attributes:
        sha256: Hash over the case ids, each with its image, mask and spacing, sorted; labels, patients and metadata do
            not count, so a corrected label is told from another image.
        ranks: ``(N,)`` 0 to N - 1: place of each case among the sorted case ids.
    """

    sha256: str
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, table: CaseTable) -> Self:
        """Describe the cases of a table; files not yet seen by its ``verify`` are read."""
        rows = sorted((r.case_id, table.fingerprint(r), r.spacing_mm) for r in table.records)
        content = json.dumps([table.modality, table.found_by, rows])
        return cls(sha256=hashlib.sha256(content.encode()).hexdigest(), ranks=ranks(table.case_ids))

    def check(self, count: int) -> Self:
        """The same, if it ranks ``count`` cases.

        Raises:
            ValueError: The ranks are not 0 to ``count - 1``, each once.
        """
        if not np.array_equal(np.sort(self.ranks), np.arange(count)):
            raise ValueError(f"its {len(self.ranks)} ranks do not number {count} cases")
        return self


def ranks(case_ids: tuple[str, ...]) -> NDArray[np.int64]:
    """Place of each id among the sorted ids, by code point; ids are unique.

    >>> ranks(("b", "c", "a"))
    array([1, 2, 0])
    """
    place = {case: rank for rank, case in enumerate(sorted(case_ids))}
    return np.array([place[case] for case in case_ids], dtype=np.int64)


def pair(here: JudgingRecord, there: JudgingRecord) -> tuple[NDArray[np.int64] | None, str]:
    """Row of the baseline for each case of this run, or None; and why, in words.

    The same images with other labels or patients are not paired: a difference could then be the labels', not the model's.
    """
    if here.case_set.sha256 != there.case_set.sha256:
        return None, OTHER_CASES
    order = np.argsort(there.case_set.ranks)[here.case_set.ranks]
    differing = _differing(here, there, order)
    if differing:
        return None, f"unpaired, and wider: both runs are on the same images, but {differing}"
    return order, "paired: both runs are on the same cases"


def _differing(here: JudgingRecord, there: JudgingRecord, order: NDArray[np.int64]) -> str:
    """What the two runs say differently of the same cases; "" when nothing."""
    codes = np.unique(np.stack([here.patients, there.patients[order]]), axis=1)
    now, before = len(np.unique(codes[0])), len(np.unique(codes[1]))
    if not codes.shape[1] == now == before:
        return f"group them into patients differently ({now} now, {before} in the baseline)"
    counts = {}
    for finding in here.plan.model.names:
        if finding in there.plan.model.names:
            mine = here.labels[:, here.plan.model.names.index(finding)]
            other = there.labels[order, there.plan.model.names.index(finding)]
            counts[finding] = int((~((mine == other) | (np.isnan(mine) & np.isnan(other)))).sum())
    return "; ".join(f"the labels of {finding} differ in {count} case(s)" for finding, count in counts.items() if count)
