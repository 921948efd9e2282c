"""Tables of ``robustbench-rad power`` for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from robustbench_rad.planning_counts import Step
from robustbench_rad.planning_numbers import Answer
from robustbench_rad.reports._format import NOTHING, count, number, percent, plain
from robustbench_rad.result import Certifiable


def waterfall_table(steps: Iterable[Step], findings: Sequence[str]) -> Table:
    """Cases, patients and positives after each filter."""
    table = _new("Who is left", "filter")
    for name in ("cases", "kept", "patients", *(f"{plain(finding, 24)} +" for finding in findings)):
        table.add_column(name, justify="right", overflow="fold")
    for step in steps:
        positives = [count(value) for value in step.positives]
        table.add_row(_words(step.name), count(step.cases), percent(step.share), count(step.patients), *positives)
    return table


def certifiable_table(rows: Iterable[Certifiable], metric: str) -> Table:
    """Smallest drops of AUROC or sensitivity per finding and subgroup."""
    key = metric.lower()
    table = _new(f"Smallest detectable drop of {metric}", "finding, subgroup")
    for name in ("pos.", "neg.", "one cond.", "jointly", "gap", "tolerance", "pos. for it"):
        table.add_column(name, justify="right")
    for row in rows:
        values = [getattr(row, f"{key}_{name}") for name in ("drop", "drop_joint", "gap", "tolerance")]
        table.add_row(
            _words(row.finding) if not row.subgroup else Text(f"  {plain(row.subgroup, 60)}"),
            count(row.positives),
            count(row.negatives),
            *(number(value, 3) for value in values),
            count(getattr(row, f"{key}_needed")),
        )
    return table


def answers_table(found: Iterable[Answer], *, sources: bool, title: str = "") -> Table:
    """Answers from numbers alone, on demand with the sources of their formulas."""
    table = _new(title, "metric")
    for name in ("design", "what"):
        table.add_column(name)
    table.add_column("answer", justify="right")
    table.add_column("")
    if sources:
        table.add_column("after", style="dim")
    for answer in found:
        source = [answer.source] if sources else []
        table.add_row(answer.metric, answer.design, answer.quantity, _value(answer), answer.unit, *source)
    return table


def fractions_table(left: Sequence[float], fractions: Sequence[float]) -> Table:
    """What each fraction leaves."""
    table = _new("Who is left", "fraction")
    table.add_column("cases", justify="right")
    for name, cases in zip(("all", *(f"× {fraction:g}" for fraction in fractions)), left, strict=True):
        table.add_row(name, f"{cases:,.1f}" if cases >= 100 else f"{cases:.2f}")
    return table


def supposed(parts: Iterable[str]) -> Table:
    """What the tables rest on, one assumption a row; some hold names of findings, so all are cleaned."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold", style="dim")
    for place, part in enumerate(parts):
        table.add_row("" if place else "Supposed", Text(plain(part, 300)))
    return table


def _value(answer: Answer) -> str:
    if answer.value is None:
        return NOTHING
    return count(int(answer.value)) if answer.unit else number(answer.value, 3)


def _new(title: str, first: str) -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False
    )
    table.add_column(first, overflow="fold")
    return table


def _words(text: str) -> Text:
    return Text(plain(text, 80))
