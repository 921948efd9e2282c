"""Scanner probe: is the scanner in the image, in the features of the model, and in its score?

Three questions that are often taken for one. *Decodable*: a linear probe tells the value from numbers of the image. *In the
features*: a probe tells it from what the model's last layer reads. *Used*: among cases of the same label the score itself tells
it. The first two hold for nearly every image and every model (both alarm on every clean one), so they are no defect; only the
third says that the score goes with the value, and only an intervention that it does so because of it. Nothing here can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from robustbench_rad.checks.attributes import ROLES, Attribute, attributes
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, limits, shown
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.scanner_probe import FEATURES, IMAGE
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm
from robustbench_rad.statistics.permutation import any_value_permutation_p
from robustbench_rad.statistics.probe import DRAWS, Probe, mean_of, prepare, told

SCORE = "score"
SOURCES = (IMAGE, FEATURES, SCORE)
ALPHA = 0.05
NO_COLUMN = 'no metadata column: declare some, e.g. [data] metadata = { scanner = "nuisance", sex = "demographic" }'
NO_VECTORS = {
    IMAGE: "the images were not measured: run the check itself, not only its judgement",
    FEATURES: "the model gives no access to its layers (TorchScript, torch.export): audit the module itself",
}
NO_EXCHANGE = "no patients with the same labels and about as many images have different values, so there is no p"
NO_DEFECT = (
    "Decodable alone is no defect: probes of the image and of the features tell the scanner for nearly every clean model too. "
    "Only a score that goes with it among cases of the same label may be a shortcut, and only an intervention shows that it is."
)

Answer = bool | None
"""Shown, not shown, or not assessable."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """How well one column is told from one source, for one finding.

    Attributes:
        overall: AUROC, whatever the label; mean over the values. None where it is not defined.
        within: Within each label.
        best: Value that is told best within the label, with its AUROC.
        p: Of no association within the label, by permutation; NaN without one.
        adjusted: The same by Holm over the columns of the finding and source.
        cases: That it rests on.
        reason: Why there is nothing; "" otherwise.
    """

    overall: Estimate | None = None
    within: Estimate | None = None
    best: str = ""
    p: float = float("nan")
    adjusted: float = float("nan")
    cases: int = 0
    reason: str = ""

    @property
    def answer(self) -> Answer:
        """Whether the column is told."""
        return None if np.isnan(self.adjusted) else self.adjusted <= ALPHA


Readings = dict[tuple[str, str, str], Reading]
"""Source, finding and column."""


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show for every declared column how well image, features and score tell it, and what the three say together."""
    columns = [column.grouped() for column in attributes(context)]
    if not columns:
        return CheckOutcome(judged=[_nothing(context, check, finding) for finding in context.findings])
    found = _by_holm({**_from_vectors(context, check, columns), **_from_score(context, columns)})
    pairs = [(finding, column) for finding in context.findings for column in columns]
    judged = [_shown(context, check, finding, column, found) for finding, column in pairs]
    tables = [_steps(context, check, columns, found), _numbers(context, check, columns, found)]
    return CheckOutcome(judged=judged, tables=tables, notices=[NO_DEFECT])


def _nothing(context: JudgeContext, check: CheckSpec, finding: str) -> Judged:
    return shown(context, check, finding, "scanner told from the image", partial(_refuse, NO_COLUMN))


def _refuse(reason: str) -> Estimate:
    raise StatisticsError(reason)


def _from_vectors(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute]) -> Readings:
    found: Readings = {}
    for source in (IMAGE, FEATURES):
        vectors = context.vectors(check.id, source)
        for column in columns:
            ready = cache(partial(_ready, context, column, source, vectors))
            for finding in context.findings:
                found[source, finding, column.column] = _tried(partial(_probed, context, finding, column, ready))
    return found


