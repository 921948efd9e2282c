"""The worst acquisition inside a clinical envelope: calls lost as by an attack, and the parameters that did most harm."""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks import adversarial
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.informational import Cell, cells
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.quantiles import quantile

WORST, FOLLOWED, LEFT_OUT = "worst ", "followed ", "left_out "


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the share of correct calls that the worst parameters of each case turn, per direction."""
    outcome = adversarial.judge(context, check)
    tables = [_renamed(table) for table in outcome.tables]
    parameters = _parameters(context, check)
    tables += [parameters] if parameters.rows else []
    return CheckOutcome(judged=outcome.judged, curves=outcome.curves, tables=tables, notices=outcome.notices)


def _renamed(table: Table) -> Table:
    """Images of an acquisition are scored as those of a shift are, without rounding to the file's bit depth."""
    flips = table.title.startswith("Flips")
    return table.model_copy(update={"title": "Flips at the worst parameters of each case"}) if flips else table


def _shifts(context: JudgeContext, condition: str) -> list[str]:
    names = {q.name for q in context.scores.quantities if q.condition == condition and q.name.startswith(LEFT_OUT)}
    return sorted(name.removeprefix(LEFT_OUT) for name in names)


def _parameters(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[Cell]] = []
    for shift in _shifts(context, check.id):
        left_out = int((context.measured(check.id, LEFT_OUT + shift) > 0).sum())
        for finding in context.findings:
            for level in context.levels.get(check.id, ()):
                values = context.measured(check.id, WORST + shift, level.name, finding)
                known = values[~np.isnan(values)]
                median = partial(
                    quantile, values, 0.5, context.patients, context.n_patients, confidence=context.confidence
                )
                ends = [float(known.min()), float(known.max())] if len(known) else [None, None]
                followed = context.measured(check.id, FOLLOWED + shift, level.name, finding)
                led = int((followed[~np.isnan(values)] > 0).sum())
                rows.append([shift, finding, str(level), len(known), *cells(median), *ends, led, left_out])
    columns = ["shift", "finding", "level", "cases", "median", "lower", "upper", "not assessable"]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Parameters that did most harm, case by case",
        columns=[*columns, "lowest", "highest", "by gradient", "left out"],
        rows=rows,
        note="Cases: those that some acquisition inside the envelope makes worse than the image as it is; the value of "
        "each case and whether a gradient led to it are kept with the scores. By gradient: cases whose worst combination was "
        "reached along the slope of this parameter, the others by trying. Left out: cases to "
        "which the shift does not apply. Lower and upper: limits of the median.",
    )
