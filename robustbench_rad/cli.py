"""The command line: ``robustbench-rad audit | gate | demo | init | list | show``.

Heavy modules are imported inside the commands, so ``--help`` and ``list`` never import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_rad import __version__
from robustbench_rad.cli_check_table import check_table
from robustbench_rad.cli_json import JsonErrorsGroup
from robustbench_rad.cli_measure import measure
from robustbench_rad.cli_medmnist_c import medmnist_c
from robustbench_rad.cli_power import power
from robustbench_rad.cli_profile import profile_app
from robustbench_rad.cli_selftest import selftest
from robustbench_rad.cli_sheet import sheet
from robustbench_rad.cli_support import (
    JsonOption,
    NoColorOption,
    Output,
    QuietOption,
    VerboseOption,
    command,
)

if TYPE_CHECKING:
    from robustbench_rad.audit import Audit
    from robustbench_rad.plan import Plan
    from robustbench_rad.result import AuditResult

app = typer.Typer(
    name="robustbench-rad",
    cls=JsonErrorsGroup,
    help="Scored robustness reports for radiology image classifiers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PlanArgument = Annotated[Path, typer.Argument(help="The plan file (TOML).", show_default=False)]
OptionalPlanArgument = Annotated[Path | None, typer.Argument(help="The plan file (TOML).", show_default=False)]
ResultOption = Annotated[
    Path | None, typer.Option("--result", help="Finished run (folder or result.json) to judge again.")
]
BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", help="Run folder of an earlier model; exit 1 when this one regressed.")
]
MissingBaselineOption = Annotated[
    bool, typer.Option("--allow-missing-baseline", help="Go on when there is no baseline yet; the report says so.")
]
RootOption = Annotated[
    Path | None, typer.Option("--root", help="Folder that relative paths of the plan start from; default: its own.")
]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="quick, standard, full, or a TOML file.")]
FolderOption = Annotated[Path | None, typer.Option("--run-folder", help="Where the run and its report lie.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, …")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, metavar="N", help="Processes that decode images.")
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled modules; they can run any code. Only for files you made.")
]


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"robustbench-rad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


@app.command()
@command
def audit(
    plan: PlanArgument,
    root: RootOption = None,
    profile: ProfileOption = None,
    run_folder: FolderOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    allow_pickle: PickleOption = False,
    price: Annotated[bool, typer.Option("--price", help="Only show what it would cost, and stop.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Measure: run the plan, write result and reports, exit 0 when complete. A killed run continues."""
    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    made = _read(plan, root, profile, device, workers, allow_pickle)
    if price:
        _price(made, output)
    else:
        _show(_audit(made, run_folder, output), output)


def _price(plan: Plan, output: Output) -> None:
    """Show the price of an audit without running it."""
    from robustbench_rad.audit import prepare
    from robustbench_rad.cli_progress import make_progress
    from robustbench_rad.pricing import price_table

    progress = make_progress(output.messages, quiet=output.quiet or output.json)
    try:
        priced = prepare(plan, progress=progress).prices
    finally:
        progress.close()
    if output.json:
        rows = [
            {
                "id": p.id,
                "levels": p.levels,
                "per_case": p.per_case,
                "cases": p.cases,
                "to_learn": p.once,
                "total": p.total,
            }
            for p in priced
        ]
        output.print_json({"prices": rows, "total": sum(p.total for p in priced)})
    else:
        output.console.print(price_table(priced))


