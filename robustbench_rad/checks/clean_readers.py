"""Readers, shown: how far they agree with each other, and where the model stands in the band between them."""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, limits, shown
from robustbench_rad.checks.metrics import metric
from robustbench_rad.criteria import Judged
from robustbench_rad.data.labels import parse_label
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.agreement import ReaderBand, cohen_kappa, fleiss_kappa, majority, reader_band
from robustbench_rad.statistics.estimate import Estimate

RATES = ("sensitivity", "specificity")


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show kappa and the band of every finding that has readers; nothing where none are declared."""
    read = [finding for finding in context.findings if context.readers.get(finding)]
    if not read:
        return CheckOutcome(judged=[])
    judged = [item for finding in read for item in _criteria(context, check, finding)]
    return CheckOutcome(judged=judged, tables=[_table(context, check, read)])


def _criteria(context: JudgeContext, check: CheckSpec, finding: str) -> list[Judged]:
    try:
        band = _band(context, finding)
    except StatisticsError as error:
        return [shown(context, check, finding, "agreement of readers", partial(_refuse, error.message))]
    made = [shown(context, check, finding, "agreement of readers (kappa)", partial(_kappa, context, finding))]
    for name, reached in (("sensitivity", band.sensitivity), ("specificity", band.specificity)):
        make = partial(metric, context, name, finding, context.clean(finding), context.confidence)
        made.append(shown(context, check, finding, f"{name} of the model", make, reason=_place(reached)))
    return made


def _refuse(reason: str) -> Estimate:
    raise StatisticsError(reason)


def _place(limits: tuple[float, float]) -> str:
    low, high = limits
    return "no reader could be compared" if np.isnan(low) else f"readers reach {low:.2f} to {high:.2f}"


def _ratings(context: JudgeContext, finding: str) -> Floats:
    """``(N, R)`` labels of the readers."""
    try:
        columns = [
            [parse_label(cell, context.uncertain) for cell in context.metadata[column]]
            for column in context.readers[finding]
        ]
    except ValueError as error:
        raise StatisticsError(f"readers: {error}") from error
    return np.array(columns, dtype=np.float64).T


def _kappa(context: JudgeContext, finding: str) -> Estimate:
    ratings = _ratings(context, finding)
    patients, count = context.patients, context.n_patients
    if ratings.shape[1] == 2:
        return cohen_kappa(ratings[:, 0], ratings[:, 1], patients, count, confidence=context.confidence)
    return fleiss_kappa(ratings, patients, count, confidence=context.confidence)


def _band(context: JudgeContext, finding: str) -> ReaderBand:
    return reader_band(
        context.label(finding),
        _ratings(context, finding),
        context.patients,
        context.n_patients,
        confidence=context.confidence,
    )


def _table(context: JudgeContext, check: CheckSpec, read: list[str]) -> Table:
    rows: list[list[Cell]] = []
    for finding in read:
        try:
            rows += _rows(context, finding)
        except StatisticsError as error:
            rows.append([finding, "", *[None] * 12, f"not assessable: {error.message}"])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Readers beside the model",
        columns=["finding", "reader", *_columns("reference"), *_columns("others"), "note"],
        rows=rows,
        note="Against the reference labels, and against the majority of the other readers: a reader who had a say in the "
        "reference agrees with it too well.",
    )


def _columns(against: str) -> list[str]:
    return [f"{rate}, {against}{end}" for rate in RATES for end in ("", " lower", " upper")]


def _rows(context: JudgeContext, finding: str) -> list[list[Cell]]:
    ratings, band = _ratings(context, finding), _band(context, finding)
    rows: list[list[Cell]] = []
    for place, column in enumerate(context.readers[finding]):
        others = reader_band(
            majority(ratings, without=place),
            ratings[:, [place]],
            context.patients,
            context.n_patients,
            confidence=context.confidence,
        )
        rates = (band.sensitivities[place], band.specificities[place], others.sensitivities[0], others.specificities[0])
        reasons = {"reference": band.reasons.get(place), "others": others.reasons.get(0)}
        note = "; ".join(f"against the {against}: {reason}" for against, reason in reasons.items() if reason)
        rows.append([finding, column, *[cell for rate in rates for cell in _cells(rate)], note])
    return [*rows, _model(context, finding)]


def _model(context: JudgeContext, finding: str) -> list[Cell]:
    clean = context.clean(finding)
    own = [cells(partial(metric, context, name, finding, clean, context.confidence)) for name in RATES]
    note = "; ".join(dict.fromkeys(str(reason) for *_, reason in own if reason))
    return [finding, "the model", *[cell for rate in own for cell in rate[:3]], *[None] * 6, note]


def _cells(rate: Estimate | None) -> list[Cell]:
    return [None, None, None] if rate is None else limits(rate)
