"""Metadata ceiling: what a model could reach that reads the metadata and not the image, and what this one adds.

Where a scanner or site goes with the label, knowing it ranks the cases. The AUROC of the metadata alone says how far; the
headroom is what the model has beyond it. Neither says that the model uses the metadata. The table says as well which
audits these data can power: an attribute that does not go with the label here cannot be found by an AUROC for the label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from robustbench_rad.checks.attributes import NUISANCE, ROLES, Attribute, attributes
from robustbench_rad.checks.comparisons import try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, shown
from robustbench_rad.checks.metrics import metric, usable_labels
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.metadata_ceiling import metadata_auc
from robustbench_rad.statistics.proportions import proportion

LEAST_HEADROOM = 0.05
NO_COLUMN = 'no metadata column: declare some, e.g. [data] metadata = { scanner = "nuisance", view = "risk_factor" }'
QUANTITY = "AUROC of the metadata alone"
HEADROOM = "AUROC of the model above the metadata"
BLIND = "masked anatomy, background swap and within-attribute audits"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One column, or several together.

    Attributes:
        name: As it is shown.
        role: Of the column; "" of several.
        columns: Categorical; continuous ones in groups.
    """

    name: str
    role: str
    columns: tuple[Attribute, ...]

    def codes(self) -> Floats:
        """``(N, M)``; a row of NaN where a single column has too few such values to learn from."""
        if len(self.columns) == 1:
            return self.columns[0].filled()[:, None]
        return np.column_stack([column.filled(least=1) for column in self.columns])


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the ceiling of all columns, of the nuisance columns among them, and the headroom of the model; never judge."""
    columns = [column.grouped() for column in attributes(context)]
    usable = tuple(column for column in columns if column.assessable)
    reason = "; ".join(column.reason for column in columns) or NO_COLUMN
    sources = _together(usable)
    asked: list[Source | None] = [*sources] or [None]
    judged = [
        shown(context, check, finding, quantity, make, subgroup=source.name if source else "", reason=said)
        for finding in context.findings
        for source in asked
        for quantity, make, said in _asked(context, finding, source, reason)
    ]
    tables = [_table(context, check, columns, sources), _prevalences(context, check, usable)] if columns else []
    notices = [
        text for finding in context.findings for source in sources if (text := _notice(context, finding, source))
    ]
    return CheckOutcome(judged=judged, tables=tables, notices=notices)


def _together(usable: tuple[Attribute, ...]) -> list[Source]:
    """All columns, and the nuisance columns by themselves where they are only some of them."""
    nuisance = tuple(column for column in usable if column.role == NUISANCE)
    found = [Source(name="all columns", role="", columns=usable)] if usable else []
    if 0 < len(nuisance) < len(usable):
        found.append(Source(name="nuisance columns", role=NUISANCE, columns=nuisance))
    return found


def _asked(
    context: JudgeContext, finding: str, source: Source | None, reason: str
) -> list[tuple[str, Callable[[], Estimate], str]]:
    if source is None:
        return [(QUANTITY, partial(_refuse, reason), "")]
    names = ", ".join(column.column for column in source.columns)
    return [
        (QUANTITY, partial(ceiling, context, finding, source), f"what {names} tell without the image; 0.5: nothing"),
        (HEADROOM, partial(headroom, context, finding, source), f"what the model has beyond {names}"),
    ]


def _refuse(reason: str) -> Estimate:
    raise StatisticsError(reason)


def ceiling(context: JudgeContext, finding: str, source: Source) -> Estimate:
    """AUROC of the label's probability given the metadata, over the cases for which the model gave a margin.

    Raises:
        StatisticsError: Too few cases, or metadata that do not vary.
    """
    label, codes = _rows(context, finding, source)
    return metadata_auc(
        label, codes, context.patients, context.n_patients, seed=context.seed, confidence=context.confidence
    )


def headroom(context: JudgeContext, finding: str, source: Source) -> Estimate:
    """AUROC of the model minus that of the metadata, on the same cases.

    Raises:
        StatisticsError: As :func:`ceiling`.
    """
    label, _ = _rows(context, finding, source)
    margins = np.where(np.isnan(label), np.nan, context.clean(finding))
    return difference(metric(context, "auroc", finding, margins, context.confidence), ceiling(context, finding, source))


def _rows(context: JudgeContext, finding: str, source: Source) -> tuple[Floats, Floats]:
    codes = source.codes()
    lost = np.isnan(codes).any(axis=1)
    label = np.where(lost, np.nan, usable_labels(context, finding, context.clean(finding)))
    return label, np.where(np.isnan(codes), 0.0, codes)


def _notice(context: JudgeContext, finding: str, source: Source) -> str:
    """A warning where the metadata tell the label and the model hardly more; "" otherwise."""
    try:
        alone, beyond = ceiling(context, finding, source), headroom(context, finding, source)
    except StatisticsError:
        return ""
    if alone.lower <= 0.5 or beyond.value >= LEAST_HEADROOM:
        return ""
    alone_of = f"the {source.name}" if source.role == NUISANCE else "the declared metadata"
    return (
        f"{finding}: {alone_of} alone reach an AUROC of {_span(alone, '.2f')}, the model {_span(beyond, '+.2f')} "
        "beyond it: what it knows of the image is not shown on these cases"
    )


def _span(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} [{estimate.lower:{form}}, {estimate.upper:{form}}]"


def _table(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute], sources: Sequence[Source]) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for column in columns:
            source = Source(name=column.column, role=column.role, columns=(column,))
            rows.append(
                [finding, column.column, ROLES[column.role], *_numbers(context, finding, source, column.reason)]
            )
        for source in sources:
            if len(source.columns) > 1:
                rows.append([finding, source.name, ROLES.get(source.role, ""), *_numbers(context, finding, source, "")])
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the metadata tell of the label",
        columns=[
            *("finding", "column", "role", "cases", "AUROC", "lower", "upper"),
            *("model above it", "lower", "upper", "audits by AUROC for the label", "note"),
        ],
        rows=rows,
        note=f"AUROC: of the label's probability given the column, without the image. Audits by AUROC for the label: {BLIND}. "
        "They are not powered for an attribute that does not go with the label in these cases, however much the model uses it; "
        "insertion and label-conditional dependence are. Continuous columns in fifths. Missing and rare values, where "
        "there are ten or more, count as values of their own.",
    )


def _numbers(context: JudgeContext, finding: str, source: Source, reason: str) -> list[Cell]:
    if reason:
        return _untold(reason)
    try:
        cases = int((~np.isnan(_rows(context, finding, source)[0])).sum())
    except StatisticsError as error:
        return _untold(error.message)
    alone = cells(partial(ceiling, context, finding, source))
    beyond = cells(partial(headroom, context, finding, source))
    lower = alone[1]
    seen = (
        "cannot be told"
        if lower is None
        else "can see it"
        if float(lower) > 0.5
        else "not powered: not shown to go with it"
    )
    return [cases, *alone[:3], *beyond[:3], seen, f"not assessable: {alone[3]}" if alone[3] else ""]


def _untold(reason: str) -> list[Cell]:
    return [*[None] * 7, "cannot be told", f"not assessable: {reason}"]


def _prevalences(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute]) -> Table:
    """Share of positives by value: what the ceiling rests on."""
    rows: list[list[Cell]] = []
    for finding in context.findings:
        label = context.label(finding)
        for column in columns:
            for value in column.values:
                valid = (column.indicator(value) == 1) & ~np.isnan(label)
                make = partial(proportion, label == 1, valid, context.patients, context.n_patients)
                share = try_interval(partial(make, confidence=context.confidence))
                counts = [int(valid.sum()), int((valid & (label == 1)).sum())]
                rows.append([finding, column.column, value, *counts, share.estimate, share.lower, share.upper])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Share of positives by value of the metadata",
        columns=["finding", "column", "value", "cases", "positives", "share", "lower", "upper"],
        rows=rows,
    )
