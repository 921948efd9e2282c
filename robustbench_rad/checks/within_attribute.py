"""Within attribute: how much of the AUROC is owed to telling scanners, sites or wards apart?

Where a scanner goes with the label, ranking by scanner ranks the cases. The pooled AUROC has that advantage, the AUROC within
each scanner has not: their difference is judged. Beside it stands the AUROC under weights that make scanner and label
independent, with the number of cases that the weighted ones are worth.

Only a nuisance column can fail. Where the column does not go with the label in these cases there is nothing to gain from it,
so nothing is shown either way: not powered. A scanner may also physically change the evidence (sharper lesions, surer
scores) without a learned shortcut: masked anatomy or a background swap confirms one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.attributes import LEAST_CASES, NUISANCE, ROLES, Attribute, attributes
from robustbench_rad.checks.comparisons import Comparison, judge_jointly, missing_check
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, shown
from robustbench_rad.checks.metrics import metric, usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table, Verdict
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.metadata_ceiling import metadata_auc
from robustbench_rad.statistics.within_attribute import Reweighted, inflation, reweighted_auc, within_auc

QUANTITY = "AUROC owed to"
NO_COLUMN = 'no nuisance column: declare one, e.g. [data] metadata = { scanner = "nuisance" }'
CONFIRM = (
    "that the scanner physically changes the evidence is possible too: confirm with masked anatomy or a background swap"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """One finding and column: the cases of the values that hold enough of both labels.

    Attributes:
        column: The column, in groups where it is continuous.
        label: ``(N,)`` NaN outside of those values.
        codes: ``(N,)`` number of the value, likewise.
        margins: ``(N,)``.
        used: Values that hold enough.
        lacking: Other values with what they hold, in words.
    """

    column: Attribute
    label: Floats
    codes: Floats
    margins: Floats
    used: tuple[str, ...]
    lacking: tuple[str, ...]

    def mask(self) -> NDArray[np.bool_]:
        """Cases that are compared."""
        return np.asarray(~np.isnan(self.codes), dtype=np.bool_)


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge pooled minus within-value AUROC of every nuisance column; show that of the others."""
    columns = [column.grouped() for column in attributes(context)]
    nuisance = [column for column in columns if column.role == NUISANCE]
    comparisons = [_comparison(context, finding, column) for finding in context.findings for column in nuisance]
    judged = [_told(context, item) for item in judge_jointly(context, check, comparisons)]
    if not nuisance:
        judged = [missing_check(check, NO_COLUMN)]
    others = [
        _only_shown(context, check, finding, column)
        for finding in context.findings
        for column in columns
        if column.role != NUISANCE
    ]
    return CheckOutcome(judged=[*judged, *others], tables=[_table(context, check, columns)] if columns else [])


def _comparison(context: JudgeContext, finding: str, column: Attribute) -> Comparison:
    return Comparison(
        finding=finding,
        quantity=f"{QUANTITY} {column.column}",
        harm="",
        subgroup=column.column,
        estimate=partial(_harm, context, finding, column),
        counted="patients",
        cases=partial(_compared, context, finding, column),
    )


def _only_shown(context: JudgeContext, check: CheckSpec, finding: str, column: Attribute) -> Judged:
    return shown(
        context,
        check,
        finding,
        f"{QUANTITY} {column.column}",
        partial(_harm, context, finding, column, context.confidence),
        reason=f"a {ROLES[column.role]} column, shown and not judged",
        subgroup=column.column,
        cases=_compared(context, finding, column),
    )


def _compared(context: JudgeContext, finding: str, column: Attribute) -> NDArray[np.bool_]:
    try:
        return chosen(context, finding, column).mask()
    except StatisticsError:
        return column.known()


def chosen(context: JudgeContext, finding: str, column: Attribute) -> Cells:
    """Cases of the values with ten positive and ten negative patients or more.

    Raises:
        StatisticsError: The column is not assessable, or fewer than two values hold as many.
    """
    if not column.assessable:
        raise StatisticsError(column.reason)
    margins = context.clean(finding)
    label = usable_labels(context, finding, margins)
    codes = column.codes()
    used: list[tuple[int, str, list[int]]] = []
    lacking: list[tuple[int, str, list[int]]] = []
    for place, value in enumerate(column.values):
        held = [len(np.unique(context.patients[(codes == place) & (label == side)])) for side in (1.0, 0.0)]
        (used if min(held) >= LEAST_CASES else lacking).append((place, value, held))
    few = tuple(f"{value} ({held[0]} positive, {held[1]} negative)" for _, value, held in lacking)
    if len(used) < 2:
        raise StatisticsError(
            f"not powered: two values of {column.column} with {LEAST_CASES} positive and {LEAST_CASES} negative patients are "
            "needed" + (f"; too few in {', '.join(few)}" if few else "")
        )
    kept = np.isin(codes, [place for place, _, _ in used]) & ~np.isnan(label)
    return Cells(
        column=column,
        label=np.where(kept, label, np.nan),
        codes=np.where(kept, codes, np.nan),
        margins=margins,
        used=tuple(value for _, value, _ in used),
        lacking=few,
    )


