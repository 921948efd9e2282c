"""Label-conditional dependence: does the score tell the scanner among cases of the same label?

An association of score and scanner across labels is no evidence, since prevalence differs between scanners; within a label it
is. Without a confirming intervention it is a *scanner-dependent score*, a matter of robustness, not a learned shortcut.
The interval judges; the exact p-value of each finding and column, by Holm for all of them, stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm
from robustbench_rad.statistics.permutation import DRAWS, any_value_permutation_p

LEAST_CASES = 10  # a value carried by fewer cases is shown as not powered
MOST_VALUES = 20


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge |AUROC(score; value of a nuisance column | label) - 0.5| for every value against the rest."""
    columns = [column for column, role in context.roles.items() if role == "nuisance"]
    if not columns:
        reason = 'no nuisance column: declare one, e.g. [data] metadata = { scanner = "nuisance" }'
        comparisons = [_refused(finding, "", reason) for finding in context.findings]
        return CheckOutcome(judged=judge_jointly(context, check, comparisons))
    comparisons = [
        comparison
        for finding in context.findings
        for column in columns
        for comparison in _column(context, finding, column)
    ]
    found = _permutation(context, columns)
    judged = [_told(item, found) for item in judge_jointly(context, check, comparisons)]
    return CheckOutcome(judged=judged, tables=[_table(context, check, columns), _p_table(check, found)])


def _column(context: JudgeContext, finding: str, column: str) -> list[Comparison]:
    values = _values(context, column)
    if not 2 <= len(values) <= MOST_VALUES:
        return [_refused(finding, column, _unsuitable(column, values))]
    shown = values[:1] if len(values) == 2 else values  # with two values, one against the other says it all
    return [
        Comparison(
            finding=finding,
            quantity=f"score tells {column}",
            harm="",
            subgroup=f"{column}={value}",
            estimate=partial(_dependence, context, finding, column, value),
            counted="patients",
            cases=partial(_known, context, column),
        )
        for value in shown
    ]


def _unsuitable(column: str, values: list[str]) -> str:
    if len(values) < 2:
        return f"{column} has {len(values)} value with {LEAST_CASES} cases or more"
    return f"{column} has {len(values)} values: group them"


def _refused(finding: str, column: str, reason: str) -> Comparison:
    def refuse(_confidence: float) -> Estimate:
        raise StatisticsError(reason)

    return Comparison(finding=finding, quantity=f"score tells {column or 'the scanner'}", harm="", estimate=refuse)


def _values(context: JudgeContext, column: str) -> list[str]:
    counts: dict[str, int] = {}
    for value in context.metadata[column]:
        counts[value] = counts.get(value, 0) + 1
    return sorted(value for value, count in counts.items() if value and count >= LEAST_CASES)


def _known(context: JudgeContext, column: str) -> NDArray[np.bool_]:
    return np.array([value != "" for value in context.metadata[column]], dtype=np.bool_)


def _dependence(context: JudgeContext, finding: str, column: str, value: str, confidence: float) -> Estimate:
    """Distance of the label-conditional AUROC from 0.5."""
    return _conditional(context, finding, column, value, confidence).folded(centre=0.5)


def _conditional(context: JudgeContext, finding: str, column: str, value: str, confidence: float) -> Estimate:
    attribute: Floats = np.array([np.nan if v == "" else float(v == value) for v in context.metadata[column]])
    return conditional_auc(
        context.label(finding),
        context.clean(finding),
        attribute,
        context.patients,
        context.n_patients,
        confidence=confidence,
    )


@dataclass(frozen=True, kw_only=True)
class PValue:
    """Permutation p-value of a finding and column, adjusted by Holm over all that have one; or why there is none."""

    values: tuple[str, ...]
    p: float = float("nan")
    adjusted: float = float("nan")
    reason: str = ""


def _permutation(context: JudgeContext, columns: list[str]) -> dict[tuple[str, str], PValue]:
    """P-values of every finding and column, those without one included."""
    found = {(finding, column): _one_p(context, finding, column) for finding in context.findings for column in columns}
    known = [pair for pair, value in found.items() if not value.reason]
    adjusted = holm([found[pair].p for pair in known])
    return found | {pair: replace(found[pair], adjusted=float(p)) for pair, p in zip(known, adjusted, strict=True)}


def _one_p(context: JudgeContext, finding: str, column: str) -> PValue:
    values = _values(context, column)
    if not 2 <= len(values) <= MOST_VALUES:
        return PValue(values=tuple(values), reason=_unsuitable(column, values))
    code = {value: float(place) for place, value in enumerate(values)}
    codes = [code.get(value, np.nan) for value in context.metadata[column]]
    try:
        margins = context.clean(finding)
        label = usable_labels(context, finding, margins)
        p = any_value_permutation_p(
            label, margins, codes, context.patients, context.n_patients, seed=context.seed, draws=DRAWS
        )
    except StatisticsError as error:
        return PValue(values=tuple(values), reason=error.message)
    return PValue(values=tuple(values), p=p)


def _told(item: Judged, found: Mapping[tuple[str, str], PValue]) -> Judged:
    """The criterion with the p-value of its column beside the interval."""
    criterion = item.criterion
    for (finding, column), value in found.items():
        mine = criterion.subgroup in {f"{column}={name}" for name in value.values}
        if finding == criterion.finding and mine and criterion.harm.estimate is not None:
            p = f"permutation p {value.p:.2g}, by Holm {value.adjusted:.2g}"
            reason = f"{criterion.reason}; {column}: {f'no permutation p, {value.reason}' if value.reason else p}"
            return replace(item, criterion=criterion.model_copy(update={"reason": reason}))
    return item


def _p_table(check: CheckSpec, found: Mapping[tuple[str, str], PValue]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for (finding, column), value in found.items():
        shown = (
            ["", "", f"not assessable: {value.reason}"]
            if value.reason
            else [f"{value.p:.2g}", f"{value.adjusted:.2g}", ""]
        )
        rows.append([finding, column, len(value.values), *shown])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Whether the score tells the scanner at all among cases of the same label",
        columns=["finding", "column", "values", "p", "p, Holm", "note"],
        rows=rows,
        note=f"The largest dependence on any value against {DRAWS:,} permutations of the values among patients with the same "
        "labels, or among the images of a patient who has several values; the least p is "
        f"{1 / (DRAWS + 1):.2g}. Holm: adjusted for all findings and columns. A small p says that there is a dependence, not "
        "that it matters: the interval says how large it is, and judges.",
    )


def _table(context: JudgeContext, check: CheckSpec, columns: list[str]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for column in columns:
        cases, values = list(context.metadata[column]), _values(context, column)
        for value in sorted(set(cases)):
            powered = value in values
            for finding in context.findings:
                shown = try_interval(partial(_conditional, context, finding, column, value, context.confidence))
                numbers = [shown.estimate, shown.lower, shown.upper] if powered else [None, None, None]
                rows.append(
                    [
                        finding,
                        column,
                        value or "(missing)",
                        cases.count(value),
                        *numbers,
                        "" if powered else "not powered",
                    ]
                )
    return Table(
        check=check.id,
        domain=check.domain,
        title="How well the score tells the scanner among cases of the same label",
        columns=["finding", "column", "value", "cases", "AUROC", "lower", "upper", "note"],
        rows=rows,
        note="0.5: the score says nothing about the value once the label is known.",
    )
