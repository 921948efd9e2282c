"""Counts before any model runs: who is in a test set, and who is left after each filter.

A filter is ``column operator value``: ``view = PA``, ``sex != M``, ``age >= 60``, ``site = A | B`` (either), ``site =``
(empty). Two values that both read as numbers are compared as numbers, all others as text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.data.labels import TextTable, parse_column, read_table
from robustbench_rad.errors import DataError, suggestion

if TYPE_CHECKING:
    from robustbench_rad.plan import Plan

_FILTER = re.compile(r"\s*(?P<column>.+?)\s*(?P<operator><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*$")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDER = ("<", "<=", ">", ">=")
SHOWN_VALUES = 8


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One condition on one column.

    >>> str(parse_filter("view=PA | AP")), str(parse_filter("age >= 60"))
    ('view = PA | AP', 'age >= 60')
    """

    column: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {' | '.join(self.values)}".rstrip()

    def keeps(self, cell: str) -> bool:
        """Whether a case stays. An empty cell stays under ``!=``, and under ``=`` only where nothing is asked for."""
        hits = (_holds(self.operator, cell, value) for value in self.values)
        return all(hits) if self.operator == "!=" else any(hits)


def parse_filter(text: str) -> Filter:
    """Read a filter.

    Raises:
        DataError: Not of the form ``column operator value``, or an order asked of what is no number.
    """
    match = _FILTER.match(text)
    if match is None:
        raise DataError(f"filter {text!r}: expected 'column operator value'", hint="Operators: = != < <= > >=")
    sign = "=" if match["operator"] == "==" else match["operator"]
    values = tuple(part.strip() for part in match["value"].split("|"))
    if sign in _ORDER and (len(values) > 1 or _number(values[0]) is None):
        raise DataError(f"filter {text!r}: {sign} needs one number, got {match['value']!r}")
    return Filter(column=match["column"], operator=sign, values=values)


