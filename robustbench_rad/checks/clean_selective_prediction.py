"""Refer when unsure, shown: how many wrong calls are left when the least certain cases go to a reader.

Certainty is the distance of the margin from the locked threshold. A shift that a model does not notice shows here: errors
rise and certainty does not fall.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.comparisons import level_record, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, limits, shown
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, CurvePoint, Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import proportion
from robustbench_rad.statistics.selective import RiskCoverage, risk_coverage, safe_coverage

KEPT = (0.95, 0.9, 0.8, 0.7, 0.5)
NUMBERS = ("error rate", "area", "excess area")


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the excess area under the risk-coverage curve, the curve, and what shifts do to it."""
    judged = [
        shown(
            context,
            check,
            finding,
            "excess area under the risk-coverage curve",
            partial(_excess, context, finding),
            reason="0: the model is least certain exactly where it is wrong",
        )
        for finding in context.findings
    ]
    curves = [_curve(context, check, finding) for finding in context.findings]
    return CheckOutcome(judged=judged, curves=curves, tables=[_table(context, check)])


def _errors(context: JudgeContext, finding: str, margins: Floats) -> tuple[Floats, Floats]:
    """Wrong calls, NaN where unknown, and certainty."""
    label = usable_labels(context, finding, margins)
    wrong = np.where(np.isnan(label), np.nan, (margins >= 0) != (label == 1))
    return wrong, np.where(np.isnan(label), 0.0, np.abs(margins))


def _risk(context: JudgeContext, finding: str, margins: Floats) -> RiskCoverage:
    wrong, sure = _errors(context, finding, margins)
    return risk_coverage(wrong, sure, context.patients, context.n_patients, confidence=context.confidence)


def _excess(context: JudgeContext, finding: str) -> Estimate:
    return _risk(context, finding, context.clean(finding)).excess


def _kept(context: JudgeContext, finding: str, share: float) -> Estimate:
    """Error rate of the most certain share of the cases; ties at its edge are kept."""
    wrong, sure = _errors(context, finding, context.clean(finding))
    known = ~np.isnan(wrong)
    edge = np.quantile(sure[known], 1 - share, method="higher")
    return proportion(
        wrong == 1, known & (sure >= edge), context.patients, context.n_patients, confidence=context.confidence
    )


def _curve(context: JudgeContext, check: CheckSpec, finding: str) -> Curve:
    try:
        known = int((~np.isnan(_errors(context, finding, context.clean(finding))[0])).sum())
    except StatisticsError:
        known = 0
    points = [
        CurvePoint(
            level=level_record(Level(name=f"{share:.0%}", value=share, unit="of cases kept")),
            value=try_interval(partial(_kept, context, finding, share)),
            n=round(share * known),
        )
        for share in KEPT
    ]
    everything = try_interval(partial(_kept, context, finding, 1.0))
    return Curve(
        check=check.id, domain=check.domain, finding=finding, metric="error rate", clean=everything, points=points
    )


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        rows.append([finding, "clean", *_row(context, finding, context.clean(finding))])
        for condition, levels in context.levels.items():
            if condition.startswith("shift."):
                rows += [
                    [finding, f"{condition} {level.name}", *_row(context, finding, margins)]
                    for level in levels
                    if not np.isnan(margins := context.margins(condition, level.name, finding)).all()
                ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Refer when unsure",
        columns=[
            "finding",
            "images",
            *(f"{name}{end}" for name in NUMBERS for end in ("", " lower", " upper")),
            "kept to halve errors",
            "kept, lower",
            "note",
        ],
        rows=rows,
        note="Area under the risk-coverage curve, and its excess over an ideal order of certainty. Kept: largest share "
        "of cases whose error rate is at most half of that of all clean cases (as observed); lower: the share of which "
        f"that is shown with {context.confidence:.0%} confidence, one-sided.",
    )


def _row(context: JudgeContext, finding: str, margins: Floats) -> list[Cell]:
    try:
        clean, _ = _errors(context, finding, context.clean(finding))
        wrong, sure = _errors(context, finding, margins)
        risk = _risk(context, finding, margins)
        rate = proportion(
            wrong == 1, ~np.isnan(wrong), context.patients, context.n_patients, confidence=context.confidence
        )
        safe = safe_coverage(
            wrong,
            sure,
            context.patients,
            context.n_patients,
            target=float(np.nanmean(clean)) / 2,
            confidence=context.confidence,
        )
    except StatisticsError as error:
        return [*[None] * (3 * len(NUMBERS) + 2), error.message]
    numbers = [cell for estimate in (rate, risk.area, risk.excess) for cell in limits(estimate)]
    return [*numbers, safe.observed, safe.shown, ""]
