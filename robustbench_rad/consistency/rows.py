"""Rows of published figures: from flags, or from a CSV file with one row per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robustbench_rad.consistency.examining import examine
from robustbench_rad.consistency.figures import FIGURES, Counts, Printed, check_sum
from robustbench_rad.consistency.report import Report
from robustbench_rad.errors import DataError

_NAMES = {
    "precision": ("precision", "ppv", "positive predictive value"),
    "recall": ("recall", "sensitivity", "tpr", "sens"),
    "f1": ("f1", "f1 score", "f1score", "dice"),
    "accuracy": ("accuracy", "acc"),
    "specificity": ("specificity", "tnr", "spec"),
    "npv": ("npv", "negative predictive value"),
    "n": ("n", "total", "cases", "support"),
    "positives": ("positives", "n positive", "n pos"),
    "negatives": ("negatives", "n negative", "n neg"),
    "model": ("model", "name", "method", "network"),
}
_Row = tuple[str, Mapping[str, str]]
_COUNTS = ("n", "positives", "negatives")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A row with its answer."""

    name: str
    report: Report


def check_rows(
    path: Path | None, given: Mapping[str, str], *, decimals: int | None = None, optional: bool = False
) -> tuple[list[Checked], list[str]]:
    """Check the row that was given, or every row of a file.

    Args:
        path: CSV file, or None.
        given: Figures and counts by name, as text; with a file they fill its empty or missing cells.
        decimals: Decimals that were printed.
        optional: No row at all is fine.

    Returns:
        The rows, and what a reader should know of how they were read.

    Raises:
        DataError: Nothing to check, a missing column, or a value that cannot be; names row and column.
    """
    if path is None:
        if not set(given) & set(FIGURES):
            if optional and not given:
                return [], []
            raise DataError(
                "no figure to check", hint="Give at least two of --precision, --recall, --f1, --accuracy, …"
            )
        rows: list[_Row] = [("", given)]
        notes: list[str] = []
    else:
        rows, notes = _read(path, given)
    checked = []
    for name, cells in rows:
        report, remarks = _check(name, cells, decimals)
        checked.append(Checked(name=name, report=report))
        notes += remarks
    return checked, notes


def check_sums(texts: Iterable[str]) -> list[tuple[bool, str]]:
    """Check printed sums; see :func:`robustbench_rad.consistency.check_sum`."""
    return [check_sum(text) for text in texts]


def _read(path: Path, given: Mapping[str, str]) -> tuple[list[_Row], list[str]]:
    from robustbench_rad.data.labels import read_table, some

    table = read_table(path)
    known = {column: name for column in table.columns if (name := _known(column))}
    twice = [column for column in known if list(known.values()).count(known[column]) > 1]
    if twice:
        raise DataError(f"{path}: columns {some(twice)} mean the same")
    if not set(known.values()) & set(FIGURES):
        raise DataError(
            f"{path}: no column of figures; the columns are: {', '.join(table.columns)}",
            hint=f"Known: {', '.join(sorted(FIGURES))}, {', '.join(_COUNTS)}, model.",
        )
    rows: list[_Row] = []
    for line, row in zip(table.lines, table.rows, strict=True):
        cells = {
            known[column]: cell for column, cell in zip(table.columns, row, strict=True) if column in known and cell
        }
        name = cells.pop("model", "") or f"line {line}"
        rows.append((name, {**given, **cells}))
    ignored = [column for column in table.columns if column not in known]
    return rows, [f"columns not used: {some(ignored)}"] if ignored else []


def _known(column: str) -> str:
    bare = " ".join(column.lower().replace("_", " ").replace("-", " ").replace("%", "").split())
    return next((name for name, words in _NAMES.items() if bare in words), "")


def _check(name: str, cells: Mapping[str, str], decimals: int | None) -> tuple[Report, list[str]]:
    figures = {key: text for key, text in cells.items() if key in FIGURES}
    percent = any(_above_one(text) for text in figures.values())
    where = f"{name}: " if name else ""
    printed = {key: _printed(f"{where}{key}", text, percent, decimals) for key, text in figures.items()}
    counts = Counts(**{key: _count(f"{where}{key}", cells[key]) for key in _COUNTS if key in cells})
    notes = [f"{where}figures above 1 were read as percent, and so the whole row"] if percent else []
    if counts.n is None and (counts.positives is None) != (counts.negatives is None):
        notes.append(f"{where}one class count alone was not used; give n too")
    return examine(printed, counts), notes


def _above_one(text: str) -> bool:
    try:
        return 1 < float(text) <= 100
    except ValueError:
        return False


def _printed(place: str, text: str, percent: bool, decimals: int | None) -> Printed:
    try:
        return Printed.read(text, percent=percent, decimals=decimals)
    except DataError as error:
        raise DataError(f"{place}: {error.message}", hint=error.hint) from None


def _count(place: str, text: str) -> int:
    bare = text.strip().replace(",", "").removesuffix(".0")
    if not bare.isascii() or not bare.isdigit():
        raise DataError(f"{place}: expected a whole number, got {text!r}")
    return int(bare)
