"""``robustbench-rad check-table``: can published figures hold together under rounding?

Exit codes: 0 they can, 1 they cannot, 2 wrong input, 3 cannot tell (the figures do not restrict one another). Of several rows
the worst decides: 1 before 3 before 0.
"""

from __future__ import annotations

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
    from robustbench_rad.consistency import Checked, Report

Figure = Annotated[str | None, typer.Option(metavar="AS_PRINTED", help="As it is printed: 0.970, .97 or 97.0.")]
Whole = Annotated[str | None, typer.Option(metavar="COUNT", help="Cases.")]


@command
def check_table(
    table: Annotated[Path | None, typer.Argument(help="CSV file with one row per model.", show_default=False)] = None,
    precision: Figure = None,
    recall: Figure = None,
    f1: Figure = None,
    accuracy: Figure = None,
    specificity: Figure = None,
    npv: Figure = None,
    n: Whole = None,
    positives: Whole = None,
    negatives: Whole = None,
    total: Annotated[
        list[str] | None, typer.Option("--sum", metavar="'A + B = C'", help="A printed sum; may be repeated.")
    ] = None,
    decimals: Annotated[
        int | None,
        typer.Option(
            "--decimals", min=0, max=7, metavar="N", help="Decimals printed, 0 to 7, where trailing zeros were lost."
        ),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Say whether published figures of one confusion table can hold together under rounding.

    Give every figure as it is printed (0.970 and 0.97 differ), or a CSV file with columns such as model, precision, recall,
    f1, accuracy, specificity, n. Exit code 0: they can; 1: they cannot; 3: cannot tell.
    """
    from robustbench_rad.consistency import check_rows, check_sums

    given = {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy, "specificity": specificity}
    given |= {"npv": npv, "n": n, "positives": positives, "negatives": negatives}
    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    rows = {name: text for name, text in given.items() if text is not None}
    checked, notes = check_rows(table, rows, decimals=decimals, optional=bool(total))
    sums = check_sums(total or [])
    if output.json:
        output.print_json(_plain(checked, sums, notes))
    else:
        _show(checked, sums, notes, output)
    raise typer.Exit(_code(checked, sums))


def _code(checked: list[Checked], sums: list[tuple[bool, str]]) -> ExitCode:
    from robustbench_rad.consistency import Consistency

    verdicts = {row.report.verdict for row in checked}
    if Consistency.IMPOSSIBLE in verdicts or not all(right for right, _ in sums):
        return ExitCode.FAILED
    return ExitCode.INCONCLUSIVE if Consistency.UNKNOWN in verdicts else ExitCode.OK


def _plain(checked: list[Checked], sums: list[tuple[bool, str]], notes: list[str]) -> dict[str, Any]:
    return {
        "rows": [{"model": row.name, **_plain_report(row.report)} for row in checked],
        "sums": [{"holds": right, "text": text} for right, text in sums],
        "notes": notes,
        "exit_code": int(_code(checked, sums)),
    }


def _plain_report(report: Report) -> dict[str, Any]:
    return {
        "verdict": str(report.verdict),
        "reason": report.reason,
        "figures": [
            {
                "name": figure.name,
                "printed": str(figure.printed),
                "rounding": [figure.printed.low, figure.printed.high],
                "reachable": None if figure.low is None else [figure.low, figure.high],
                "agrees": figure.agrees,
            }
            for figure in report.figures
        ],
        "tables": report.tables,
        "example": None if report.example is None else dict(zip(("tp", "fp", "fn", "tn"), report.example, strict=True)),
        "notes": list(report.notes),
    }


def _show(checked: list[Checked], sums: list[tuple[bool, str]], notes: list[str], output: Output) -> None:
    from rich.text import Text

    for row in checked:
        print_plain(output.console, _line(row.name, str(row.report.verdict), row.report.reason), soft_wrap=True)
        if row.report.figures:
            print_plain(output.console, _table(row.report))
        for line in _remarks(row.report):
            print_plain(output.console, Text(f"  {line}", style="dim"), soft_wrap=True)
    for right, text in sums:
        print_plain(output.console, _line(text, "adds up" if right else "cannot hold together", ""), soft_wrap=True)
    for note in notes:
        output.say(f"note: {note}")
    if checked:
        output.say("note: figures of one confusion table; averages over classes or folds need not agree like this.")


_STYLES = {"cannot hold together": "bold red", "cannot tell": "yellow"}
_SIGNS = {"cannot hold together": "✕", "cannot tell": "?"}


def _line(name: str, verdict: str, reason: str) -> Any:  # noqa: ANN401 - rich is imported where it is used
    from rich.text import Text

    from robustbench_rad.reports._format import plain

    text = Text(f"{_SIGNS.get(verdict, '✓')} {verdict}", style=_STYLES.get(verdict, "green"))
    text.append(f"  {plain(name, 80)}".rstrip(), style="bold not red not green not yellow")
    return text.append(f": {reason}" if reason and name else f"  {reason}".rstrip(), style="not bold default")


def _table(report: Report) -> Any:  # noqa: ANN401
    from rich.table import Table

    from robustbench_rad.consistency import shown

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("figure", "printed", "rounded from", "the rest allows", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right", no_wrap=True)
    for figure in report.figures:
        rounding = f"{figure.printed.low:.{figure.printed.decimals + 1}f}–{figure.printed.high:.{figure.printed.decimals + 1}f}"
        reach = "–" if figure.low is None else f"{shown(figure.low)}–{shown(figure.high)}"
        mark = {True: "", False: "✕", None: ""}[figure.agrees]
        table.add_row(figure.name, str(figure.printed), rounding, reach, mark)
    return table


def _remarks(report: Report) -> list[str]:
    remarks = list(report.notes)
    if report.tables and report.example:
        example = ", ".join(
            f"{name} {count}" for name, count in zip(("TP", "FP", "FN", "TN"), report.example, strict=True)
        )
        many = (
            f"{report.tables:,} confusion tables fit, for example" if report.tables > 1 else "one confusion table fits:"
        )
        remarks.append(f"{many} {example}")
    return remarks
