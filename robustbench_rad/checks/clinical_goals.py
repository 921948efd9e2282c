"""Goals about all findings of a case: how often an attack reaches them.

Judged, with a tolerance each: ``hide``, ``create``, ``quiet``, ``all-clear``, ``swap`` and ``triage``, each a report that is
wrong in a way that a reader would act on. Their default tolerances are those of a flip, for each of them contains one.

Shown, never judged: ``any``, because it rises with the number of findings and a tolerance for it would belong to one model;
``alarm``, because a report with everything on it is noticed; ``drift``, because a probability that moves without crossing a
threshold is no error yet. A check that asks for these alone has judged nothing, and counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.attacks.clinical_goals import DEFAULT_GOALS
from robustbench_rad.checks.comparisons import Comparison, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import mean
from robustbench_rad.statistics.proportions import proportion
from robustbench_rad.statistics.quantiles import quantile

JUDGED = ("hide", "create", "quiet", "all-clear", "swap", "triage")
WORDS = {
    "hide": "hide: true positives lost",
    "create": "create: true negatives lost",
    "any": "any: some right call lost",
    "quiet": "quiet: one right call lost, all others unmoved",
    "all-clear": "all-clear: a case with a finding reads normal",
    "alarm": "alarm: every absent finding called",
    "triage": "triage: an urgent case falls below the cut-off",
}
PER_FINDING = ("hide", "create", "quiet")
QUANTILES = {"median": 0.5, "90th percentile": 0.9}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One goal that was asked for.

    Attributes:
        goal: Which.
        name: Its name in the measurements: for swap, with the finding that is created.
        finding: Finding it belongs to, "" for whole cases.
        words: What is counted.
    """

    goal: str
    name: str
    finding: str
    words: str


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the share of attackable cases in which each goal is reached, at every level."""
    goals = list(_goals(context, check))
    levels = context.levels.get(check.id, ())
    comparisons = [
        Comparison(
            finding=goal.finding,
            quantity=goal.words,
            harm=goal.goal,
            level=level,
            counted="negatives" if goal.goal == "create" else "positives",
            estimate=partial(_share, context, check.id, goal, level),
            doubt=_blind(context, check.id, goal),
            cases=partial(_attackable, context, check.id, goal, level),
        )
        for goal in goals
        if goal.goal in JUDGED
        for level in levels
    ]
    tables = [_reached(context, check, goals), _alarms(context, check), _drifts(context, check)]
    return CheckOutcome(judged=judge_jointly(context, check, comparisons), tables=[t for t in tables if t.rows])


def _asked(check: CheckSpec) -> tuple[str, ...]:
    return tuple(str(goal) for goal in check.options.get("goals", DEFAULT_GOALS))


def _goals(context: JudgeContext, check: CheckSpec) -> Iterator[Shown]:
    for goal in _asked(check):
        if goal == "swap":
            for hidden, created in check.options.get("pairs", ()):
                words = f"swap: {hidden} hidden and {created} called"
                yield Shown(goal=goal, name=f"swap to {created}", finding=hidden, words=words)
        elif goal != "drift":
            for finding in context.findings if goal in PER_FINDING else ("",):
                yield Shown(goal=goal, name=goal, finding=finding, words=WORDS[goal])


def _values(context: JudgeContext, condition: str, goal: Shown, level: Level) -> Floats:
    return context.measured(condition, f"reached {goal.name}", level.name, goal.finding)


def _attackable(context: JudgeContext, condition: str, goal: Shown, level: Level) -> NDArray[np.bool_]:
    return ~np.isnan(_values(context, condition, goal, level))


def _share(context: JudgeContext, condition: str, goal: Shown, level: Level, confidence: float) -> Estimate:
    values = _answered(context, condition, level, _values(context, condition, goal, level))
    known = ~np.isnan(values)
    if not known.any():
        raise StatisticsError("no case in which this goal could be reached and was not already")
    return proportion(values == 1, known, context.patients, context.n_patients, confidence=confidence)


def _answered(context: JudgeContext, condition: str, level: Level, values: Floats) -> Floats:
    """The same values; refused where cases that count have no answer."""
    silent = int(np.isinf(values).sum())
    if silent:
        why = context.scores.reasons.get((condition, level.name), "the model gave no number")
        raise StatisticsError(f"no answer for {silent} case(s): {why}")
    return values


def _blind(context: JudgeContext, condition: str, goal: Shown) -> str:
    blind = int((context.measured(condition, f"zero_gradient {goal.name}", finding=goal.finding) > 0).sum())
    if not blind:
        return ""
    return f"masked gradients: exactly zero or not a number on {blind} case(s), so the attack could not search there"


def _reached(context: JudgeContext, check: CheckSpec, goals: list[Shown]) -> Table:
    rows: list[list[Cell]] = []
    for goal in goals:
        for level in context.levels.get(check.id, ()):
            values = _values(context, check.id, goal, level)
            share = cells(partial(_share, context, check.id, goal, level, context.confidence))
            counts = int((~np.isnan(values)).sum()), int((values == 1).sum())
            judged = "judged" if goal.goal in JUDGED else "shown"
            rows.append([goal.words, goal.finding or "whole case", str(level), *counts, *share, judged])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Clinical goals reached, each on one plane that a file can hold",
        columns=[
            "goal",
            "finding",
            "level",
            "attackable",
            "reached",
            "share",
            "lower",
            "upper",
            "not assessable",
            "use",
        ],
        rows=rows,
        note="Attackable: the calls that the goal would turn are right on the clean image. Intervals are clustered by "
        "patient. Only what is found can be counted: the search may miss a plane that reaches a goal.",
    )


def _alarms(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[Cell]] = []
    for level in context.levels.get(check.id, ()) if "alarm" in _asked(check) else ():
        values = context.measured(check.id, "alarms raised", level.name)
        found = cells(partial(_mean, context, check.id, level, values))
        rows.append([str(level), int((~np.isnan(values)).sum()), *found])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Absent findings newly called on one plane, per case",
        columns=["level", "cases", "mean", "lower", "upper", "not assessable"],
        rows=rows,
        note="The plane found by the search that calls as many absent findings as it can. Shown, not judged.",
    )


def _mean(context: JudgeContext, condition: str, level: Level, values: Floats) -> Estimate:
    known = _answered(context, condition, level, values)
    return mean(known, context.patients, context.n_patients, confidence=context.confidence)


def _drifts(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings if "drift" in _asked(check) else ():
        for level in context.levels.get(check.id, ()):
            values = context.measured(check.id, "drift", level.name, finding)
            for name, share in QUANTILES.items():
                found = cells(partial(_quantile, context, check.id, level, finding, values, share))
                rows.append([finding, str(level), int((~np.isnan(values)).sum()), name, *found])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Drift: how far the probability can be moved, whatever is called",
        columns=["finding", "level", "cases", "quantile", "drift", "lower", "upper", "not assessable"],
        rows=rows,
        note="Largest change of the probability, up or down, that the search found. Shown, not judged.",
    )


def _quantile(
    context: JudgeContext, condition: str, level: Level, finding: str, values: Floats, share: float
) -> Estimate:
    known = _answered(context, condition, level, values)
    if np.isnan(known).all() and finding not in context.thresholds:
        raise StatisticsError("no threshold is declared, so the largest class decides and there is no probability")
    return quantile(known, share, context.patients, context.n_patients, confidence=context.confidence)
