"""``robustbench-rad selftest``: the shortcut audits tried on models with planted defects, and on models without.

Exit codes: 0 every strong defect was found (asked of 400 cases or more) and no control was reported, 1
otherwise, 2 a wrong option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    import torch
    from rich.table import Table

    from robustbench_rad.planted.programme import Trial
    from robustbench_rad.planted.trained import TrainedTrial
    from robustbench_rad.profile import CheckSpec

STRENGTHS = (0.1, 0.3, 1.0)
ASSOCIATION = 0.7
ENOUGH_CASES = 400  # with fewer, a strong mark is often left open: docs/validity.md
WIDE = 110  # columns of a console that holds the table of audits with one line a row
INSIDE = "device in the lung"  # covered by every mask
SEES_INSIDE = "shortcut.remove-tubes"

CasesOption = Annotated[int, typer.Option("--cases", min=50, metavar="N", help="Phantoms per data set.")]
ReplicatesOption = Annotated[
    int, typer.Option("--replicates", min=1, metavar="N", help="Data sets per defect and control.")
]
TrainedOption = Annotated[bool, typer.Option("--trained", help="Train networks too; takes about a minute each.")]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="Whose shortcut audits: quick, standard, full, or a file.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, …")]


@command
def selftest(
    cases: CasesOption = 400,
    replicates: ReplicatesOption = 1,
    trained: TrainedOption = False,
    profile: ProfileOption = "standard",
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Plant defects, and see which of them the shortcut audits find; the published table is in docs/validity.md.

    Exit code 1: a strong defect was missed (among 400 cases or more), or a control was reported. A device inside the organ
    counts where the profile takes tubes out: no audit of what lies outside can see it.
    """
    from robustbench_rad.loading import choose_device
    from robustbench_rad.planted.programme import audits

    output = Output(json=as_json, quiet=quiet, verbose=verbose, no_color=no_color)
    where = choose_device(device)
    checks = audits(profile)
    trials = _constructed(checks, cases, replicates, where, output)
    networks = _trained(checks, cases, replicates, where, output) if trained else []
    problems = [*_problems(trials), *_problems_of(networks)]
    if output.json:
        output.print_json(_plain(trials, networks, problems, profile))
    else:
        _show(checks, trials, networks, problems, output)
    if problems:
        raise typer.Exit(ExitCode.FAILED)


def _constructed(
    checks: Sequence[CheckSpec], cases: int, replicates: int, device: torch.device, output: Output
) -> list[Trial]:
    from robustbench_rad.planted import programme

    found: list[Trial] = []
    for replicate in range(replicates):
        for name in programme.KINDS:
            output.say(f"planting: {name} ({replicate + 1} of {replicates})")
            cell = programme.Cell(defect=name, association=ASSOCIATION, cases=cases, replicate=replicate)
            found += cell.trials(checks, STRENGTHS, device=device)
        for control in programme.CONTROLS:
            output.say(f"control: {control.name} ({replicate + 1} of {replicates})")
            found.append(control.trial(checks, cases, replicate, device=device))
    return found


def _trained(
    checks: Sequence[CheckSpec], cases: int, replicates: int, device: torch.device, output: Output
) -> list[TrainedTrial]:
    from robustbench_rad.planted.trained import trained_trials

    found = []
    for item in trained_trials(checks, cases=cases, replicates=replicates, device=device):
        output.say(f"trained: {item.trial.kind}: {item.trial.verdicts['shortcut domain']}")
        found.append(item)
    return found


def _problems(trials: Sequence[Trial]) -> list[str]:
    """What must not happen: a strong defect that lies open is missed, or a control is reported."""
    from robustbench_rad.planted.programme import COMBINED
    from robustbench_rad.planted.readout import APART

    strongest = STRENGTHS[-1]
    missed = [
        f"missed: {t.kind} worth {t.strength:g} SD on {t.cases} cases"
        for t in trials
        if not t.control
        and t.strength == strongest
        and (t.kind != INSIDE or SEES_INSIDE in t.verdicts)
        and not t.reports(COMBINED)
        and t.cases >= ENOUGH_CASES
    ]
    alarms = [f"false alarm: {t.kind}" for t in trials if t.control and t.kind not in APART and t.reports(COMBINED)]
    return [*missed, *alarms]


def _problems_of(networks: Sequence[TrainedTrial]) -> list[str]:
    alarms = [f"false alarm: {item.trial.kind}" for item in networks if item.trial.control and item.found]
    # A network that was offered a mark and learned the disease all the same is no miss.
    missed = [
        f"missed: {item.trial.kind}, AUROC {item.audited_auroc:.2f} with the mark and {item.decorrelated_auroc:.2f} without"
        for item in networks
        if not item.trial.control and not item.found and item.audited_auroc - item.decorrelated_auroc > 0.05
    ]
    return [*missed, *alarms]


def _plain(
    trials: Sequence[Trial], networks: Sequence[TrainedTrial], problems: list[str], profile: str
) -> dict[str, Any]:
    return {
        "profile": profile,
        "problems": problems,
        "trials": [asdict(trial) for trial in trials],
        "trained": [asdict(item) for item in networks],
    }


def _show(
    checks: Sequence[CheckSpec],
    trials: Sequence[Trial],
    networks: Sequence[TrainedTrial],
    problems: list[str],
    output: Output,
) -> None:
    from robustbench_rad.planted.tables import audits_table, kinds_table, trained_table

    tables: list[Table] = [
        audits_table(checks, trials, stacked=output.console.width < WIDE),
        kinds_table(trials),
    ]
    if networks:
        tables.append(trained_table(networks))
    for table in tables:
        output.console.print(table)
        output.console.print()
    for problem in problems:
        output.console.print(problem, markup=False)
    if problems:
        return
    few = min((trial.cases for trial in trials), default=ENOUGH_CASES) < ENOUGH_CASES
    found = f"No control was reported; {ENOUGH_CASES} cases or more are needed to count what is missed."
    output.console.print(found if few else "Every strong defect was found, and no control was reported.")