def _ready(context: JudgeContext, column: Attribute, source: str, vectors: Floats) -> tuple[Probe, Estimate]:
    """The probe, and its AUROC whatever the label: the same for all findings.

    Raises:
        StatisticsError: No vectors, or a column that cannot be told.
    """
    if column.reason:
        raise StatisticsError(column.reason)
    if not np.isfinite(vectors).any():
        raise StatisticsError(NO_VECTORS[source])
    probe = prepare(vectors, column.codes(), context.patients)
    alike = np.zeros(len(context.patients))
    found = told(
        probe,
        column.codes(),
        alike,
        context.patients,
        context.n_patients,
        seed=context.seed,
        draws=0,
        confidence=context.confidence,
    )
    return probe, found.auc


def _probed(
    context: JudgeContext, finding: str, column: Attribute, ready: Callable[[], tuple[Probe, Estimate]]
) -> Reading:
    probe, overall = ready()
    label = context.label(finding)
    try:
        found = told(
            probe,
            column.codes(),
            label,
            context.patients,
            context.n_patients,
            seed=context.seed,
            draws=max(DRAWS, 25 * len(context.roles)),  # Holm must leave the least p below 0.05
            confidence=context.confidence,
        )
    except StatisticsError as error:
        return Reading(overall=overall, reason=error.message)
    cases = int((~np.isnan(label[probe.rows])).sum())
    best = f"{column.values[found.best]} ({found.values[found.best].value:.2f})" if len(found.values) > 1 else ""
    reason = NO_EXCHANGE if np.isnan(found.p) else ""
    return Reading(overall=overall, within=found.auc, best=best, p=found.p, cases=cases, reason=reason)


def _from_score(context: JudgeContext, columns: Sequence[Attribute]) -> Readings:
    return {
        (SCORE, finding, column.column): _tried(partial(_scored, context, finding, column))
        for finding in context.findings
        for column in columns
    }


def _scored(context: JudgeContext, finding: str, column: Attribute) -> Reading:
    """The score needs no fit; its AUROC counts in either direction."""
    if column.reason:
        raise StatisticsError(column.reason)
    score, codes = context.clean(finding), column.codes()
    label = np.where(np.isnan(codes), np.nan, usable_labels(context, finding, score))
    alike = np.where(np.isnan(label), np.nan, 0.0)
    overall, within = (_of_values(context, column, score, kind) for kind in (alike, label))
    p = any_value_permutation_p(label, score, codes, context.patients, context.n_patients, seed=context.seed)
    best = max(within, key=lambda value: within[value].value)
    return Reading(
        overall=mean_of([*overall.values()]),
        within=mean_of([*within.values()]),
        best=f"{best} ({within[best].value:.2f})" if len(within) > 1 else "",
        p=p,
        cases=int((~np.isnan(label)).sum()),
    )


def _of_values(context: JudgeContext, column: Attribute, score: Floats, label: Floats) -> dict[str, Estimate]:
    """AUROC of the score for each value against the rest, above 0.5; of two values only that of the second."""
    found: dict[str, Estimate] = {}
    for value in column.values[1:] if len(column.values) == 2 else column.values:
        make = partial(conditional_auc, label, score, column.indicator(value), context.patients, context.n_patients)
        try:
            area = make(confidence=context.confidence)
        except StatisticsError:  # the value occurs in no label with others
            continue
        found[value] = area.folded(centre=0.5).affine(offset=0.5)
    if not found:
        raise StatisticsError("no label in which two values occur: more cases are needed")
    return found


def _tried(make: Callable[[], Reading]) -> Reading:
    try:
        return make()
    except StatisticsError as error:
        return Reading(reason=error.message)


def _by_holm(found: Readings) -> Readings:
    adjusted = dict(found)
    for family in sorted({key[:2] for key in found}):
        keys = [key for key, reading in found.items() if key[:2] == family and not np.isnan(reading.p)]
        for key, p in zip(keys, holm([found[key].p for key in keys]) if keys else (), strict=True):
            adjusted[key] = replace(found[key], adjusted=float(p))
    return adjusted