def _holds(sign: str, cell: str, value: str) -> bool:
    numbers = _number(cell), _number(value)
    if None not in numbers:
        return _COMPARE[sign](*numbers)
    # What is no number has no place in an order: such a case is left out.
    return sign not in _ORDER and _COMPARE[sign](cell, value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class CountTable:
    """What a plan for a test set looks at: labels, patients and columns of text.

    Attributes:
        findings: K names.
        labels: ``(N, K)``: 1, 0 or NaN for unknown.
        patients: ``(N,)`` patient numbers.
        columns: Column → N cells as text.
    """

    findings: tuple[str, ...]
    labels: NDArray[np.float64]
    patients: NDArray[np.int64]
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.patients)

    def column(self, name: str) -> Sequence[str]:
        """Cells of a column.

        Raises:
            DataError: No such column.
        """
        if name not in self.columns:
            raise DataError(f"column {name!r}: there is none of that name", hint=suggestion(name, self.columns))
        return self.columns[name]

    def keep(self, mask: NDArray[np.bool_]) -> Self:
        """The cases of a mask."""
        kept = {
            name: [cell for cell, stays in zip(cells, mask, strict=True) if stays]
            for name, cells in self.columns.items()
        }
        return replace(self, labels=self.labels[mask], patients=self.patients[mask], columns=kept)

    def where(self, condition: Filter) -> Self:
        """The cases that a filter keeps.

        Raises:
            DataError: No such column.
        """
        kept = [condition.keeps(cell) for cell in self.column(condition.column)]
        return self.keep(np.array(kept, dtype=bool))

    def groups(self, by: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """A mask per value of a column, or per crossing of several; in the order of their names.

        Raises:
            DataError: No such column.
        """
        rows = list(zip(*(self.column(name) for name in by), strict=True))
        names = [", ".join(f"{name} {cell or '(missing)'}" for name, cell in zip(by, row, strict=True)) for row in rows]
        return {name: np.array([name == other for other in names]) for name in sorted(set(names))}


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is left after one more filter."""

    name: str
    cases: int
    patients: int
    positives: tuple[int, ...]
    share: float


def waterfall(table: CountTable, filters: Iterable[Filter]) -> tuple[list[Step], CountTable]:
    """Cases, patients and positives per finding, before and after each filter of a chain.

    Returns:
        The steps, the first one without a filter, and the table that is left.

    Raises:
        DataError: No such column.
    """
    steps = [_step("all cases", table, len(table))]
    for condition in filters:
        before, table = len(table), table.where(condition)
        steps.append(_step(str(condition), table, before))
    return steps, table


def _step(name: str, table: CountTable, before: int) -> Step:
    return Step(
        name=name,
        cases=len(table),
        patients=len(np.unique(table.patients)),
        positives=tuple(int(count) for count in (table.labels == 1).sum(axis=0)),
        share=len(table) / before if before else 0.0,
    )


def fraction_waterfall(start: float, fractions: Iterable[float]) -> list[float]:
    """What is left of ``start`` after each fraction is taken of what was left before.

    Raises:
        DataError: A start below 1 or a fraction outside (0, 1].

    >>> [round(left, 2) for left in fraction_waterfall(377110, [.65, .03, .47, .16, .30, .40])]
    [377110, 245121.5, 7353.64, 3456.21, 552.99, 165.9, 66.36]
    """
    if not start >= 1:
        raise DataError(f"waterfall: expected a number of cases to start from, got {start:g}")
    left = [start]
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise DataError(f"waterfall: expected fractions above 0 and at most 1, got {fraction:g}")
        left.append(left[-1] * fraction)
    return left


def values_hint(table: CountTable, condition: Filter) -> str:
    """Name the values that a column does have, for a filter that left nothing."""
    values = sorted(set(table.column(condition.column)))
    named = ", ".join(repr(value) for value in values[:SHOWN_VALUES])
    return f"{condition.column} has {named}" + (
        f" and {len(values) - SHOWN_VALUES} more" * (len(values) > SHOWN_VALUES)
    )


def table_of_plan(plan: Plan) -> CountTable:
    """Read the labels of a plan's test set; images are neither read nor looked for when there is a manifest.

    Raises:
        DataError: A manifest or label is not as declared.
    """
    if plan.data.source == "manifest" and plan.data.manifest:
        text = read_table(plan.path(plan.data.manifest))
        columns = {name: plan.data.findings.get(name, name) for name in plan.model.names}
        return table_of_text(text, columns, plan.data.patient or plan.data.case or "", plan.data.uncertain)
    from robustbench_rad.cases import read_cases

    cases = read_cases(plan)
    return CountTable(
        findings=cases.findings,
        labels=cases.labels.astype(np.float64),
        patients=cases.patient_codes,
        columns={name: cases.metadata(name) for name in plan.data.metadata},
    )


def table_of_manifest(path: Path, findings: Sequence[str], patient: str) -> CountTable:
    """Read a bare manifest: label columns by name, and a patient column ("" when every row is its own patient).

    Raises:
        DataError: A missing column, or labels other than 1, 0, -1 and empty.
    """
    if not findings:
        raise DataError(f"{path}: name the label columns", hint="Add --finding COLUMN, once for each.")
    return table_of_text(read_table(path), {name: name for name in findings}, patient, "unknown")


def table_of_text(text: TextTable, findings: Mapping[str, str], patient: str, uncertain: str) -> CountTable:
    """Take labels (finding → column), patients and all columns from a text table.

    Raises:
        DataError: A missing column or a wrong label.
    """
    labels = [parse_column(text, column, name, uncertain) for name, column in findings.items()]
    names = text.filled(patient, what="patient") if patient else [str(line) for line in text.lines]
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return CountTable(
        findings=tuple(findings),
        labels=np.array(labels, dtype=np.float64).T.reshape(len(text), len(labels)),
        patients=np.array([codes[name] for name in names], dtype=np.int64),
        columns={name: text.column(name, what="column") for name in text.columns},
    )
