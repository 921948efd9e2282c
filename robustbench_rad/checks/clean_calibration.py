"""Calibration, shown: are the probabilities true, and what would recalibrating at each site change?

The plug-in calibration error of a calibrated model is 0.05 on 200 cases, so it stands beside its expectation under
calibration and is never judged. Everything is about the mix of cases in this test set: where positives were enriched, the
intercept and observed over expected say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, limits, number, shown
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.brier_decomposition import brier_estimates
from robustbench_rad.statistics.calibration import brier, calibration_line
from robustbench_rad.statistics.calibration_error import (
    observed_over_expected,
    plug_in_calibration_error,
    spiegelhalter,
    squared_calibration_error,
)
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import proportion
from robustbench_rad.statistics.recalibration import METHODS, recalibrated

LEAST_CASES = 20  # per label and site, for a recalibration to be worth showing
EFFECTS = ("squared error", "Brier score", "sensitivity", "specificity")
UNKNOWN: tuple[Cell, ...] = (None,) * (3 * len(EFFECTS))


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show slope, intercept, observed over expected and the debiased squared error of every finding."""
    judged = [item for finding in context.findings for item in _criteria(context, check, finding)]
    return CheckOutcome(judged=judged, tables=[_table(context, check), _recalibration(context, check)])


def _criteria(context: JudgeContext, check: CheckSpec, finding: str) -> list[Judged]:
    def line(place: int) -> Estimate:
        label, logits = _known(context, finding)
        return calibration_line(label, logits, context.patients, context.n_patients, confidence=context.confidence)[
            place
        ]

    rows: list[tuple[str, Callable[[], Estimate], str]] = [
        ("calibration slope", lambda: line(1), "1 when calibrated; below 1 the probabilities are too extreme"),
        ("calibration intercept", lambda: line(0), "0 when calibrated, given the slope"),
        (
            "observed / expected",
            partial(_of_probabilities, context, finding, observed_over_expected),
            "1 when calibrated",
        ),
        (
            "squared calibration error",
            partial(_of_probabilities, context, finding, squared_calibration_error),
            "debiased: averages 0 when calibrated",
        ),
    ]
    return [shown(context, check, finding, quantity, make, reason=reason) for quantity, make, reason in rows]


def _known(context: JudgeContext, finding: str) -> tuple[Floats, Floats]:
    """Labels and log-odds; a case without either is unknown and has log-odds 0."""
    label = usable_labels(context, finding, context.clean(finding))
    logits = context.clean_log_odds(finding)
    return label, np.where(np.isnan(label), 0.0, logits)


def _of_probabilities(context: JudgeContext, finding: str, make: Callable[..., Estimate]) -> Estimate:
    label, logits = _known(context, finding)
    return make(label, expit(logits), context.patients, context.n_patients, confidence=context.confidence)


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    return Table(
        check=check.id,
        domain=check.domain,
        title="Calibration",
        columns=["finding", "quantity", "value", "lower", "upper", "note"],
        rows=[row for finding in context.findings for make in (_z, _plug_in, _brier) for row in make(context, finding)],
        note="Brier score = miscalibration - discrimination + uncertainty, recalibrated by isotonic regression, which lifts "
        "miscalibration and discrimination: their intervals are corrected for it. Spiegelhalter's Z has a p-value instead "
        "of an interval; the plug-in calibration error has what a calibrated model would show on these cases: read it only "
        "against that.",
    )


def _z(context: JudgeContext, finding: str) -> list[list[Cell]]:
    name = "Spiegelhalter Z"
    try:
        label, logits = _known(context, finding)
        test = spiegelhalter(label, expit(logits), context.patients, context.n_patients)
    except StatisticsError as error:
        return [_unknown(finding, name, error)]
    endless = "" if np.isfinite(test.z) else "infinite, for a probability of 0 or 1 was wrong; "
    return [[finding, name, number(test.z), None, None, f"{endless}p = {test.p_value:.3g}"]]


