"""``robustbench-rad power``: what a test set can show, from a plan, a manifest, or numbers alone.

Exit codes: 0 answered, 2 wrong input, 3 no case is left after the filters.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from robustbench_rad.planning_counts import CountTable, Filter
    from robustbench_rad.planning_numbers import Question

Number = float | None
_MANIFESTS = (".csv", ".parquet", ".pq")


@command
def power(
    source: Annotated[
        list[str] | None,
        typer.Argument(help="A plan (TOML) or manifest; with --waterfall the fractions.", show_default=False),
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that the plan's paths start from.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Filter such as 'view = PA | AP', 'age >= 60'; repeat to chain.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Column of subgroups; 'sex, view' crosses two; may be repeated.")
    ] = None,
    finding: Annotated[list[str] | None, typer.Option("--finding", help="Of a manifest: a label column.")] = None,
    patient: Annotated[str, typer.Option("--patient", help="Of a manifest: the patient column.")] = "",
    waterfall: Annotated[
        Number, typer.Option("--waterfall", metavar="CASES", help="Start of a chain of fractions: 377110 .65 .03 …")
    ] = None,
    sensitivity: Annotated[Number, typer.Option("--sensitivity", help="Before the drop [claim, else 0.85].")] = None,
    auroc: Annotated[Number, typer.Option("--auroc", help="Before the drop [claim, else 0.85].")] = None,
    drop: Annotated[Number, typer.Option("--drop", help="Drop to be found [tolerance of the profile].")] = None,
    half_width: Annotated[Number, typer.Option("--half-width", help="Of the interval to be reached.")] = None,
    positives: Annotated[Number, typer.Option("--positives", help="Positives in hand, per group.")] = None,
    negatives: Annotated[Number, typer.Option("--negatives", help="Negatives in hand, per group.")] = None,
    ratio: Annotated[float, typer.Option("--negatives-per-positive", help="Where no negatives are given.")] = 10.0,
    paired: Annotated[
        bool | None, typer.Option("--paired/--unpaired", help="The same cases twice, or two groups [both].")
    ] = None,
    discordance: Annotated[
        Number, typer.Option("--discordance", help="Share of pairs that change either way [drop + 0.04].")
    ] = None,
    correlation: Annotated[float, typer.Option("--correlation", help="Of two AUROCs of the same cases.")] = 0.8,
    target: Annotated[float, typer.Option("--power", help="Chance of finding the drop.")] = 0.8,
    alpha: Annotated[float, typer.Option("--alpha", help="Two-sided level.")] = 0.05,
    comparisons: Annotated[
        int | None, typer.Option("--comparisons", min=1, help="Judged together [those of the profile, else 1].")
    ] = None,
    icc: Annotated[float, typer.Option("--icc", help="Intraclass correlation of images of one patient.")] = 0.3,
    cluster_size: Annotated[float, typer.Option("--cluster-size", help="Images per patient.")] = 1.0,
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
    from robustbench_rad.planning_numbers import Question

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    question = Question(
        sensitivity=sensitivity,
        auroc=auroc,
        drop=drop,
        half_width=half_width,
        positives=positives,
        negatives=negatives,
        ratio=ratio,
        discordance=discordance,
        correlation=correlation,
        alpha=alpha,
        power=target,
        comparisons=comparisons or 1,
        icc=icc,
        cluster_size=cluster_size,
    )
    if waterfall is not None:
        _fractions(waterfall, source or [], question, paired, output)
    elif source:
        table, assume, filters = _read(source, root, finding or [], patient, where or [], question, comparisons)
        _table(table, assume, filters, by or [], output)
    else:
        _numbers(question, paired, output)


def _numbers(question: Question, paired: bool | None, output: Output) -> None:
    from robustbench_rad.cli_power_tables import answers_table, assumed
    from robustbench_rad.errors import DataError
    from robustbench_rad.planning_numbers import answers

    found = answers(question, paired=paired)
    if not found:
        raise DataError(
            "nothing to answer",
            hint="Give a plan, or --sensitivity or --auroc with --drop, --positives or --half-width.",
        )
    if output.json:
        output.print_json({"assumptions": asdict(question), "answers": [asdict(answer) for answer in found]})
        return
    print_plain(output.console, answers_table(found, sources=output.verbose))
    output.say(assumed(question))


def _fractions(start: float, source: list[str], question: Question, paired: bool | None, output: Output) -> None:
    from dataclasses import replace

    from robustbench_rad.cli_power_tables import answers_table, assumed, fractions_table
    from robustbench_rad.planning_counts import fraction_waterfall
    from robustbench_rad.planning_numbers import answers

    fractions = [_fraction(text) for text in source]
    left = fraction_waterfall(start, fractions)
    asked = replace(question, positives=question.positives or left[-1])
    if question.sensitivity is None and question.auroc is None:
        asked = replace(asked, sensitivity=0.85, auroc=0.85)
    found = answers(asked, paired=paired)
    if output.json:
        content = {"waterfall": left, "assumptions": asdict(asked), "answers": [asdict(answer) for answer in found]}
        output.print_json(content)
        return
    print_plain(output.console, fractions_table(left, fractions))
    print_plain(output.console, "")
    print_plain(
        output.console, answers_table(found, sources=output.verbose, title=f"What {left[-1]:.4g} positives can show")
    )
    output.say(assumed(asked))


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
        }
        output.print_json(content)
    else:
        _show(table, steps, rows, assume, output)
    if not len(left):
        empty = next(f for f, step in zip(filters, steps[1:], strict=True) if not step.cases)
        output.say(f"no case is left after {empty}; {values_hint(table, empty)}")
        raise typer.Exit(ExitCode.INCONCLUSIVE)


def _show(table: CountTable, steps: Any, rows: Any, assume: dict[str, Assumptions], output: Output) -> None:  # noqa: ANN401 - types of modules imported where they are used
    from robustbench_rad.cli_power_tables import certifiable_table, supposed, waterfall_table

    print_plain(output.console, waterfall_table(steps, table.findings))
    for metric in ("AUROC", "sensitivity") if rows else ():
        print_plain(output.console, "")
        print_plain(output.console, certifiable_table(rows, metric))
    if rows:
        output.say(supposed(assume))
