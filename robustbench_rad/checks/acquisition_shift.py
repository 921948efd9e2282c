"""Acquisition shifts: what is lost, paired with the clean images of the same cases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.acquisition_levels import how_far_it_holds, what_the_shift_did, without_effect
from robustbench_rad.checks.comparisons import Comparison, Prepared, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.metrics import METRICS, NAMES, curve, metric_drop
from robustbench_rad.conditions import Level
from robustbench_rad.profile import CheckSpec
from robustbench_rad.statistics.estimate import Estimate

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
    judged = judge_jointly(context, check, comparisons)
    return CheckOutcome(
        judged=judged,
        curves=curves,
        tables=[*what_the_shift_did(context, check), *how_far_it_holds(context, check, comparisons, judged)],
        notices=without_effect(context, check),
    )


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
