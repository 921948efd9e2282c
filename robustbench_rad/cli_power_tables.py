"""Tables of ``robustbench-rad power`` for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from robustbench_rad.planning import Assumptions
from robustbench_rad.planning_counts import Step
from robustbench_rad.planning_numbers import Answer, Question
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
    for name in ("pos.", "neg.", "paired", "joint", "unpaired", "tolerance", "pos. needed"):
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


def assumed(question: Question) -> str:
    """What the answers rest on, in words."""
    parts = [_test(question.power, question.alpha, question.comparisons)]
    if question.auroc is not None:
        parts.append(f"paired AUROCs correlated {question.correlation:g}")
    if question.effect > 1:
        parts.append(
            f"{question.cluster_size:g} images per patient with ICC {question.icc:g}: {question.effect:.2f} times the cases"
        )
    return f"Supposed: {'; '.join(parts)}."


def supposed(assume: Mapping[str, Assumptions]) -> str:
    """What the tables rest on, in words."""
    first = next(iter(assume.values()))
    levels = "; ".join(
        f"{plain(name, 40)} AUROC {item.auroc:g}, sensitivity {item.sensitivity:g}" for name, item in assume.items()
    )
    return (
        f"Supposed: {_test(first.power, first.alpha, 1)}; joint: all {first.comparisons} comparisons of a check (Bonferroni, "
        f"the worst case); paired AUROCs correlated {first.correlation:g}; ICC {first.icc:g} within patients; {levels}. "
        f"Paired: the same cases under a condition. Unpaired: a subgroup against the rest, the whole against another set of "
        f"its size. Needed: positives at which the joint drop is the tolerance. {NOTHING}: not even chance would show."
    )


def _test(power: float, alpha: float, comparisons: int) -> str:
    shared = f" over {comparisons} comparisons" if comparisons > 1 else ""
    return f"{percent(power)} power at a two-sided level of {alpha:g}{shared}"


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
