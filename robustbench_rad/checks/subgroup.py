"""Subgroups: does the model serve one group of patients worse than the rest?

Each value of a metadata column, or of two columns crossed, is set against all other cases: metric of the rest minus metric of
the group, for AUROC and for sensitivity and specificity at the locked operating point. The worst value decides; all intervals
hold together. A group too small to say anything is shown as *not powered*, never dropped. A column that is a risk factor
(disease is distributed differently there by nature) is shown and not judged.

The equalised-odds gap, the largest difference of sensitivity or of specificity between any two groups, is shown beside
them. No tolerance of it is agreed, so it is never judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import Comparison, judge_jointly, missing_check, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import shown
from robustbench_rad.checks.metrics import METRICS, NAMES, metric, usable_labels
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import PlanError, StatisticsError, suggestion
from robustbench_rad.plan import Plan
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table, Verdict
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.gaps import Gap, rate_gap

LEAST = 10  # cases of a label that a group and its rest need: below, an interval spans most of the scale
MOST_VALUES = 20
EQUALISED_ODDS = "equalised-odds gap, any two values"
SIDES: Mapping[str, tuple[float, ...]] = {"auroc": (1.0, 0.0), "sensitivity": (1.0,), "specificity": (0.0,)}
WORDS = {1.0: "positives", 0.0: "negatives"}
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """One column, or two crossed.

    Attributes:
        columns: Names of the columns.
        values: Group of each case; "" where any of the columns is missing.
        judged: False when a risk factor is among the columns.
        shared: Cases that stand in every group and every rest, as negatives do for strata of the positives; empty for none.
    """

    columns: tuple[str, ...]
    values: tuple[str, ...]
    judged: bool
    shared: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        """As it is shown."""
        return " × ".join(self.columns)

    @property
    def groups(self) -> list[str]:
        """Groups with a case, sorted."""
        return sorted(set(self.values) - {""})

    def mask(self, group: str) -> Mask:
        """Cases of one group."""
        return self._with_shared(value == group for value in self.values)

    def known(self) -> Mask:
        """Cases that belong to a group."""
        return self._with_shared(value != "" for value in self.values)

    def rest(self, group: str) -> Mask:
        """Cases of all other groups; a case without a value belongs to none."""
        return self._with_shared(value not in ("", group) for value in self.values)

    def _with_shared(self, chosen: Iterable[bool]) -> Mask:
        mask = np.fromiter(chosen, dtype=np.bool_, count=len(self.values))
        return mask | np.array(self.shared, dtype=np.bool_) if self.shared else mask


def check_options(plan: Plan, options: Mapping[str, Any]) -> None:
    """Refuse options that the plan's metadata cannot serve.

    Raises:
        PlanError: Not lists of column names, or a column that is not declared.
    """
    place = "[checks.'subgroup.performance']"
    columns, crossings = options.get("columns", []), options.get("crossings", [])
    if not _names(columns):
        raise PlanError(f'{place} columns: expected a list such as ["scanner"], got {columns!r}')
    pairs = isinstance(crossings, Sequence) and not isinstance(crossings, str)
    if not pairs or not all(_names(pair) and len(set(pair)) == len(pair) == 2 for pair in crossings):
        raise PlanError(f'{place} crossings: expected pairs such as [["scanner", "sex"]], got {crossings!r}')
    for name in (*columns, *(name for pair in crossings for name in pair)):
        if name not in plan.data.metadata:
            hint = suggestion(name, plan.data.metadata) if plan.data.metadata else "Declare it there with its role."
            raise PlanError(f"{place}: {name!r} is not declared in [data] metadata", hint=hint)


def _names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the worst gap of every finding, column and metric."""
    groupings = _groupings(context, check)
    if not groupings:
        reason = 'no metadata column: declare one, e.g. [data] metadata = { sex = "demographic", scanner = "nuisance" }'
        return CheckOutcome(judged=[missing_check(check, reason)])
    comparisons = [
        comparison
        for grouping in groupings
        for finding in context.findings
        for name in METRICS
        for comparison in gap_comparisons(context, grouping, finding, name)
    ]
    risky = {grouping.name for grouping in groupings if not grouping.judged}
    small = {grouping.name: grouping for grouping in groupings}
    judged = [
        _told(context, small[item.criterion.subgroup], item, informational=item.criterion.subgroup in risky)
        for item in judge_jointly(context, check, comparisons)
    ]
    gaps = [_shown_gap(context, check, grouping, finding) for grouping in groupings for finding in context.findings]
    return CheckOutcome(judged=[*judged, *gaps], tables=[_table(context, check, grouping) for grouping in groupings])