def in_words(image: Answer, features: Answer, used: Answer) -> str:
    """The three steps of one column and finding as a sentence.

    >>> in_words(True, True, False)
    'decodable from the image, in the features, not shown to be used: no defect by itself'
    """
    steps = (
        _said(image, "decodable from the image", "not shown to be decodable from the image", "image not assessable"),
        _said(features, "in the features", "not shown to be in the features", "features not assessable"),
        _said(used, "used", "not shown to be used", "use not assessable"),
    )
    return f"{', '.join(steps)}: {_meaning(image, features, used)}"


def _said(answer: Answer, yes: str, no: str, unknown: str) -> str:
    return unknown if answer is None else yes if answer else no


def _meaning(image: Answer, features: Answer, used: Answer) -> str:
    if used and features is False:
        return "the score goes with it though a linear probe of the features does not find it; see shortcut.scanner-dependence"
    if used and image is False:
        return (
            "the score goes with it though coarse numbers of the image do not show it; see shortcut.scanner-dependence"
        )
    if used:
        return (
            "the score goes with it among cases of the same label; whether it does so because of it, interventions tell"
        )
    if used is None:
        return "whether it is used is not known"
    if image or features:
        return "no defect by itself"
    if image is None or features is None:
        return "no sign of use"
    return "no sign of it anywhere"


def _reading(found: Readings, finding: str, column: Attribute) -> str:
    return in_words(*(found[source, finding, column.column].answer for source in SOURCES))


def _shown(context: JudgeContext, check: CheckSpec, finding: str, column: Attribute, found: Readings) -> Judged:
    def make() -> Estimate:
        reading = found[IMAGE, finding, column.column]
        if reading.within is None:
            raise StatisticsError(reading.reason)
        return reading.within

    return shown(
        context,
        check,
        finding,
        f"{column.column} told from the image within the label",
        make,
        reason=_reading(found, finding, column),
        subgroup=column.column,
        cases=column.known(),
    )


def _steps(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute], found: Readings) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for column in columns:
            areas = [found[source, finding, column.column].within for source in SOURCES]
            words = f"not assessable: {column.reason}" if column.reason else _reading(found, finding, column)
            rows.append(
                [finding, column.column, ROLES[column.role], *(None if a is None else a.value for a in areas), words]
            )
    return Table(
        check=check.id,
        domain=check.domain,
        title="Decodable, in the features, used",
        columns=["finding", "column", "role", "image", "features", "score", "reading"],
        rows=rows,
        note=f"AUROC for the value among cases of the same label, 0.5: not told. A step is taken to be shown where its "
        f"permutation p, by Holm over the columns, is at most {ALPHA:g}. {NO_DEFECT}",
    )


def _numbers(context: JudgeContext, check: CheckSpec, columns: Sequence[Attribute], found: Readings) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for column in columns:
            values = len(column.values) or None
            for source in SOURCES:
                reading = found[source, finding, column.column]
                areas = [
                    cell for a in (reading.overall, reading.within) for cell in (limits(a) if a else [None, None, None])
                ]
                ps = [None if np.isnan(p) else p for p in (reading.p, reading.adjusted)]
                note = f"not assessable: {reading.reason}" if reading.reason else ""
                if not note and column.missing():
                    note = f"{column.missing()} missing values left out"
                head: list[Cell] = [finding, column.column, values, source, reading.cases]
                rows.append([*head, *areas, reading.best, *ps, note])
    return Table(
        check=check.id,
        domain=check.domain,
        title="How well the columns are told",
        columns=[
            *("finding", "column", "values", "from", "cases", "AUROC", "lower", "upper"),
            *("within label", "lower", "upper", "told best", "p", "p, Holm", "note"),
        ],
        rows=rows,
        note="AUROC of a ridge probe for each value against the rest, mean over the values, on patients it was not fitted on "
        "(five folds, pooled within fold and label; limits from twice the clustered variance, since fits share cases). Of the "
        "score either direction counts, so its AUROC is 0.5 or more. p: values exchanged among patients with the "
        "same labels and about as many images, fit and penalty repeated each time. Continuous columns in fifths; missing and "
        "rare values left out.",
    )
