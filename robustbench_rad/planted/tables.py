"""The read-out of the planted-defect programme as rich tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from robustbench_rad.planted.programme import COMBINED, Trial
from robustbench_rad.planted.readout import APART, b90, false_alarms, rate, separation
from robustbench_rad.planted.trained import TrainedTrial
from robustbench_rad.profile import CheckSpec

FAMILY = "shortcut."


def _empty(title: str, columns: Sequence[str], *, whole: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    return table


def audits_table(checks: Sequence[CheckSpec], trials: Sequence[Trial], *, stacked: bool = False) -> Table:
    """One row per audit: detection by strength, false alarms, ROC-AUC, b90.

    Args:
        checks: The audits.
        trials: Of defects and controls.
        stacked: Intervals stand below their shares, so that the table fits eighty columns.
    """
    defects = [trial for trial in trials if not trial.control]
    controls = [trial for trial in trials if trial.control and trial.kind not in APART]
    strengths = sorted({trial.strength for trial in defects})
    found = [f"found at {strength:g} SD" for strength in strengths]
    table = _empty("What each audit finds", ["audit", *found, "false alarms", "ROC-AUC", "b90"], whole=["audit"])
    between = "\n[" if stacked else " ["
    for audit in [COMBINED, *(check.id for check in checks)]:
        shares = [rate((t for t in defects if t.strength == strength), audit) for strength in strengths]
        area = separation([t for t in defects if t.strength], controls, audit)
        limit = b90(trials, audit)
        table.add_row(
            audit.removeprefix(FAMILY),
            *(str(share).replace(" [", between) for share in (*shares, false_alarms(trials, audit))),
            "–" if area is None or audit == COMBINED else f"{area:.2f}",
            "–" if limit is None else f"{limit:g}",
        )
    return table


def kinds_table(trials: Sequence[Trial]) -> Table:
    """One row per planted mark and control: what the shortcut domain says."""
    columns = ["planted", "strength", "reported", "verdicts"]
    table = _empty("What the shortcut domain says", columns, whole=columns[1:3])
    groups: dict[tuple[bool, str, float], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.control, trial.kind, trial.strength), []).append(trial)
    for (control, kind, strength), members in groups.items():
        verdicts = sorted({trial.verdicts[COMBINED] for trial in members})
        name = f"control: {kind}" if control else kind
        name = f"{name} (shown apart)" if kind in APART else name
        table.add_row(name, "" if control else f"{strength:g} SD", str(rate(members, COMBINED)), ", ".join(verdicts))
    return table


def trained_table(networks: Sequence[TrainedTrial]) -> Table:
    """One row per trained network."""
    columns = ["network", "AUROC with mark", "and without", "shortcut domain", "by"]
    table = _empty("Trained networks", columns)
    for item in networks:
        by = [
            audit.removeprefix(FAMILY)
            for audit, verdict in item.trial.verdicts.items()
            if verdict == "fail" and audit != COMBINED
        ]
        row = (item.trial.kind, f"{item.audited_auroc:.2f}", f"{item.decorrelated_auroc:.2f}")
        table.add_row(*row, item.trial.verdicts[COMBINED], "\n".join(by))
    return table