def _harm(context: JudgeContext, finding: str, column: Attribute, confidence: float) -> Estimate:
    """Pooled minus within-value AUROC, where there is a signal to owe and an association to owe it to."""
    found = chosen(context, finding, column)
    if _pooled(context, finding, found, confidence).lower <= 0.5:
        raise StatisticsError(
            "the model shows no signal on these cases, so nothing can be said of what its AUROC is owed to"
        )
    tells = _association(context, found)
    if tells.lower <= 0.5:
        raise StatisticsError(
            f"not powered: {column.column} is not shown to go with the label in these cases (it tells the label at AUROC "
            f"{tells.value:.2f} [{tells.lower:.2f}, {tells.upper:.2f}]), so a model that uses it gains nothing here"
        )
    return _on(context, found, inflation, confidence)


def _on(context: JudgeContext, found: Cells, estimator: Callable[..., Estimate], confidence: float) -> Estimate:
    return estimator(
        found.label, found.margins, found.codes, context.patients, context.n_patients, confidence=confidence
    )


def _pooled(context: JudgeContext, finding: str, found: Cells, confidence: float) -> Estimate:
    return metric(context, "auroc", finding, np.where(found.mask(), found.margins, np.nan), confidence)


def _association(context: JudgeContext, found: Cells) -> Estimate:
    codes = np.where(found.mask(), found.codes, 0.0)
    return metadata_auc(
        found.label, codes, context.patients, context.n_patients, seed=context.seed, confidence=context.confidence
    )


def _reweighted(context: JudgeContext, found: Cells) -> Reweighted:
    return reweighted_auc(
        found.label, found.margins, found.codes, context.patients, context.n_patients, confidence=context.confidence
    )


def _told(context: JudgeContext, item: Judged) -> Judged:
    """The criterion with the re-weighted AUROC, what it cannot tell, and the values it could not look at."""
    criterion = item.criterion
    if criterion.harm.estimate is None:
        return item
    column = next(column for column in attributes(context) if column.column == criterion.subgroup).grouped()
    found = chosen(context, criterion.finding, column)
    weighted = _reweighted(context, found)
    estimate = weighted.estimate
    said = [
        criterion.reason,
        f"re-weighted AUROC {estimate.value:.2f} [{estimate.lower:.2f}, {estimate.upper:.2f}]",
        f"not powered: {', '.join(found.lacking)}" if found.lacking else "",
        CONFIRM if criterion.verdict is Verdict.FAIL else "",
    ]
    return replace(item, criterion=criterion.model_copy(update={"reason": "; ".join(text for text in said if text)}))


def _table(context: JudgeContext, check: CheckSpec, columns: list[Attribute]) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for column in columns:
            rows += [[finding, column.column, *row] for row in _rows(context, finding, column)]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the AUROC owes to each column",
        columns=["finding", "column", "AUROC", "cases", "estimate", "lower", "upper", "note"],
        rows=rows,
        note="Within: the mean of the AUROCs within each value, weighted by its cases. Re-weighted: every case weighted by "
        "p(a) p(y) / p(a, y), so that column a and label y are independent; nothing is drawn twice. Continuous columns in "
        f"fifths. All on the cases of values with {LEAST_CASES} positive and {LEAST_CASES} negative patients or more.",
    )


def _rows(context: JudgeContext, finding: str, column: Attribute) -> list[list[Cell]]:
    """One row per AUROC; a single one that says why where there is none."""
    try:
        found = chosen(context, finding, column)
        weighted = _reweighted(context, found)
        tells, pooled = _association(context, found), _pooled(context, finding, found, context.confidence)
    except StatisticsError as error:
        return [["all cases", None, None, None, None, f"not assessable: {error.message}"]]
    count, confidence = int(found.mask().sum()), context.confidence
    worth = f"worth {weighted.positives:.0f} positives and {weighted.negatives:.0f} negatives"
    left_out = f"not powered: {', '.join(found.lacking)}" if found.lacking else ""
    blind = "not powered: not shown to go with the label" if tells.lower <= 0.5 else ""
    makes: list[tuple[str, Callable[[], Estimate], str]] = [
        ("of the column for the label", lambda: tells, blind),
        ("of the model, pooled", lambda: pooled, left_out),
        ("of the model, within", lambda: _on(context, found, within_auc, confidence), ", ".join(found.used)),
        ("pooled - within", lambda: _on(context, found, inflation, confidence), ""),
        ("of the model, re-weighted", lambda: weighted.estimate, worth),
        ("pooled - re-weighted", lambda: difference(pooled, weighted.estimate), ""),
    ]
    rows: list[list[Cell]] = []
    for name, make, note in makes:
        *numbers, why = cells(make)
        rows.append([name, count, *numbers, note or why])
    return rows
