"""Border ablation: what the model loses when the border ring or the corners are those of the mean image.

A drop says that something there is used: a marker, a collimation edge, the outline of the body. It needs no knowledge of what
it is, and sees only what goes with the label in these cases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks._exempt import judge_others
from robustbench_rad.checks._exempt import notices as exempted
from robustbench_rad.checks.comparisons import Comparison, Prepared, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell
from robustbench_rad.checks.insertion import NO_SIGNAL, QUANTUM
from robustbench_rad.checks.masked_anatomy import DUST
from robustbench_rad.checks.metrics import metric, metric_drop
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.paired_effect import standardised_effect


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the paired drop of AUROC of every finding; of ring and corners the worse decides."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity="AUROC drop without the border",
            harm="",
            level=level,
            estimate=Prepared(partial(_drop, context, check.id, level.name, finding)),
            cases=partial(_altered, context, check.id, level.name, finding),
        )
        for finding in context.findings
        for level in context.levels.get(check.id, ())
    ]
    return CheckOutcome(
        judged=judge_others(context, check, comparisons),
        tables=[_table(context, check)],
        notices=exempted(context, check.id),
    )


def _drop(context: JudgeContext, condition: str, place: str, finding: str) -> Callable[[float], Estimate]:
    ablated = context.altered(condition, place, finding)
    if metric(context, "auroc", finding, context.clean(finding), context.confidence).lower <= 0.5:
        raise StatisticsError(NO_SIGNAL)
    return metric_drop(context, "auroc", finding, settled(ablated, context.clean(finding)))


def settled(ablated: Floats, clean: Floats) -> Floats:
    """Margins as they may be ranked: a change by rounding is none, and a constant score has no order.

    >>> settled(np.array([1.0, 2.0 + 1e-9, np.nan]), np.array([1.5, 2.0, 0.0])).tolist()
    [1.0, 2.0, nan]
    """
    seen = np.isfinite(ablated) & np.isfinite(clean)
    spread = float(np.std(clean[seen])) if seen.any() else 0.0
    if seen.any() and float(np.std(ablated[seen])) < DUST * spread:
        return np.where(np.isnan(ablated), np.nan, 0.0)
    return np.where(np.abs(ablated - clean) <= QUANTUM * spread, clean, ablated)


def _altered(context: JudgeContext, condition: str, place: str, finding: str) -> NDArray[np.bool_]:
    return ~np.isnan(context.margins(condition, place, finding))


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows = [
        [finding, level.name, *_row(context, check.id, level.name, finding)]
        for finding in context.findings
        for level in context.levels.get(check.id, ())
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What is lost without the border",
        columns=[
            "finding",
            "place",
            "covered",
            "cases",
            "AUROC drop",
            "lower",
            "upper",
            "effect",
            "from",
            "to",
            "note",
        ],
        rows=rows,
        note="Covered: share of the image. AUROC drop: clean minus ablated, paired. Effect: mean change of the score in SD of "
        "the score. A shortcut that does not go with the label in these cases moves the score and leaves the AUROC.",
    )


def _row(context: JudgeContext, condition: str, place: str, finding: str) -> list[Cell]:
    covered = context.measured(condition, "covered_share", place)
    share = float(np.nanmean(covered)) if np.isfinite(covered).any() else None
    margins, clean = context.margins(condition, place, finding), context.clean(finding)
    drop = try_interval(lambda: _drop(context, condition, place, finding)(context.confidence))
    change = np.where(np.isfinite(margins), margins - clean, np.nan)
    effect = try_interval(
        partial(standardised_effect, change, clean, context.patients, context.n_patients, confidence=context.confidence)
    )
    why = [shown.method for shown in (drop, effect) if shown.estimate is None]
    numbers = [drop.estimate, drop.lower, drop.upper, effect.estimate, effect.lower, effect.upper]
    return [share, int(np.isfinite(margins).sum()), *numbers, "; ".join(dict.fromkeys(why))]