def _groupings(context: JudgeContext, check: CheckSpec) -> list[Grouping]:
    columns = check.options.get("columns", list(context.roles))
    return [
        _grouping(context, tuple(names)) for names in [*([c] for c in columns), *check.options.get("crossings", [])]
    ]


def _grouping(context: JudgeContext, columns: tuple[str, ...]) -> Grouping:
    rows = zip(*(context.metadata[column] for column in columns), strict=True)
    return Grouping(
        columns=columns,
        values=tuple(" × ".join(row) if all(row) else "" for row in rows),
        judged=all(context.roles[column] != "risk_factor" for column in columns),
    )


def gap_comparisons(context: JudgeContext, grouping: Grouping, finding: str, name: str) -> list[Comparison]:
    """Every powered group against the rest; one that says why when there is none."""
    groups = [group for group in grouping.groups if not lacking_cases(context, grouping, group, finding, name)]
    base = Comparison(
        finding=finding,
        quantity=f"{NAMES[name]} gap, worst value against the rest",
        harm=name,
        subgroup=grouping.name,
        counted="negatives" if name == "specificity" else "positives",
        estimate=partial(_refuse, _why_none(grouping, name)),
    )
    if not groups or len(grouping.groups) > MOST_VALUES:
        return [base]
    return [
        replace(
            base,
            level=Level(name=f"{group} against the rest", value=float(place), unit=""),
            estimate=partial(_gap, context, grouping, group, finding, name),
            cases=grouping.known,
        )
        for place, group in enumerate(groups)
    ]


def _why_none(grouping: Grouping, name: str) -> str:
    count = len(grouping.groups)
    if count < 2:
        return f"{grouping.name} has {count} known value(s): two are needed"
    if count > MOST_VALUES:
        return f"{grouping.name} has {count} values: group them, {MOST_VALUES} at most"
    sides = " and ".join(f"{LEAST} {WORDS[side]}" for side in SIDES[name])
    return f"not powered: no value of {grouping.name} and its rest have {sides} each"


def _refuse(reason: str, _confidence: float) -> Estimate:
    raise StatisticsError(reason)


def _gap(context: JudgeContext, grouping: Grouping, group: str, finding: str, name: str, confidence: float) -> Estimate:
    """Metric of the rest minus metric of the group."""
    rest = group_metric(context, grouping.rest(group), finding, name, confidence)
    return difference(rest, group_metric(context, grouping.mask(group), finding, name, confidence))


def group_metric(context: JudgeContext, mask: Mask, finding: str, name: str, confidence: float) -> Estimate:
    """A metric over some of the cases; errors as :func:`~robustbench_rad.checks.metrics.metric`."""
    margins: Floats = np.where(mask, context.clean(finding), np.nan)
    return metric(context, name, finding, margins, confidence)


def lacking_cases(context: JudgeContext, grouping: Grouping, group: str, finding: str, name: str) -> str:
    """What a group or its rest has too few of for a metric, in words; "" when it is powered."""
    label = context.label(finding)
    for mask, words in ((grouping.mask(group), ""), (grouping.rest(group), " in the rest")):
        for side in SIDES[name]:
            count = int((mask & (label == side)).sum())
            if count < LEAST:
                return f"{count} {WORDS[side]}{words}, {LEAST} needed"
    return ""


def _told(context: JudgeContext, grouping: Grouping, item: Judged, *, informational: bool) -> Judged:
    """The criterion with the groups it could not look at; only shown where a risk factor is involved."""
    criterion = item.criterion
    name = next(key for key, word in NAMES.items() if criterion.quantity.startswith(word))
    lacking = {group: lacking_cases(context, grouping, group, criterion.finding, name) for group in grouping.groups}
    small = [f"{group} ({reason})" for group, reason in lacking.items() if reason]
    reason = criterion.reason
    if small and criterion.harm.upper is not None:
        reason = f"{reason}; not powered: {', '.join(small)}"
    if not informational:
        return replace(item, criterion=criterion.model_copy(update={"reason": reason}))
    update = {"reason": f"a risk factor, shown and not judged: {reason}", "verdict": Verdict.INFORMATIONAL}
    return Judged(criterion=criterion.model_copy(update={**update, "needed_positives": None}), influence=None)


