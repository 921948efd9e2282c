"""``robustbench-rad medmnist-c``: a model on the published MedMNIST-C files, in the figures of their paper.

Exit codes: 0 done, 2 wrong input. Nothing is judged: these corruptions are those of photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_rad.cli_plain import print_plain
from robustbench_rad.cli_support import JsonOption, NoColorOption, Output, QuietOption, VerboseOption, command

if TYPE_CHECKING:
    from rich.table import Table

    from robustbench_rad.corruption_errors import Figure, Row, Summary

PlanArgument = Annotated[Path, typer.Argument(help="A plan; its model is tested.", show_default=False)]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of one set: its .npz files.", show_default=False)]
CleanOption = Annotated[Path, typer.Option("--clean", help="MedMNIST archive with the clean test images.")]
OnlyOption = Annotated[str | None, typer.Option("--only", help="Corruptions, e.g. pixelate,shot_noise; default: all.")]
SetOption = Annotated[
    str | None, typer.Option("--set", help="Name of the set, e.g. pneumoniamnist; default: the folder's.")
]
RootOption = Annotated[Path | None, typer.Option("--root", help="Folder that the plan's paths start from.")]


@command
def medmnist_c(
    plan: PlanArgument,
    folder: FolderArgument,
    clean: CleanOption,
    only: OnlyOption = None,
    named: SetOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Balanced accuracy and AUROC by corruption and severity on published MedMNIST-C files, BE and rBE against AlexNet."""
    from dataclasses import asdict

    from robustbench_rad.corruption_errors import evaluate
    from robustbench_rad.data.medmnist_c import corruption_files, read_clean, read_corrupted, set_name
    from robustbench_rad.loading import load_classifier
    from robustbench_rad.plan import read_plan

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    made = read_plan(plan, root=root)
    wanted = tuple(part.strip() for part in (only or "").split(",") if part.strip())
    files = corruption_files(folder, wanted)
    plain = read_clean(clean)
    classifier = load_classifier(made, device=made.device, allow_pickle=made.run.allow_pickle)
    parts = (read_corrupted(path, clean=plain) for path in files)
    name = named or set_name(folder.resolve())
    rows, found = evaluate(classifier, plain, parts, name, seed=made.seed)
    if output.json:
        content = {"set": name, "cases": len(plain.labels), "rows": [asdict(r) for r in rows]}
        output.print_json({**content, "summaries": [asdict(summary) for summary in found]})
        return
    print_plain(output.console, _table(rows))
    print_plain(output.console, "")
    print_plain(output.console, _summary(found))
    output.say(
        "95 % intervals by resampling images; MedMNIST names no patients. AlexNet's errors are those of medmnistc 0.1.0."
    )


def _shown(figure: Figure) -> str:
    return "–" if figure.value != figure.value else f"{figure.value:.3f} [{figure.lower:.3f}, {figure.upper:.3f}]"


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table("corruption", "severity", "balanced accuracy", "AUROC", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.corruption, str(row.severity or "–"), _shown(row.balanced_accuracy), _shown(row.auroc))
    return table


def _summary(found: Sequence[Summary]) -> Table:
    from rich.table import Table

    table = Table("corruption", "BE", "rBE", "", box=None, pad_edge=False)
    for row in found:
        table.add_row(row.corruption, _shown(row.be), _shown(row.rbe), row.note)
    return table
