"""Hidden strata: is the finding missed in a kind of case that the average hides?

Pneumothoraces with a chest tube in them, portable films, small lesions: sensitivity and AUROC of each stratum against the rest,
the worst of them deciding, all intervals together. Columns that the plan names are strata whatever their role; where it names
none, the risk factors are, since all other columns stand in ``subgroup.performance`` already. Lesions that are drawn give two
strata more, the smaller and the larger half of them. Strata are shown, and judged where the plan or profile states a tolerance.

Slices that nobody declared are looked for in the penultimate features of one half of the patients; the worst of them is a
hypothesis, tested on the other half, and never judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.special import ndtr

from robustbench_rad.checks.attributes import Attribute, attribute
from robustbench_rad.checks.comparisons import Comparison, judge_jointly, missing_check
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, limits, shown
from robustbench_rad.checks.metrics import NAMES, correct, usable_labels, without_signal
from robustbench_rad.checks.subgroup import LEAST, Grouping, gap_comparisons, group_metric, lacking_cases
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.hidden_strata import MILLIMETRES, PIXELS
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm
from robustbench_rad.statistics.slices import SLICES, worst_slice

PARTS = 3  # of a continuous column: fewer positives would be left in each of five
STRATUM_METRICS = ("auroc", "sensitivity")
SIZE = "lesion size"
FEATURES = ("shortcut.scanner-probe", "features")
SLICE = "sensitivity gap of the worst slice of one half of the patients, in the other half"
NO_STRATA = (
    'no strata: name columns, e.g. columns = ["tubes"], declare a risk factor in [data] metadata, or draw lesions in '
    "[data.lesion]"
)
NOT_ASKED = 'no strata to judge: name columns, e.g. columns = ["tubes"], or draw lesions in [data.lesion]'


@dataclass(frozen=True, kw_only=True, eq=False)
class Stratum:
    """One value of a grouping against the rest, for one finding and metric.

    Attributes:
        finding: Which finding.
        grouping: Column, or lesion size.
        group: Value.
        metric: ``auroc`` or ``sensitivity``.
        gap: Rest minus stratum; None where there are too few cases, and ``reason`` says of what.
        reason: Why there is no gap.
    """

    finding: str
    grouping: Grouping
    group: str
    metric: str
    gap: Estimate | None
    reason: str = ""


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the worst stratum of every finding, column and metric where a tolerance is stated; else show it."""
    asked = tuple(check.options.get("columns", ()))
    columns = asked or tuple(name for name, role in context.roles.items() if role == "risk_factor")
    found = [attribute(name, context.roles[name], context.metadata[name]).grouped(PARTS) for name in columns]
    unusable = [column for column in found if not column.assessable]
    judged = [_declared(column) for column in found if column.assessable]
    sizes = {finding: _by_size(context, check, finding) for finding in context.findings}
    comparisons = [
        replace(comparison, doubt=comparison.doubt or doubt)
        for finding, doubt in zip(
            context.findings, map(partial(without_signal, context), context.findings), strict=True
        )
        for grouping in (*(judged if asked or check.informational else ()), *_known(sizes[finding]))
        for metric in STRATUM_METRICS
        for comparison in gap_comparisons(context, grouping, finding, metric)
    ]
    comparisons += [_refused(finding, column) for finding in context.findings for column in unusable if asked]
    items = judge_jointly(context, check, comparisons) if comparisons else [_nothing(context, check, bool(judged))]
    if not asked and not check.informational:
        items += _only_shown(context, check, judged)
    slices = [_slice(context, check, finding) for finding in context.findings]
    strata = [
        stratum
        for finding in context.findings
        for grouping in (*judged, *_known(sizes[finding]))
        for stratum in _strata(context, grouping, finding)
    ]
    tables = [_table(check, context, strata)] if strata else []
    return CheckOutcome(judged=[*items, *slices], tables=tables)


def _known(grouping: Grouping | None) -> tuple[Grouping, ...]:
    return () if grouping is None else (grouping,)


def _declared(column: Attribute) -> Grouping:
    return Grouping(columns=(column.column,), values=column.text, judged=True)


def _by_size(context: JudgeContext, check: CheckSpec, finding: str) -> Grouping | None:
    """The smaller and the larger half of the positives' lesions, each beside all negatives; None where none are drawn."""
    name = MILLIMETRES
    sizes = context.measured(check.id, name)
    positive = context.label(finding) == 1
    if not np.isfinite(sizes[positive]).any():
        name = PIXELS
        sizes = context.measured(check.id, name)
    known = positive & np.isfinite(sizes)
    if not known.any():
        return None
    middle = float(np.median(sizes[known]))
    unit = "mm" if name == MILLIMETRES else "px"
    names = np.where(sizes <= middle, f"up to {middle:.3g} {unit}", f"above {middle:.3g} {unit}")
    return Grouping(
        columns=(SIZE,),
        values=tuple(str(value) if here else "" for value, here in zip(names, known, strict=True)),
        judged=True,
        shared=tuple((context.label(finding) == 0).tolist()),
    )


def _refused(finding: str, column: Attribute) -> Comparison:
    def refuse(_confidence: float) -> Estimate:
        raise StatisticsError(column.reason)

    return Comparison(
        finding=finding,
        quantity="worst stratum against the rest",
        harm="auroc",
        estimate=refuse,
        subgroup=column.column,
    )