def _shown_gap(context: JudgeContext, check: CheckSpec, grouping: Grouping, finding: str) -> Judged:
    """The equalised-odds gap of a finding and column: shown, never judged."""
    reason = ""
    try:
        gap, lacking = _rate_gap(context, grouping, finding)
        largest = gap.largest
        order = f"{largest.quantity}: {largest.worse} below {largest.better}"
        reason = order if gap.estimate.value > 0 else "no difference in these cases"
        reason += f"; not powered: {', '.join(lacking)}" if lacking else ""
        reason += "" if grouping.judged else "; a risk factor"
        make = partial(_absolute, gap)
    except StatisticsError as error:
        make = partial(_refuse, error.message, context.confidence)
    name, known = grouping.name, grouping.known()
    return shown(context, check, finding, EQUALISED_ODDS, make, reason=reason, subgroup=name, cases=known)


def _rate_gap(context: JudgeContext, grouping: Grouping, finding: str) -> tuple[Gap, list[str]]:
    """The gap over groups with enough cases of a label, and the rates of groups that have not.

    Raises:
        StatisticsError: No two groups have; the text is the reason.
    """
    if not 2 <= len(grouping.groups) <= MOST_VALUES:
        raise StatisticsError(_why_none(grouping, "sensitivity"))
    margins = context.clean(finding)
    label = usable_labels(context, finding, margins).copy()
    lacking = []
    for side, rate in ((1.0, "sensitivity"), (0.0, "specificity")):
        for group in grouping.groups:
            cell = grouping.mask(group) & (label == side)
            if cell.sum() < LEAST:
                lacking.append(f"{rate} of {group} ({int(cell.sum())} {WORDS[side]}, {LEAST} needed)")
                label[cell] = np.nan
    try:
        gap = rate_gap(
            label,
            margins >= 0,
            grouping.values,
            context.patients,
            context.n_patients,
            seed=context.seed,
            confidence=context.confidence,
        )
    except StatisticsError as error:
        raise StatisticsError(f"not powered: {', '.join(lacking)}" if lacking else error.message) from error
    return gap, lacking


def _absolute(gap: Gap) -> Estimate:
    """The gap as a distance: not below 0, and as far as the interval of any difference reaches either way."""
    farthest = max(max(other.estimate.upper, -other.estimate.lower) for other in gap.comparisons)
    return replace(gap.estimate, lower=max(gap.estimate.lower, 0.0), upper=farthest)


def _table(context: JudgeContext, check: CheckSpec, grouping: Grouping) -> Table:
    """Every group with its metrics and intervals, whatever its size."""
    sizes = Counter(grouping.values)
    rows: list[list[str | float | int | None]] = []
    for finding in context.findings:
        label = context.label(finding)
        for group in [*grouping.groups, *([""] if sizes[""] else [])]:
            mask = grouping.mask(group)
            lacking = lacking_cases(context, grouping, group, finding, "auroc") if group else ""
            numbers = [number for name in METRICS for number in _numbers(context, grouping, group, finding, name)]
            counts = [int((mask & (label == side)).sum()) for side in (1.0, 0.0)]
            note = f"not powered: {lacking}" if lacking else ""
            rows.append([finding, group or "(missing)", sizes[group], *counts, *numbers, note])
    names = [f"{NAMES[name]}{part}" for name in METRICS for part in ("", " lower", " upper")]
    return Table(
        check=check.id,
        domain=check.domain,
        title=f"Performance by {grouping.name}",
        columns=["finding", grouping.name, "cases", "positives", "negatives", *names, "note"],
        rows=rows,
        note="" if grouping.judged else "A risk factor: shown, not judged.",
    )


def _numbers(context: JudgeContext, grouping: Grouping, group: str, finding: str, name: str) -> list[float | None]:
    mask = grouping.mask(group)
    label = context.label(finding)
    if any((mask & (label == side)).sum() < LEAST for side in SIDES[name]):
        return [None, None, None]  # an interval of so few would be read as a number
    found = try_interval(partial(group_metric, context, mask, finding, name, context.confidence))
    return [found.estimate, found.lower, found.upper]
