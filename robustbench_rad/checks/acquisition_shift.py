"""Acquisition shifts: what is lost, paired with the clean images of the same cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import Comparison, Prepared, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.metrics import METRICS, NAMES, curve, metric_drop
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate

LEAST_CHANGE = 0.01  # below one percent of the display range no effect is expected
LEAST_SHARE = 0.8  # fewer altered cases than this share of all may differ from the rest in what matters


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the drop of AUROC, sensitivity and specificity at every level of the shift."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity=f"{NAMES[name]} drop",
            harm=name,
            level=level,
            counted="negatives" if name == "specificity" else "positives",
            estimate=Prepared(partial(_drop, context, check.id, level.name, name, finding)),
            cases=partial(_altered, context, check.id, level.name, finding),
            doubt=_left_out(context, check.id, level),
        )
        for finding in context.findings
        for name in METRICS
        for level in context.levels.get(check.id, ())
    ]
    curves = [curve(context, check, finding, name, lambda _: True) for finding in context.findings for name in METRICS]
    return CheckOutcome(
        judged=judge_jointly(context, check, comparisons),
        curves=curves,
        tables=_measurements(context, check),
        notices=_without_effect(context, check),
    )


def _without_effect(context: JudgeContext, check: CheckSpec) -> list[str]:
    """Say when the model's input is too coarse for the shift to reach it: a pass then says little."""
    levels = context.levels.get(check.id, ())
    changes = [_median(context.measured(check.id, "change_at_model_input", level.name)) for level in levels]
    known = [change for change in changes if change is not None]
    if not known or max(known) >= LEAST_CHANGE:
        return []
    return [
        f"{check.id}: the strongest level changes the model's input by {max(known):.2%} of the display range (SD): "
        "no effect is expected at this input size, so a pass says little"
    ]


def _left_out(context: JudgeContext, condition: str, level: Level) -> str:
    """Why a pass may not be believed: the cases that could be altered are too few of all to stand for them."""
    altered = ~np.isnan(context.margins(condition, level.name, context.findings[0]))
    if altered.mean() >= LEAST_SHARE:
        return ""
    why = context.scores.reasons.get((condition, level.name), "no meaning there")
    return f"only {int(altered.sum())} of {len(altered)} cases could be altered at {level}: {why}"


def _drop(context: JudgeContext, condition: str, level: str, name: str, finding: str) -> Callable[[float], Estimate]:
    return metric_drop(context, name, finding, context.altered(condition, level, finding))


def _altered(context: JudgeContext, condition: str, level: str, finding: str) -> NDArray[np.bool_]:
    return ~np.isnan(context.margins(condition, level, finding))


def _measurements(context: JudgeContext, check: CheckSpec) -> list[Table]:
    """What the shift did to the images, per level: median of each measured quantity, number of cases it applied to."""
    names = sorted({q.name for q in context.scores.quantities if q.condition == check.id and not q.finding})
    rows: list[list[str | float | int | None]] = []
    for level in context.levels.get(check.id, ()):
        altered = ~np.isnan(context.margins(check.id, level.name, context.findings[0]))
        values = [_median(_measured(context, check.id, name, level.name)) for name in names]
        rows.append([str(level), int(altered.sum()), int((~altered).sum()), *values])
    columns = ["level", "cases altered", "not applicable", *(f"median {name.replace('_', ' ')}" for name in names)]
    headers = [_header(context.scores.header(check.id, level.name)) for level in context.levels.get(check.id, ())]
    if any(headers):
        columns.append("header would say")
        rows = [[*row, header] for row, header in zip(rows, headers, strict=True)]
    return [Table(check=check.id, domain=check.domain, title="What the shift did", columns=columns, rows=rows)]


def _header(texts: Mapping[str, Sequence[str]]) -> str:
    """In a few words: what a header of the altered images would say."""
    return "; ".join(
        f"{keyword} {', '.join(found[:3])}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        for keyword, found in texts.items()
    )


def _measured(context: JudgeContext, condition: str, name: str, level: str) -> Floats:
    """A quantity of one level, or the one that all levels share."""
    values = context.measured(condition, name, level)
    return context.measured(condition, name) if np.isnan(values).all() else values


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
