"""Faults that are there or not (polarity, flips, a missing rescale), and whole scanners: listed one by one, never averaged.

Such a fault has no strength, so there is no tolerance that it should keep: a model may be right to fail on an image that is
upside down. What is lost under each is shown with its interval, and counts for no point.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.acquisition_levels import what_the_shift_did, without_effect
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells
from robustbench_rad.checks.metrics import METRICS, NAMES, metric, metric_drop
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show what every fault does to AUROC, sensitivity and specificity, paired with the clean images."""
    rows = [
        _row(context, check, finding, level, name)
        for finding in context.findings
        for level in context.levels.get(check.id, ())
        for name in METRICS
    ]
    listed = Table(
        check=check.id,
        domain=check.domain,
        title="What each of them costs",
        columns=[
            "finding",
            "level",
            "metric",
            "cases",
            *("under it", "lower", "upper"),
            *("drop", "drop lower", "drop upper", "note"),
        ],
        rows=rows,
        note="Listed, not averaged: shown and not judged. Drop: clean minus altered on the same cases.",
    )
    tables = [listed] if rows else []
    return CheckOutcome(
        judged=[], tables=[*tables, *what_the_shift_did(context, check)], notices=without_effect(context, check)
    )


def _row(context: JudgeContext, check: CheckSpec, finding: str, level: Level, name: str) -> list[Cell]:
    margins = context.margins(check.id, level.name, finding)
    *under, why = cells(
        lambda: metric(context, name, finding, _altered(context, check, finding, level), context.confidence)
    )
    *drop, reason = cells(partial(_drop, context, check, finding, level, name))
    return [finding, str(level), NAMES[name], int((~np.isnan(margins)).sum()), *under, *drop, why or reason]


def _altered(context: JudgeContext, check: CheckSpec, finding: str, level: Level) -> Floats:
    return context.altered(check.id, level.name, finding)


def _drop(context: JudgeContext, check: CheckSpec, finding: str, level: Level, name: str) -> Estimate:
    return metric_drop(context, name, finding, _altered(context, check, finding, level))(context.confidence)
