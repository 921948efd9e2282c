"""Label-conditional dependence: does the score tell the scanner among cases of the same label?

An association of score and scanner across labels is no evidence, since prevalence differs between scanners; within a label it
is. Without a confirming intervention it is a *scanner-dependent score*, a matter of robustness, not a learned shortcut.
The interval judges; the exact p-value of each finding and column, by Holm for all of them, stands beside it.

A column with a few values is looked at value by value, by the AUROC of the score for it. A continuous one (pixel spacing,
kVp, age) by Spearman's correlation, divided by √3: for an attribute of two equal halves that is the distance of the AUROC
from 0.5, so one tolerance holds for both. Risk factors and demographic columns are shown and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from robustbench_rad.checks.attributes import MOST_VALUES, NUISANCE, ROLES, Attribute, attributes
from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.informational import shown
from robustbench_rad.checks.metrics import usable_labels, without_signal
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table, Verdict
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm
from robustbench_rad.statistics.permutation import DRAWS, any_value_permutation_p, trend_permutation_p
from robustbench_rad.statistics.rank_correlation import AUC_SCALE, conditional_spearman

CONFIRM = (
    "a scanner-dependent score, a matter of robustness: the scanner may physically change the evidence; a learned shortcut is "
    "confirmed by masked anatomy or a background swap, of a global trait by a patch shuffle"
)
NO_COLUMN = 'no nuisance column: declare one, e.g. [data] metadata = { scanner = "nuisance" }'


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the distance of the label-conditional AUROC from 0.5, for every value of a nuisance column against the rest."""
    columns = attributes(context)
    found = _permutation(context, columns)
    others = [
        _only_shown(context, check, comparison, column)
        for finding in context.findings
        for column in columns
        if column.role != NUISANCE
        for comparison in _column(context, finding, column, "")
    ]
    judged = [_told(item, found) for item in (*criteria(context, check), *others)]
    tables = [_table(context, check, columns), _p_table(check, found)] if columns else []
    return CheckOutcome(judged=judged, tables=tables)