@app.command()
@command
def gate(
    plan: OptionalPlanArgument = None,
    result: ResultOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --result: file for the new result.")] = None,
    baseline: BaselineOption = None,
    allow_missing_baseline: MissingBaselineOption = False,
    root: RootOption = None,
    profile: ProfileOption = None,
    run_folder: FolderOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
    allow_pickle: PickleOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Judge: as audit, and exit 0 passed, 1 failed, 3 inconclusive (0 when the plan allows it).

    With --baseline its checks are compared with an earlier run; exit 1 when one regressed. With --result a finished
    run is judged again, under another --profile, without its model or images; the two go together.
    """
    from robustbench_rad.cli_gate import against, check_baseline, check_usage, exit_code, judge_again, read_baseline

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    machinery = {
        "--root": root,
        "--run-folder": run_folder,
        "--device": device,
        "--workers": workers is not None,
        "--allow-pickle": allow_pickle,
    }
    check_usage(plan, result, machinery, out)
    if result is not None:
        raise typer.Exit(judge_again(result, profile, out, (baseline, allow_missing_baseline), output))
    assert plan is not None  # check_usage refuses neither
    made = _read(plan, root, profile, device, workers, allow_pickle)
    check_baseline(baseline, run_folder or (made.path(made.run.folder) if made.run.folder else None))
    before = read_baseline(baseline, allow_missing=allow_missing_baseline)
    done = _audit(made, run_folder, output, lambda result, folder: against(result, folder, baseline, before))
    _show(done, output)
    raise typer.Exit(exit_code(done.result, made, output))


def _read(
    plan: Path, root: Path | None, profile: str | None, device: str | None, workers: int | None, allow_pickle: bool
) -> Plan:
    from robustbench_rad.plan import read_plan

    made = read_plan(plan, root=root, overrides={"profile": profile, "device": device})
    run = made.run.model_copy(
        update={"allow_pickle": allow_pickle or made.run.allow_pickle}
        | ({} if workers is None else {"workers": workers})
    )
    return made.model_copy(update={"run": run})


def _audit(
    plan: Plan,
    folder: Path | None,
    output: Output,
    complete: Callable[[AuditResult, Path], AuditResult] | None = None,
) -> Audit:
    """Run a plan and write its reports; ``complete`` may add to the result before."""
    from dataclasses import replace

    from robustbench_rad.audit import run_audit
    from robustbench_rad.cli_progress import make_progress
    from robustbench_rad.reports.writer import write_reports

    progress = make_progress(output.messages, quiet=output.quiet or output.json)
    done = run_audit(plan, folder=folder, progress=progress)
    if complete is not None:
        done = replace(done, result=complete(done.result, done.folder))
    write_reports(done.result, done.folder, plan.report.formats)
    return done


def _show(done: Audit, output: Output) -> None:
    from robustbench_rad.cli_gate import show as show_result

    show_result(done.result, done.folder, output, done.folder / "report.html")


@app.command()
@command
def show(
    result: Annotated[Path, typer.Argument(help="result.json, or the run folder that holds it.", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Show the summary of a finished audit."""
    from robustbench_rad.reports.console import print_summary
    from robustbench_rad.result import AuditResult

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    path = result / "result.json" if result.is_dir() else result
    read = AuditResult.read(path)
    if output.json:
        output.print_json(read.model_dump(mode="json"))
    else:
        print_summary(read, output.console, path.parent / "report.html")


@app.command("list")
@command
def list_(
    what: Annotated[str, typer.Argument(help="A part of an id, e.g. attack, shift.ct.")] = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """List conditions and checks."""
    from robustbench_rad.cli_list import asked, parts, rows, table
    from robustbench_rad.errors import PlanError, nearest

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    every = rows()
    found = asked(every, what)
    if not found:
        near = nearest(what.lower(), parts(every))
        raise PlanError(
            f"expected a part of the id of a check, got {what!r}",
            hint=f"Did you mean {near!r}?" if near else "robustbench-rad list, without a word, shows them all.",
        )
    if output.json:
        output.print_json({"checks": found})
    else:
        output.console.print(table(found, verbose=verbose))


@app.command()
@command
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the two runs lie.")] = Path("robustbench-rad-demo"),
    cases: Annotated[
        int, typer.Option("--cases", min=20, max=1200, metavar="N", help="Phantoms to audit, 20 to 1200.")
    ] = 1200,
    train: Annotated[bool, typer.Option("--train", help="Make the two classifiers again first.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Audit two small classifiers on chest phantoms: one clean, one that learned to read a marker."""
    from robustbench_rad.cli_demo import run_demo

    run_demo(
        folder=folder,
        cases=cases,
        train=train,
        output=Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color),
    )


@app.command()
@command
def init(
    data: Annotated[Path, typer.Argument(help="Data folder, manifest (.csv, .parquet) or .npz.", show_default=False)],
    model: Annotated[
        str, typer.Option("--model", help="Factory (module:function or file.py:function) or program.")
    ] = "",
    weights: Annotated[str, typer.Option("--weights", help="Weights file.")] = "",
    plan: Annotated[Path, typer.Option("--plan", "-o", help="Plan file to write.")] = Path("plan.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the plan file.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Look at a data folder and a model, and write a commented plan."""
    from robustbench_rad.init import write_plan

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    seen = write_plan(data, plan, model=model, weights=weights, force=force)
    if output.json:
        output.print_json({"plan": str(plan), "seen": seen})
        return
    for line in seen:
        output.say(line)
    output.console.print(f"wrote {plan}; look at it, then run: robustbench-rad audit {plan}", markup=False)


app.add_typer(profile_app, name="profile")
app.command("check-table")(check_table)
app.command("measure")(measure)
app.command("medmnist-c")(medmnist_c)
app.command("power")(power)
app.command("selftest")(selftest)
app.command("sheet")(sheet)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
