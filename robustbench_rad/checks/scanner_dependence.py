"""Label-conditional dependence: does the score tell the scanner among cases of the same label?

An association of score and scanner across labels is no evidence, since prevalence differs between scanners; within a label it
is. Without a confirming intervention it is a *scanner-dependent score*, a matter of robustness, not a learned shortcut.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.estimate import Estimate

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
    tables = [_table(context, check, columns)]
    return CheckOutcome(judged=judge_jointly(context, check, comparisons), tables=tables)


def _column(context: JudgeContext, finding: str, column: str) -> list[Comparison]:
    values = _values(context, column)
    if len(values) < 2:
        return [_refused(finding, column, f"{column} has {len(values)} value with {LEAST_CASES} cases or more")]
    if len(values) > MOST_VALUES:
        return [_refused(finding, column, f"{column} has {len(values)} values: group them")]
    shown = values[:1] if len(values) == 2 else values  # with two values, one against the other says it all
    return [
        Comparison(
            finding=finding,
            quantity=f"score tells {column}",
            harm="",
            subgroup=f"{column}={value}",
            estimate=partial(_dependence, context, finding, column, value),
        )
        for value in shown
    ]


def _refused(finding: str, column: str, reason: str) -> Comparison:
    def refuse(_confidence: float) -> Estimate:
        raise StatisticsError(reason)

    return Comparison(finding=finding, quantity=f"score tells {column or 'the scanner'}", harm="", estimate=refuse)


def _values(context: JudgeContext, column: str) -> list[str]:
    counts: dict[str, int] = {}
    for value in context.metadata[column]:
        counts[value] = counts.get(value, 0) + 1
    return sorted(value for value, count in counts.items() if value and count >= LEAST_CASES)


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


def _table(context: JudgeContext, check: CheckSpec, columns: list[str]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for column in columns:
        cases = list(context.metadata[column])
        for value in sorted(set(cases)):
            powered = value in _values(context, column)
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