def criteria(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """What is judged, by its intervals alone: the nuisance columns."""
    comparisons = [
        comparison
        for finding, doubt in zip(
            context.findings, map(partial(without_signal, context), context.findings), strict=True
        )
        for column in attributes(context)
        if column.role == NUISANCE
        for comparison in _column(context, finding, column, doubt)
    ]
    refused = [_refused(finding, "", NO_COLUMN) for finding in context.findings]
    return judge_jointly(context, check, comparisons or refused)


def _column(context: JudgeContext, finding: str, column: Attribute, doubt: str) -> list[Comparison]:
    if not column.assessable:
        return [_refused(finding, column.column, column.reason)]
    base = Comparison(
        finding=finding,
        quantity=f"score tells {column.column}",
        harm="",
        subgroup=column.column,
        doubt=doubt,
        estimate=partial(_trend, context, finding, column),
        counted="patients",
        cases=column.known,
    )
    if column.kind == "continuous":
        return [base]
    values = (
        column.values[:1] if len(column.values) == 2 else column.values
    )  # of two, one against the other says it all
    return [
        replace(
            base,
            subgroup=f"{column.column}={value}",
            estimate=partial(_dependence, context, finding, column, value),
        )
        for value in values
    ]


def _refused(finding: str, column: str, reason: str) -> Comparison:
    def refuse(_confidence: float) -> Estimate:
        raise StatisticsError(reason)

    return Comparison(finding=finding, quantity=f"score tells {column or 'the scanner'}", harm="", estimate=refuse)


def _only_shown(context: JudgeContext, check: CheckSpec, comparison: Comparison, column: Attribute) -> Judged:
    """A column that may go with the score by nature: the same number, no verdict."""
    return shown(
        context,
        check,
        comparison.finding,
        comparison.quantity,
        partial(comparison.estimate, context.confidence),
        reason=f"a {ROLES[column.role]} column, shown and not judged",
        subgroup=comparison.subgroup,
        cases=column.known(),
    )


def _dependence(context: JudgeContext, finding: str, column: Attribute, value: str, confidence: float) -> Estimate:
    """Distance of the label-conditional AUROC from 0.5."""
    return _conditional(context, finding, column, value, confidence).folded(centre=0.5)


def _conditional(context: JudgeContext, finding: str, column: Attribute, value: str, confidence: float) -> Estimate:
    return conditional_auc(
        context.label(finding),
        context.clean(finding),
        column.indicator(value),
        context.patients,
        context.n_patients,
        confidence=confidence,
    )


def _trend(context: JudgeContext, finding: str, column: Attribute, confidence: float) -> Estimate:
    """Spearman's correlation on the scale of the distance of an AUROC from 0.5."""
    found = _correlation(context, finding, column, confidence).affine(scale=AUC_SCALE).folded(centre=0.0)
    return replace(found, method=f"{found.method}; divided by √3")


def _correlation(context: JudgeContext, finding: str, column: Attribute, confidence: float) -> Estimate:
    margins = context.clean(finding)
    return conditional_spearman(
        usable_labels(context, finding, margins),
        margins,
        column.numbers,
        context.patients,
        context.n_patients,
        confidence=confidence,
    )


@dataclass(frozen=True, kw_only=True)
class PValue:
    """Permutation p-value of a finding and column, adjusted by Holm over those of its kind; or why there is none."""

    values: tuple[str, ...]
    p: float = float("nan")
    adjusted: float = float("nan")
    reason: str = ""


def _permutation(context: JudgeContext, columns: Sequence[Attribute]) -> dict[tuple[str, str], PValue]:
    """P-values of every finding and column, those without one included."""
    found = {(finding, c.column): _one_p(context, finding, c) for finding in context.findings for c in columns}
    judged = {column.column for column in columns if column.role == NUISANCE}
    for family in (True, False):  # what is only shown must not make what is judged look less certain
        known = [pair for pair, value in found.items() if not value.reason and (pair[1] in judged) is family]
        adjusted = holm([found[pair].p for pair in known])
        found |= {pair: replace(found[pair], adjusted=float(p)) for pair, p in zip(known, adjusted, strict=True)}
    return found


def _one_p(context: JudgeContext, finding: str, column: Attribute) -> PValue:
    if not column.assessable:
        return PValue(values=column.values, reason=column.reason)
    continuous = column.kind == "continuous"
    test = trend_permutation_p if continuous else any_value_permutation_p
    codes = column.numbers if continuous else column.codes()
    try:
        margins = context.clean(finding)
        label = usable_labels(context, finding, margins)
        p = test(label, margins, codes, context.patients, context.n_patients, seed=context.seed, draws=DRAWS)
    except StatisticsError as error:
        return PValue(values=column.values, reason=error.message)
    return PValue(values=column.values, p=p)


def _told(item: Judged, found: Mapping[tuple[str, str], PValue]) -> Judged:
    """The criterion with the p-value of its column beside the interval."""
    criterion = item.criterion
    for (finding, column), value in found.items():
        mine = criterion.subgroup in {column, *(f"{column}={name}" for name in value.values)}
        if finding == criterion.finding and mine and criterion.harm.estimate is not None:
            p = f"permutation p {value.p:.2g}, by Holm {value.adjusted:.2g}"
            reason = f"{criterion.reason}; {column}: {f'no permutation p, {value.reason}' if value.reason else p}"
            reason += f"; {CONFIRM}" if criterion.verdict is Verdict.FAIL else ""
            return replace(item, criterion=criterion.model_copy(update={"reason": reason}))
    return item


def _p_table(check: CheckSpec, found: Mapping[tuple[str, str], PValue]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for (finding, column), value in found.items():
        numbers = ["", ""] if value.reason else [f"{value.p:.2g}", f"{value.adjusted:.2g}"]
        note = f"not assessable: {value.reason}" if value.reason else ""
        rows.append([finding, column, len(value.values) or None, *numbers, note])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Whether the score tells the scanner at all among cases of the same label",
        columns=["finding", "column", "values", "p", "p, Holm", "note"],
        rows=rows,
        note=f"The largest dependence on any value, of a continuous column the trend, against {DRAWS:,} permutations of the "
        "values among patients with the same labels and about as many images, or among the images of a patient who has several "
        f"values; the least p is {1 / (DRAWS + 1):.2g}. Holm: adjusted for all findings and nuisance columns, the others by "
        "themselves. A small p says that there is a dependence, not that it matters: the interval says how large it is, and "
        "judges.",
    )


def _table(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute]) -> Table:
    rows = [row for column in columns for row in _rows(context, column)]
    return Table(
        check=check.id,
        domain=check.domain,
        title="How well the score tells the scanner among cases of the same label",
        columns=["finding", "column", "value", "cases", "AUROC", "lower", "upper", "note"],
        rows=rows,
        note="0.5: the score says nothing about the value once the label is known. Of a continuous column 0.5 + Spearman's "
        "correlation / √3, the AUROC of an attribute of two equal halves with the same correlation; it sees what rises or "
        "falls throughout.",
    )


def _rows(context: JudgeContext, column: Attribute) -> list[list[str | float | int | None]]:
    rows: list[list[str | float | int | None]] = []
    if column.kind == "continuous":
        for finding in context.findings:
            rows.append(
                [
                    finding,
                    column.column,
                    "continuous",
                    int(column.known().sum()),
                    *_shown_trend(context, finding, column),
                ]
            )
        if column.missing():
            rows += [_missing(finding, column) for finding in context.findings]
        return rows
    if not column.assessable and len(set(column.text)) > MOST_VALUES:
        cases = int(column.known().sum())
        return [[f, column.column, "(too many)", cases, None, None, None, column.reason] for f in context.findings]
    for value in sorted(set(column.text)):
        powered = value in column.values
        for finding in context.findings:
            found = try_interval(partial(_conditional, context, finding, column, value, context.confidence))
            numbers = [found.estimate, found.lower, found.upper] if powered else [None, None, None]
            cases, note = column.text.count(value), column.reason or ("" if powered else "not powered")
            rows.append([finding, column.column, value or "(missing)", cases, *numbers, note])
    return rows


def _shown_trend(context: JudgeContext, finding: str, column: Attribute) -> list[str | float | int | None]:
    def make() -> Estimate:
        return _correlation(context, finding, column, context.confidence).affine(scale=AUC_SCALE, offset=0.5)

    found = try_interval(make)
    return [found.estimate, found.lower, found.upper, "" if found.estimate is not None else found.method]


def _missing(finding: str, column: Attribute) -> list[str | float | int | None]:
    return [finding, column.column, "(missing)", column.missing(), None, None, None, "not powered"]