def _plug_in(context: JudgeContext, finding: str) -> list[list[Cell]]:
    name = "plug-in calibration error"
    try:
        label, logits = _known(context, finding)
        error = plug_in_calibration_error(label, expit(logits), seed=context.seed)
    except StatisticsError as refusal:
        return [_unknown(finding, name, refusal)]
    note = f"calibrated: {error.null_mean:.3f} on average, up to {error.null_upper:.3f} in 95 of 100 samples"
    return [[finding, name, error.value, None, None, note]]


def _brier(context: JudgeContext, finding: str) -> list[list[Cell]]:
    patients, count, confidence = context.patients, context.n_patients, context.confidence
    try:
        label, logits = _known(context, finding)
        parts = brier_estimates(label, expit(logits), patients, count, seed=context.seed, confidence=confidence)
    except StatisticsError as error:
        return [_unknown(finding, "Brier score and its parts", error)]
    named = {
        "Brier score": parts.score,
        "miscalibration": parts.miscalibration,
        "discrimination": parts.discrimination,
        "uncertainty": parts.uncertainty,
    }
    return [[finding, name, *limits(estimate), ""] for name, estimate in named.items()]


def _unknown(finding: str, name: str, error: StatisticsError) -> list[Cell]:
    return [finding, name, None, None, None, f"not assessable: {error.message}"]


def _recalibration(context: JudgeContext, check: CheckSpec) -> Table:
    column = next((name for name, role in context.roles.items() if role == "nuisance"), "")
    sites = list(context.metadata[column]) if column else ["all cases"] * len(context.patients)
    rows = [row for finding in context.findings for row in _sites(context, finding, sites)]
    return Table(
        check=check.id,
        domain=check.domain,
        title=f"What recalibrating at each {column or 'site'} would change",
        columns=[
            "finding",
            column or "site",
            "map",
            "cases",
            *(f"{name}{end}" for name in EFFECTS for end in ("", " lower", " upper")),
        ],
        rows=rows,
        note="Cross-fitted: each patient by a map that others gave; intervals are those of the maps as fitted. Squared error: "
        "debiased calibration error. Sensitivity and specificity at the locked threshold."
        + ("" if column else ' Declare a nuisance column for sites: [data] metadata = { site = "nuisance" }.'),
    )


def _sites(context: JudgeContext, finding: str, sites: list[str]) -> list[list[Cell]]:
    try:
        label, logits = _known(context, finding)
    except StatisticsError as error:
        return [[finding, "", f"not assessable: {error.message}", None, *UNKNOWN]]
    names = np.asarray(sites, dtype=np.str_)
    threshold = context.thresholds[finding]
    maps = {"none": expit(logits)} | {
        method: recalibrated(
            label, logits, context.patients, context.n_patients, method=method, sites=sites, seed=context.seed
        )
        for method in METHODS
    }
    rows: list[list[Cell]] = []
    for site in sorted(set(sites) - {""}):
        here = names == site
        counts = [int((label[here] == outcome).sum()) for outcome in (1, 0)]
        if min(counts) < LEAST_CASES:
            said = f"not powered: {counts[0]} positives, {counts[1]} negatives"
            rows.append([finding, site, said, int(here.sum()), *UNKNOWN])
            continue
        rows += [
            [finding, site, name, int(here.sum()), *_effect(context, np.where(here, label, np.nan), p, threshold)]
            for name, p in maps.items()
        ]
    return rows


def _effect(context: JudgeContext, label: Floats, p: Floats, threshold: float) -> list[Cell]:
    known = np.where(np.isnan(p), np.nan, label)
    given = np.where(np.isnan(known), 0.0, p)
    patients, count, level = context.patients, context.n_patients, context.confidence
    called: NDArray[np.bool_] = given >= threshold
    made = (
        lambda: squared_calibration_error(known, given, patients, count, confidence=level),
        lambda: brier(known, given, patients, count, confidence=level),
        lambda: proportion(called, known == 1, patients, count, confidence=level),
        lambda: proportion(~called, known == 0, patients, count, confidence=level),
    )
    return [cell for make in made for cell in cells(make)[:3]]
