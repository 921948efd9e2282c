"""Text tables and labels: everything is read as text, then parsed strictly.

A label is 1, 0, -1 (uncertain) or empty (unknown). Anything else is an error that names file, line, column and value.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_rad.errors import DataError, MissingExtraError, suggestion

if TYPE_CHECKING:
    import pandas as pd

UNCERTAIN = {"unknown": math.nan, "positive": 1.0, "negative": 0.0}
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A manifest as text.

    Attributes:
        path: The file.
        columns: Column names.
        rows: One tuple of stripped cells per row.
        lines: Line (CSV) or row number (Parquet) of each row, for messages.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str, *, what: str) -> list[str]:
        """Cells of a column.

        Raises:
            DataError: No such column; lists the columns there are.
        """
        if name not in self.columns:
            raise DataError(
                f"{self.path}: column {name!r} ({what}) is missing; the columns are: {', '.join(self.columns)}",
                hint=suggestion(name, self.columns),
            )
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def filled(self, name: str, *, what: str) -> list[str]:
        """Cells of a column that may not be empty.

        Raises:
            DataError: No such column, or an empty cell.
        """
        cells = self.column(name, what=what)
        empty = [line for line, cell in zip(self.lines, cells, strict=True) if not cell]
        if empty:
            raise DataError(f"{self.path}: column {name!r} ({what}) is empty in line {some(empty)}")
        return cells


def some(items: Sequence[object], shown: int = SHOWN) -> str:
    """Name the first few and count the rest.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    text = ", ".join(str(item) for item in items[:shown])
    return text if len(items) <= shown else f"{text} and {len(items) - shown} more"


def read_table(path: Path) -> TextTable:
    """Read a CSV (comma or semicolon, UTF-8) or Parquet file.

    Raises:
        DataError: Missing, not readable, without rows, uneven rows, or a column name twice.
        MissingExtraError: Parquet without pyarrow.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; expected a manifest with one row per case", hint="Check data.manifest and --root."
        )
    table = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column name twice: {some(twice)}")
    if not table.rows:
        raise DataError(f"{path}: the manifest is empty: it has a header but no cases")
    return table


def _read_csv(path: Path) -> TextTable:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text: {error}", hint="Save the file as UTF-8 CSV.") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a valid CSV file: {error}") from error
    if not rows:
        raise DataError(f"{path}: the manifest is empty: it has no header and no cases")
    return _even(path, rows)


def _delimiter(header: str) -> str:
    return ";" if ";" in header and "," not in header else ","


def _even(path: Path, rows: Sequence[tuple[int, list[str]]]) -> TextTable:
    columns = rows[0][1]
    for line, cells in rows[1:]:
        if len(cells) != len(columns):
            raise DataError(f"{path}, line {line}: expected {len(columns)} cells as in the header, got {len(cells)}")
    return TextTable(
        path=path,
        columns=tuple(columns),
        rows=tuple(tuple(cells) for _, cells in rows[1:]),
        lines=tuple(line for line, _ in rows[1:]),
    )


def _read_parquet(path: Path) -> TextTable:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise MissingExtraError(f"{path.name}: Parquet files", package="pyarrow", extra="parquet") from error
    except Exception as error:  # pyarrow has its own tree of errors, and is not a dependency
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    return table_from_frame(path, frame)


def table_from_frame(path: Path, frame: pd.DataFrame) -> TextTable:
    """Turn a data frame into text: missing values become empty, True and False become 1 and 0."""
    rows = tuple(tuple(_cell(value) for value in row) for row in frame.itertuples(index=False, name=None))
    return TextTable(
        path=path,
        columns=tuple(str(column) for column in frame.columns),
        rows=rows,
        lines=tuple(range(1, len(rows) + 1)),
    )


def _cell(value: Any) -> str:  # noqa: ANN401 - whatever a Parquet column holds
    if value is None or str(value) in ("<NA>", "NaT", "nan"):
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def parse_label(text: str, uncertain: str) -> float:
    """Read one label.

    Args:
        text: ``1``, ``0``, ``-1`` or empty; one decimal zero is allowed.
        uncertain: What -1 means: unknown, positive or negative.

    Returns:
        1, 0, or NaN for unknown.

    Raises:
        ValueError: Anything else.

    >>> [parse_label(text, "positive") for text in ("1", "0.0", "-1", "")]
    [1.0, 0.0, 1.0, nan]
    """
    known = {"": math.nan, "0": 0.0, "1": 1.0, "-1": UNCERTAIN[uncertain]}
    plain = text.strip().removesuffix(".0")
    if plain not in known or (text.strip() and not plain):
        raise ValueError(f"expected 1, 0, -1 or empty, got {text!r}")
    return known[plain]


def parse_number_label(value: object, uncertain: str) -> float:
    """Read one label given as a number; NaN and None are unknown.

    Raises:
        ValueError: Not 1, 0, -1, NaN or None (TypeError, OverflowError: not a number at all).
    """
    number = math.nan if value is None else float(value)  # type: ignore[arg-type]
    return parse_label("" if math.isnan(number) else repr(number + 0.0), uncertain)  # + 0.0: no negative zero


def parse_column(table: TextTable, column: str, finding: str, uncertain: str) -> list[float]:
    """Parse a label column.

    Raises:
        DataError: Names file, line, column and value of the first wrong labels, and counts the rest.
    """
    labels, wrong = [], []
    for line, cell in zip(table.lines, table.column(column, what=f"labels of {finding!r}"), strict=True):
        try:
            labels.append(parse_label(cell, uncertain))
        except ValueError:
            wrong.append(f"line {line}: {cell!r}")
    if wrong:
        raise DataError(
            f"{table.path}, column {column!r}: expected labels 1, 0, -1 or empty, got {some(wrong)}",
            hint="1 = present, 0 = absent, -1 = uncertain (data.uncertain says what it means), empty = unknown.",
        )
    return labels


def refuse_duplicates(case_ids: Iterable[str], where: str) -> None:
    """Refuse a case id that appears twice.

    Raises:
        DataError: Lists the first few and counts the rest.
    """
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for case_id in case_ids:
        if case_id in seen:
            twice[case_id] = None
        seen.add(case_id)
    if twice:
        raise DataError(
            f"{where}: duplicate case ids: {some(list(twice))}",
            hint="Remove the repeated rows; where they are different cases, name a column of unique ids in data.case.",
        )
