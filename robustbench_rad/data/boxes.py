"""Boxes around lesions: a table beside the manifest, one row per box.

Columns: the case (its id, or its image as the manifest writes it), ``x``, ``y``, ``width``, ``height`` in pixels of the image
as stored, x to the right and y down from its upper left corner (``w`` and ``h`` will do), and optionally ``finding``. A row
whose four numbers are empty says that the case has no lesion; a case without a row has not been looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from robustbench_rad.data.labels import TextTable, read_table, some
from robustbench_rad.errors import DataError
from robustbench_rad.masks import Box

if TYPE_CHECKING:
    from robustbench_rad.cases import CaseRecord
    from robustbench_rad.plan import Plan

SIDES = (("x",), ("y",), ("width", "w"), ("height", "h"))
ALMOST = 0.8  # likeness of two names above which one is taken for a misspelling of the other


def with_boxes(records: Sequence[CaseRecord], plan: Plan, *, volumes: bool) -> tuple[CaseRecord, ...]:
    """Records with the lesion boxes of the plan; unchanged where it names none.

    Raises:
        DataError: No such table or column, a case that is none of the records, a number that is none, a finding that looks
            misspelt, or boxes for volumes.
    """
    name = plan.data.lesion.boxes if plan.data.lesion else None
    if name is None:
        return tuple(records)
    if volumes:
        raise DataError(
            "data.lesion.boxes: boxes are drawn on planes, and the model takes volumes",
            hint='Give masks of the lesions: lesion = { column = "lesion_mask" }.',
        )
    table = read_table(plan.path(name))
    boxes = _boxes(table, _case_column(table, plan), records, plan.model.names)
    return tuple(replace(record, boxes=boxes.get(record.case_id)) for record in records)


def _case_column(table: TextTable, plan: Plan) -> str:
    usual = [plan.data.case, plan.data.image, "case", "image", "SOPInstanceUID"]
    found = next((name for name in usual if name is not None and name in table.columns), None)
    if found is None:
        wanted = " or ".join(repr(name) for name in dict.fromkeys(name for name in usual if name))
        raise DataError(
            f"{table.path}: a column that says which case a box belongs to is missing; "
            f"the columns are: {', '.join(table.columns)}",
            hint=f"Name it {wanted}.",
        )
    return found


def _boxes(
    table: TextTable, column: str, records: Sequence[CaseRecord], findings: Iterable[str]
) -> dict[str, tuple[Box, ...]]:
    """Boxes by case id, sorted; none for a case with an empty row only."""
    known = {**{record.reference: record.case_id for record in records}, **{r.case_id: r.case_id for r in records}}
    rows = _audited(table, tuple(findings))
    cases = table.filled(column, what="case of the box")
    _refuse_unknown(table, column, cases, known)
    cells = zip(*(_side(table, names) for names in SIDES), strict=True)
    boxes: dict[str, list[Box]] = {}
    for row, sides in enumerate(cells):
        box = _box(sides, f"{table.path}, line {table.lines[row]}")
        if row in rows:
            boxes.setdefault(known[cases[row]], []).extend([box] if box else [])
    return {case: tuple(sorted(found)) for case, found in boxes.items()}


def _refuse_unknown(table: TextTable, column: str, cases: Sequence[str], known: Mapping[str, str]) -> None:
    lost = [f"{case!r} (line {line})" for case, line in zip(cases, table.lines, strict=True) if case not in known]
    if lost:
        raise DataError(
            f"{table.path}, column {column!r}: {len(lost)} of {len(cases)} boxes belong to no case of this test set: "
            f"{some(lost)}",
            hint="Use case ids, or images as the manifest writes them, and leave boxes of other images out.",
        )


def _side(table: TextTable, names: tuple[str, ...]) -> list[str]:
    name = next((name for name in names if name in table.columns), names[0])
    return table.column(name, what="side of the box in pixels")


def _box(cells: tuple[str, ...], where: str) -> Box | None:
    """One box, or None: the case has no lesion."""
    if not any(cells):
        return None
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        x = y = width = height = math.nan
    if not (math.isfinite(x + y + width + height) and width > 0 and height > 0):
        raise DataError(
            f"{where}: expected x, y, width and height in pixels, width and height above 0, got {', '.join(cells)}",
            hint="Leave all four empty where a case has no lesion.",
        )
    return Box(x=x, y=y, width=width, height=height)


def _audited(table: TextTable, findings: tuple[str, ...]) -> set[int]:
    """Rows of the findings under audit: all of them where no column says which finding a box belongs to.

    Raises:
        DataError: No row is of a finding under audit, or one names a finding that is almost one of them.
    """
    if "finding" not in table.columns:
        return set(range(len(table)))
    cells = [_plain(cell) for cell in table.column("finding", what="finding of the box")]
    known = [_plain(name) for name in findings]
    others = dict.fromkeys(cell for cell in cells if cell and cell not in known)
    misspelt = [name for name in others if get_close_matches(name, known, n=1, cutoff=ALMOST)]
    rows = {row for row, cell in enumerate(cells) if not cell or cell in known}
    if misspelt or not rows:
        named = some(misspelt or list(others))
        raise DataError(
            f"{table.path}, column 'finding': expected boxes of {', '.join(findings)}, got {named}",
            hint="Boxes of findings that are not under audit are left out; the spelling must be that of model.findings, "
            "upper or lower case.",
        )
    return rows


def _plain(name: str) -> str:
    return name.casefold().replace(" ", "_").replace("-", "_")
