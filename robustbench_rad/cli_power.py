"""``robustbench-rad power``: what a test set can show, from a plan, a manifest, or numbers alone.

Exit codes: 0 answered, 2 wrong input, 3 no case is left after the filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from robustbench_rad import cli_power_options as options
from robustbench_rad.cli_plain import print_plain
from robustbench_rad.cli_support import (
    ExitCode,
    JsonOption,
    NoColorOption,
    Output,
    QuietOption,
    VerboseOption,
    command,
)

if TYPE_CHECKING:
    from robustbench_rad.planning import Assumptions
    from robustbench_rad.planning_counts import CountTable, Filter, Step
    from robustbench_rad.planning_numbers import Answer, Question
    from robustbench_rad.result import Certifiable

_MANIFESTS = (".csv", ".parquet", ".pq")


@command
def power(
    context: typer.Context,
    source: options.Source = None,
    root: options.Root = None,
    where: options.Where = None,
    by: options.By = None,
    finding: options.Finding = None,
    patient: options.Patient = "",
    waterfall: options.Waterfall = None,
    sensitivity: options.Sensitivity = None,
    auroc: options.Auroc = None,
    drop: options.Drop = None,
    half_width: options.HalfWidth = None,
    positives: options.Positives = None,
    negatives: options.Negatives = None,
    ratio: options.Ratio = 10.0,
    paired: options.Paired = None,
    discordance: options.Discordance = None,
    correlation: options.Correlation = 0.8,
    power: options.Power = 0.8,
    alpha: options.Alpha = 0.05,
    comparisons: options.Comparisons = None,
    icc: options.Icc = 0.3,
    cluster_size: options.ClusterSize = 1.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Say what a test set can show, or how many cases it takes; before any model has run.

    From a plan or a manifest: cases, patients and positives after each filter, and the smallest drop that each finding and
    subgroup would show. From numbers alone: --sensitivity 0.85 --drop 0.10, --auroc 0.85 --positives 66 --negatives 660,
    --auroc 0.85 --half-width 0.05, --waterfall 377110 .65 .03 .47.
    """
    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    question = options.question_of(context.params)
    if waterfall is not None:
        _fractions(waterfall, source or [], question, paired, output)
    elif source:
        table, assume, filters = _read(source, root, finding or [], patient, where or [], question, comparisons)
        _table(table, assume, filters, by or [], output)
    else:
        _numbers(question, paired, output)


def _numbers(question: Question, paired: bool | None, output: Output) -> None:
    from robustbench_rad.cli_power_tables import answers_table
    from robustbench_rad.errors import DataError
    from robustbench_rad.planning_numbers import answers

    found = answers(question, paired=paired)
    if not found:
        raise DataError(
            "nothing to answer",
            hint="Give a plan, or --sensitivity or --auroc with --drop, --positives or --half-width.",
        )
    if output.json:
        output.print_json(_answered(question, found))
        return
    print_plain(output.console, answers_table(found, sources=output.verbose))
    _assumed(question, output)


def _fractions(start: float, source: list[str], question: Question, paired: bool | None, output: Output) -> None:
    from dataclasses import replace

    from robustbench_rad.cli_power_tables import answers_table, fractions_table
    from robustbench_rad.planning_counts import fraction_waterfall
    from robustbench_rad.planning_numbers import answers

    fractions = [_fraction(text) for text in source]
    left = fraction_waterfall(start, fractions)
    asked = replace(question, positives=question.positives or left[-1])
    if question.sensitivity is None and question.auroc is None:
        asked = replace(asked, sensitivity=0.85, auroc=0.85)
    found = answers(asked, paired=paired)
    if output.json:
        output.print_json({"waterfall": left, **_answered(asked, found)})
        return
    print_plain(output.console, fractions_table(left, fractions))
    print_plain(output.console, "")
    title = f"What {left[-1]:.4g} positives can show"
    print_plain(output.console, answers_table(found, sources=output.verbose, title=title))
    _assumed(asked, output)


