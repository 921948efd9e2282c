"""``robustbench-rad profile lock | show``: write the hash into a profile, or show what one holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_rad.cli_support import JsonOption, NoColorOption, Output, QuietOption, VerboseOption, command

if TYPE_CHECKING:
    from rich.table import Table

    from robustbench_rad.profile import ProfileFile

profile_app = typer.Typer(help="Show a profile, or lock one so that a change is noticed.", no_args_is_help=True)


@profile_app.command()
@command
def lock(
    file: Annotated[Path, typer.Argument(help="Profile of your own (TOML).", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Write the hash of a profile into it; from then on a changed one is refused until it is locked again."""
    from robustbench_rad.errors import PlanError
    from robustbench_rad.profile import lock_profile
    from robustbench_rad.scores import write_atomic

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    try:
        text, sha256 = lock_profile(file.read_text("utf-8"), str(file))
        write_atomic(file, text.encode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"profile {file}: cannot be locked: {error}", hint="Name a profile file (TOML).") from error
    if output.json:
        output.print_json({"profile": str(file), "sha256": sha256})
    else:
        output.console.print(f"locked {file}: {sha256}", markup=False, soft_wrap=True)


@profile_app.command()
@command
def show(
    name: Annotated[str, typer.Argument(help="quick, standard, full, or a TOML file.", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Show what a profile runs and how it judges, defaults filled in."""
    from robustbench_rad.profile import read_profile

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    file = read_profile(name)
    if output.json:
        output.print_json({**_head(file), "checks": _checks(file)})
        return
    head = _head(file)
    output.console.print(f"{head['name']} v{head['version']}: {head['description']}", style="bold", markup=False)
    output.console.print(f"sha256 {head['sha256']}{', locked' if head['locked'] else ''}", markup=False, soft_wrap=True)
    output.console.print(_table(file))


def _head(file: ProfileFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "version": file.version,
        "description": file.description,
        "sha256": file.content_sha256,
        "locked": file.sha256 is not None,
        "minimum_auroc": file.minimum_auroc,
        "multiplicity": file.multiplicity,
        "weights": {str(domain): section.weight for domain, section in file.domains.items()},
    }


def _checks(file: ProfileFile) -> list[dict[str, Any]]:
    from robustbench_rad.profile import check_spec

    return [
        {
            "id": spec.id,
            "domain": str(spec.domain),
            "options": dict(spec.options),
            "tolerance": None if spec.informational else dict(spec.tolerance),
            "critical_harm": None if spec.informational else dict(spec.critical_harm),
            "critical": spec.critical,
            "informational": spec.informational,
        }
        for spec in (check_spec(id, table) for id, table in file.checks.items())
    ]


def _table(file: ProfileFile) -> Table:
    """One check a row, its options below its name and its limits below each other; it fits eighty columns."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("check", overflow="fold")
    shown.add_column("weight", no_wrap=True)
    for column in ("", "δ", "Δ"):
        shown.add_column(column, no_wrap=True, justify="left" if not column else "right")
    for check in _checks(file):
        weight = next((str(s.weight) for d, s in file.domains.items() if str(d) == check["domain"]), "1.0")
        name = check["id"] + (" (critical)" if check["critical"] else "")
        options = "; ".join(f"{key} {value}" for key, value in check["options"].items())
        named = Group(Text(name), Padding(Text(options), (0, 0, 0, 2))) if options else Text(name)
        tolerance, critical = check["tolerance"] or {}, check["critical_harm"] or {}
        limits = [(key, f"{value:g}", f"{critical[key]:g}") for key, value in tolerance.items()]
        columns = ["\n".join(column) for column in zip(*limits, strict=True)]
        shown.add_row(named, weight if not check["informational"] else "shown", *map(Text, columns))
    return shown
