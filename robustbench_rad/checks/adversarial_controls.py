"""What a change of the same size does that nobody searched for: without it, flips of a patch or a pattern say little.

References:
    Finlayson et al. 2018, arXiv:1804.05296 (patches beside a control patch of a natural image).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.adversarial_tables import SIDES
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.informational import Cell, cells
from robustbench_rad.checks.metrics import correct
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import proportion

CONTROLS = {"control_flip": "random pixels of the same size", "marker_flip": "a plain letter of the same size"}
"""Measurement, 1 where the control makes a call wrong → what it is."""
DIRECTIONS = {"sensitivity": "hide", "specificity": "create"}


def controls_table(context: JudgeContext, check: CheckSpec) -> list[Table]:
    """The attack beside its controls, on the calls that both were tried on; nothing for an attack without controls."""
    rows = [row for finding in context.findings for row in _rows(context, check, finding)]
    if not rows:
        return []
    columns = ["finding", "level", "direction", "right calls", "flipped by the attack", "lower", "upper", "control"]
    columns += ["flipped by the control", "control lower", "control upper", "by the attack alone"]
    return [
        Table(
            check=check.id,
            domain=check.domain,
            title="Beside a change of the same size that was not searched for",
            columns=[*columns, "alone lower", "alone upper", "not assessable"],
            rows=rows,
            note="Right calls that both were tried on. By the attack alone: the attack turns the call, the control does not. "
            "Where random pixels do as much, the model is brittle rather than attacked; where a plain letter does as much, it "
            "reads markers, which the shortcut audit asks after. Intervals one by one.",
        )
    ]


def _rows(context: JudgeContext, check: CheckSpec, finding: str) -> Iterator[list[Cell]]:
    for level in context.levels.get(check.id, ()):
        for measurement, control in CONTROLS.items():
            found = context.measured(check.id, measurement, level.name, finding)
            if not np.isnan(found).all():
                for name in SIDES:
                    yield _row(context, check, finding, level, name, (control, found))


def _row(
    context: JudgeContext,
    check: CheckSpec,
    finding: str,
    level: Level,
    name: str,
    control: tuple[str, NDArray[np.float64]],
) -> list[Cell]:
    """Flips of the attack and of its control among the right calls of one label."""
    attacked, (called, tried) = context.margins(check.id, level.name, finding), control
    right = (context.label(finding) == SIDES[name]) & correct(name, context.clean(finding))
    both = right & np.isfinite(attacked) & ~np.isnan(tried)
    flipped, by_control = ~correct(name, attacked), tried == 1

    def share(of: NDArray[np.bool_]) -> Estimate:
        return proportion(of, both, context.patients, context.n_patients, confidence=context.confidence)

    parts = [cells(partial(share, of)) for of in (flipped, by_control, flipped & ~by_control)]
    left_out = int((right & ~both).sum())
    why = f"{left_out} right call(s) were not tried" if left_out else ""
    reasons = "; ".join(dict.fromkeys(filter(None, [why, *(str(part[3]) for part in parts if part[3])])))
    row: list[Cell] = [finding, str(level), DIRECTIONS[name], int(both.sum())]
    return [*row, *parts[0][:3], called, *parts[1][:3], *parts[2][:3], reasons]
