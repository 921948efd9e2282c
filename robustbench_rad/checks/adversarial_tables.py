"""What an attack leaves of the model, beside the clean numbers: robust sensitivity and specificity, attacked AUROC, cost.

Robust sensitivity is the share of *all* positives that are still called under attack, so the errors of the clean model are
in it; the flip rate counts right calls only. Both are shown, for they answer different questions: what the model would be
worth under attack, and what the attack takes away. An attacked AUROC exists only where the search went on after the flip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, limits
from robustbench_rad.checks.metrics import correct, metric, metric_drop
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.operating_point import Costs, expected_cost
from robustbench_rad.statistics.proportions import proportion

SIDES = {"sensitivity": 1.0, "specificity": 0.0}
NO_PREVALENCE = "no prevalence is declared, so costs of misses and of false alarms cannot be added up"


def attacked_tables(context: JudgeContext, check: CheckSpec) -> list[Table]:
    """Tables of an attack: its performance, and its cost where the plan declares costs."""
    return [table for table in (_performance(context, check), _costs(context, check)) if table.rows]


def attacked_margins(context: JudgeContext, condition: str, level: Level, finding: str) -> Floats:
    """Margins under attack; every case with a known label has one.

    Raises:
        StatisticsError: Some have none, or no label is known.
    """
    margins, known = context.altered(condition, level.name, finding), ~np.isnan(context.label(finding))
    if not known.any():
        raise StatisticsError("no case with a known label")
    missing = int((known & ~np.isfinite(margins)).sum())
    if missing:
        raise StatisticsError(no_margin(context, condition, level.name, missing))
    return np.where(known, margins, np.nan)


def no_margin(context: JudgeContext, condition: str, level: str, cases: int) -> str:
    """What is said where an attack gave no margin: for how many cases, and why, where it said so."""
    why = context.scores.reasons.get((condition, level), "")
    return f"the attack gave no margin for {cases} case(s){': ' * bool(why)}{why}"


def robust_metric(context: JudgeContext, condition: str, level: Level, finding: str, name: str) -> Estimate:
    """Sensitivity, specificity or AUROC under attack, over all cases with a known label.

    Raises:
        StatisticsError: As :func:`attacked_margins`; or one class only.
    """
    margins = attacked_margins(context, condition, level, finding)
    return metric(context, name, finding, margins, context.confidence)


def _performance(context: JudgeContext, check: CheckSpec) -> Table:
    columns = ["finding", "level", "metric", "clean", "clean lower", "clean upper", "under attack", "lower", "upper"]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the attack leaves of the model",
        columns=[*columns, "right calls flipped", "flipped lower", "flipped upper", "not assessable"],
        rows=[row for finding in context.findings for row in _rows(context, check, finding)],
        note="Robust sensitivity and specificity: share of all positives still called and of all negatives still not "
        "called, the errors of the clean model included. Right calls flipped: of the calls that were right on the clean "
        "image only. AUROC: only at levels that are searched beyond the flip (full_search). Intervals one by one.",
    )


def _rows(context: JudgeContext, check: CheckSpec, finding: str) -> Iterator[list[Cell]]:
    clean = context.clean(finding)
    for level in context.levels.get(check.id, ()):
        under = partial(robust_metric, context, check.id, level, finding)
        for name in SIDES:
            flips = partial(_flips, context, check.id, level, finding, name)
            plain = partial(metric, context, name, finding, clean, context.confidence)
            yield [finding, str(level), f"robust {name}", *_side_by_side(plain, partial(under, name), flips)]
        if (check.id, level.name) in context.scores.full_search:
            plain = partial(metric, context, "auroc", finding, clean, context.confidence)
            found = _side_by_side(plain, partial(under, "auroc"))
            yield [finding, str(level), "attacked AUROC", *found[:-1], None, None, None, found[-1]]


def _side_by_side(*estimates: Callable[[], Estimate]) -> list[Cell]:
    """Value and limits of each estimate, and why some have none."""
    row: list[Cell] = []
    reasons: dict[str, None] = {}
    for make in estimates:
        try:
            row += limits(make())
        except StatisticsError as error:
            row += [None, None, None]
            reasons[error.message] = None
    return [*row, "; ".join(reasons)]


def _flips(context: JudgeContext, condition: str, level: Level, finding: str, name: str) -> Estimate:
    margins = attacked_margins(context, condition, level, finding)
    right = (context.label(finding) == SIDES[name]) & correct(name, context.clean(finding))
    if not right.any():
        raise StatisticsError("no right call that could be flipped")
    flipped = ~correct(name, margins)
    return proportion(flipped, right, context.patients, context.n_patients, confidence=context.confidence)


def _costs(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[Cell]] = []
    for finding in (finding for finding in context.findings if finding in context.costs):
        given = context.costs[finding]
        costs = Costs(miss=given.get("miss", 0.0), false_alarm=given.get("false_alarm", 0.0))
        clean = partial(_cost, context, finding, costs, None)
        for level in context.levels.get(check.id, ()):
            under = partial(_cost, context, finding, costs, (check.id, level))
            rise = partial(_rise, context, finding, costs, (check.id, level))
            rows.append([finding, str(level), *_side_by_side(clean, under, rise)])
    columns = ["finding", "level", "clean", "clean lower", "clean upper", "under attack", "lower", "upper"]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Risk: expected cost per case at the declared prevalence and costs, clean and under attack",
        columns=[*columns, "rise", "rise lower", "rise upper", "not assessable"],
        rows=rows,
        note="Prevalence times missed positives times the cost of a miss, plus the same for negatives and false alarms. The "
        "attack is supposed to be made on every case, in the direction that its label says.",
    )


def _cost(context: JudgeContext, finding: str, costs: Costs, attack: tuple[str, Level] | None) -> Estimate:
    prevalence = _prevalence(context, finding)
    margins = context.clean(finding) if attack is None else attacked_margins(context, *attack, finding)
    rates = [metric(context, name, finding, margins, context.confidence) for name in SIDES]
    return expected_cost(rates[0], rates[1], prevalence, costs)


def _rise(context: JudgeContext, finding: str, costs: Costs, attack: tuple[str, Level]) -> Estimate:
    """What the attack costs: the losses of both rates, each paired, for it is made on the same cases."""
    prevalence = _prevalence(context, finding)
    margins = attacked_margins(context, *attack, finding)
    lost = [metric_drop(context, name, finding, margins)(context.confidence) for name in SIDES]
    alarms = lost[1].affine(scale=-(1 - prevalence) * costs.false_alarm)
    return difference(lost[0].affine(scale=prevalence * costs.miss), alarms)


def _prevalence(context: JudgeContext, finding: str) -> float:
    if finding not in context.prevalence:
        raise StatisticsError(NO_PREVALENCE)
    return context.prevalence[finding]