def _nothing(context: JudgeContext, check: CheckSpec, declared: bool) -> Judged:
    if not check.informational:
        return missing_check(check, NOT_ASKED if declared else NO_STRATA)

    def refuse() -> Estimate:
        raise StatisticsError(NO_STRATA)

    return shown(context, check, context.findings[0], "worst stratum against the rest", refuse)


def _only_shown(context: JudgeContext, check: CheckSpec, groupings: Sequence[Grouping]) -> list[Judged]:
    """Risk factors that nobody asked to judge."""
    comparisons = [
        comparison
        for finding in context.findings
        for grouping in groupings
        for metric in STRATUM_METRICS
        for comparison in gap_comparisons(context, grouping, finding, metric)
    ]
    return judge_jointly(context, replace(check, informational=True), comparisons) if comparisons else []


def _strata(context: JudgeContext, grouping: Grouping, finding: str) -> list[Stratum]:
    """Every value and metric, also those with too few cases."""
    return [
        _stratum(context, grouping, finding, group, metric) for group in grouping.groups for metric in STRATUM_METRICS
    ]


def _stratum(context: JudgeContext, grouping: Grouping, finding: str, group: str, metric: str) -> Stratum:
    base = Stratum(finding=finding, grouping=grouping, group=group, metric=metric, gap=None)
    lacking = lacking_cases(context, grouping, group, finding, metric)
    if lacking:
        return replace(base, reason=f"not powered: {lacking}")
    compared = gap_comparisons(context, grouping, finding, metric)
    try:
        gaps = {item.level.name: item.estimate for item in compared if item.level}
        return replace(base, gap=gaps[f"{group} against the rest"](context.confidence))
    except (KeyError, StatisticsError) as error:
        reason = error.message if isinstance(error, StatisticsError) else f"{grouping.name} has too many values"
        return replace(base, reason=f"not assessable: {reason}")


def _table(check: CheckSpec, context: JudgeContext, strata: Sequence[Stratum]) -> Table:
    p_values = {_question(stratum): _p(stratum.gap) for stratum in strata if stratum.gap is not None}
    adjusted = dict(zip(p_values, holm([*p_values.values()]).tolist() if p_values else [], strict=True))
    rows: list[list[Cell]] = []
    for stratum in strata:
        head: list[Cell] = [stratum.finding, stratum.grouping.name, stratum.group, NAMES[stratum.metric]]
        positives = int((stratum.grouping.mask(stratum.group) & (context.label(stratum.finding) == 1)).sum())
        if stratum.gap is None:
            rows.append([*head, positives, *[None] * 7, stratum.reason])
            continue
        inside, outside = (
            group_metric(context, mask, stratum.finding, stratum.metric, context.confidence).value
            for mask in (stratum.grouping.mask(stratum.group), stratum.grouping.rest(stratum.group))
        )
        ps = p_values[_question(stratum)], adjusted[_question(stratum)]
        rows.append([*head, positives, inside, outside, *limits(stratum.gap), *ps, ""])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Strata against the rest",
        columns=[
            *("finding", "stratum of", "value", "metric", "positives", "stratum", "rest"),
            *("gap", "lower", "upper", "p", "p, Holm", "note"),
        ],
        rows=rows,
        note="Gap: rest minus stratum, above 0 where the stratum is served worse; each interval by itself. Sensitivity: "
        "Newcombe's difference of Wilson intervals. Strata by lesion size are compared with the same negatives, and the "
        "lesions are those of any finding under audit that a case shows. Continuous columns in thirds.",
    )


def _question(stratum: Stratum) -> tuple[str, ...]:
    """What a p-value answers: of two strata, one against the other is a single question."""
    group = "" if len(stratum.grouping.groups) == 2 else stratum.group
    return stratum.finding, stratum.grouping.name, stratum.metric, group


def _p(gap: Estimate | None) -> float:
    """Two-sided p of no gap, from its clustered standard error; 1 where nothing varies."""
    error = float("nan") if gap is None else gap.standard_error
    return float(2 * ndtr(-abs(gap.value) / error)) if gap is not None and error > 0 else 1.0


def _slice(context: JudgeContext, check: CheckSpec, finding: str) -> Judged:
    """The worst undeclared slice: found on one half of the patients, tested on the other, never judged."""
    features = context.vectors(*FEATURES)
    make = partial(_slice_gap, context, finding, features)
    reason = (
        f"a hypothesis, not judged: {SLICES} slices of alike features among the positives; the one with the lowest sensitivity "
        "in one half of the patients is tested on the other half"
    )
    return shown(context, check, finding, SLICE, make, reason=reason)


def _slice_gap(context: JudgeContext, finding: str, features: Floats) -> Estimate:
    if not features.size:
        raise StatisticsError(f"no penultimate features: add {FEATURES[0]} to the checks")
    margins = context.clean(finding)
    label = usable_labels(context, finding, margins)
    if (label == 1).sum() < 4 * LEAST:
        raise StatisticsError(
            f"{int((label == 1).sum())} positives in two halves of the patients: {4 * LEAST} are needed"
        )
    found = worst_slice(
        features,
        correct("sensitivity", margins),
        label == 1,
        context.patients,
        context.n_patients,
        seed=context.seed,
        confidence=context.confidence,
    )
    return replace(found.gap, method=f"{found.gap.method}; {found.chosen_gap:.2f} in the half it was chosen on")