def _answered(question: Question, found: Iterable[Answer]) -> dict[str, Any]:
    """The answers with every assumption, those that follow from others too, as numbers and in words."""
    from robustbench_rad.planning_words import assumptions_of_question

    drop = question.drop
    discordance = None if drop is None else drop + 2 * question.gained
    numbers = {"gained": question.gained, "discordance": discordance, "level": question.level}
    return {
        "assumptions": {**asdict(question), **numbers, "negatives_per_positive": question.negatives_per_positive},
        "assumed": assumptions_of_question(question),
        "answers": [asdict(answer) for answer in found],
    }


def _assumed(question: Question, output: Output) -> None:
    from robustbench_rad.cli_power_tables import supposed
    from robustbench_rad.planning_words import assumptions_of_question

    print_plain(output.console, "")
    print_plain(output.console, supposed(assumptions_of_question(question)))


def _fraction(text: str) -> float:
    from robustbench_rad.errors import DataError

    try:
        return float(text)
    except ValueError:
        raise DataError(f"waterfall: expected fractions such as .65, got {text!r}") from None


def _read(
    source: list[str],
    root: Path | None,
    findings: list[str],
    patient: str,
    where: list[str],
    question: Question,
    comparisons: int | None,
) -> tuple[CountTable, dict[str, Assumptions], list[Filter]]:
    """The table of a plan or manifest, what is supposed of each finding, and the filters."""
    from robustbench_rad.errors import DataError
    from robustbench_rad.plan import read_plan
    from robustbench_rad.planning_counts import parse_filter, table_of_manifest, table_of_plan
    from robustbench_rad.planning_plan import assumptions, assumptions_of_plan

    if len(source) > 1:
        raise DataError(f"expected one plan or manifest, got {', '.join(source)}")
    filters = [parse_filter(text) for text in where]
    path = Path(source[0])
    if path.suffix.lower() in _MANIFESTS:
        table = table_of_manifest(path, findings, patient)
        return table, {name: assumptions(question, comparisons) for name in table.findings}, filters
    plan = read_plan(path, root=root)
    return table_of_plan(plan), assumptions_of_plan(plan, question, comparisons), filters


def _table(
    table: CountTable, assume: dict[str, Assumptions], filters: list[Filter], by: list[str], output: Output
) -> None:
    from robustbench_rad.planning import certify
    from robustbench_rad.planning_counts import values_hint, waterfall
    from robustbench_rad.planning_words import assumptions_of_rows

    groups = [[name.strip() for name in text.split(",")] for text in by]
    steps, left = waterfall(table, filters)
    for names in groups:
        left.groups(names)
    rows = certify(left, groups, assume=assume) if len(left) else []
    if output.json:
        content: dict[str, Any] = {
            "findings": table.findings,
            "waterfall": [asdict(step) for step in steps],
            "certifiable": [row.model_dump(mode="json") for row in rows],
            "assumptions": {name: asdict(item) for name, item in assume.items()},
            "assumed": assumptions_of_rows(rows) if rows else [],
        }
        output.print_json(content)
    else:
        _show(table, steps, rows, output)
    if not len(left):
        empty = next(f for f, step in zip(filters, steps[1:], strict=True) if not step.cases)
        output.say(f"no case is left after {empty}; {values_hint(table, empty)}")
        raise typer.Exit(ExitCode.INCONCLUSIVE)


def _show(table: CountTable, steps: Sequence[Step], rows: Sequence[Certifiable], output: Output) -> None:
    from robustbench_rad.cli_power_tables import certifiable_table, supposed, waterfall_table
    from robustbench_rad.planning_words import LEGEND, assumptions_of_rows, supposed_levels

    print_plain(output.console, waterfall_table(steps, table.findings))
    if not rows:
        return
    for metric in ("AUROC", "sensitivity"):
        print_plain(output.console, "")
        print_plain(output.console, certifiable_table(rows, metric))
    print_plain(output.console, "")
    print_plain(output.console, supposed([*assumptions_of_rows(rows), *map(" ".join, supposed_levels(rows))]))
    output.say(LEGEND)
