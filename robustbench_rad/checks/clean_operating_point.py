"""What the calls are worth where the model will be used, shown: precision, predictive values and cost.

Predictive values and cost belong to a prevalence and to costs that only the user knows; they are declared in the plan or not
shown. Average precision stands beside the prevalence of these cases, which is what chance would give.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.comparisons import interval
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.informational import Cell, limits, number, shown
from robustbench_rad.checks.metrics import metric, usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, CurvePoint, LevelRecord, Table
from robustbench_rad.statistics.cost_band import band_thresholds, cost_band
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.least_cost import least_cost
from robustbench_rad.statistics.operating_point import (
    Costs,
    expected_cost,
    predictive_value_estimates,
)
from robustbench_rad.statistics.precision_recall import average_precision


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show average precision, and PPV, NPV and cost where prevalence and costs are declared."""
    judged = [item for finding in context.findings for item in _criteria(context, check, finding)]
    rows = [row for finding in context.findings for row in _costs(context, finding)]
    tables = [_table(check, rows)] if rows else []
    curves = [curve for finding in context.findings if (curve := _curve(context, check, finding))]
    return CheckOutcome(judged=judged, tables=tables, curves=curves)


def _criteria(context: JudgeContext, check: CheckSpec, finding: str) -> list[Judged]:
    label = context.label(finding)
    share = float((label == 1).sum() / max(int((~np.isnan(label)).sum()), 1))
    rows = [
        ("average precision", partial(_precision, context, finding), f"chance gives the prevalence here, {share:.3f}")
    ]
    prevalence = context.prevalence.get(finding)
    if prevalence is None:
        undeclared = partial(_undeclared, f"no prevalence: declare [data] prevalence = {{ {finding} = … }}")
        rows.append(("PPV and NPV", undeclared, ""))
    else:
        for place, name in enumerate(("PPV", "NPV")):
            quantity = f"{name} at a prevalence of {prevalence:g}"
            rows.append(
                (quantity, partial(_predictive, context, finding, prevalence, place), "at the locked threshold")
            )
        if finding in context.costs:
            rows.append(
                ("expected cost per case", partial(_cost, context, finding), _against_constant(context, finding))
            )
    return [shown(context, check, finding, quantity, make, reason=reason) for quantity, make, reason in rows]


def _undeclared(reason: str) -> Estimate:
    raise StatisticsError(reason)


def _precision(context: JudgeContext, finding: str) -> Estimate:
    margins = context.clean(finding)
    label = usable_labels(context, finding, margins)
    return average_precision(
        label, margins, context.patients, context.n_patients, seed=context.seed, confidence=context.confidence
    ).estimate


def _rates(context: JudgeContext, finding: str) -> tuple[Estimate, Estimate]:
    clean = context.clean(finding)
    sensitivity = metric(context, "sensitivity", finding, clean, context.confidence)
    return sensitivity, metric(context, "specificity", finding, clean, context.confidence)


def _predictive(context: JudgeContext, finding: str, prevalence: float, place: int) -> Estimate:
    return predictive_value_estimates(*_rates(context, finding), prevalence)[place]


def _declared_costs(context: JudgeContext, finding: str) -> Costs:
    """Costs of the plan; what is not named costs nothing, and is said to."""
    given = context.costs[finding]
    return Costs(miss=given.get("miss", 0.0), false_alarm=given.get("false_alarm", 0.0))


def _cost(context: JudgeContext, finding: str) -> Estimate:
    return expected_cost(*_rates(context, finding), context.prevalence[finding], _declared_costs(context, finding))


def _against_constant(context: JudgeContext, finding: str) -> str:
    costs, prevalence = _declared_costs(context, finding), context.prevalence[finding]
    return (
        f"a miss costs {costs.miss:g}, a false alarm {costs.false_alarm:g}; calling none or all would cost "
        f"{costs.of_constant(prevalence):.3g}"
    )


def _costs(context: JudgeContext, finding: str) -> list[list[Cell]]:
    """Cost of the locked threshold, of the cheapest one on these cases, and of calling all or none."""
    if finding not in context.costs or finding not in context.prevalence:
        return []
    margins = context.clean(finding)
    try:
        label = usable_labels(context, finding, margins)
        costs, prevalence = _declared_costs(context, finding), context.prevalence[finding]
        locked = _cost(context, finding)
        cheapest, least = least_cost(
            label,
            margins,
            context.patients,
            context.n_patients,
            prevalence=prevalence,
            costs=costs,
            seed=context.seed,
            confidence=context.confidence,
        )
    except StatisticsError as error:
        return [[finding, f"not assessable: {error.message}", *[None] * 4]]
    constant = {"call none": prevalence * costs.miss, "call all": (1 - prevalence) * costs.false_alarm}
    return [
        [finding, "locked threshold", 0.0, *limits(locked)],
        [finding, "cheapest threshold on these cases", number(cheapest), *limits(least)],
        *([finding, policy, None, cost, cost, cost] for policy, cost in constant.items()),
    ]


def _curve(context: JudgeContext, check: CheckSpec, finding: str) -> Curve | None:
    """Cost against the threshold; None where the table of costs is not shown, or says why there are none."""
    if finding not in context.costs or finding not in context.prevalence:
        return None
    margins = context.clean(finding)
    try:
        label = usable_labels(context, finding, margins)
        thresholds = band_thresholds(label, margins)
        band = cost_band(
            label,
            margins,
            context.patients,
            context.n_patients,
            thresholds=thresholds,
            prevalence=context.prevalence[finding],
            costs=_declared_costs(context, finding),
            seed=context.seed,
            confidence=context.confidence,
        )
        locked = _cost(context, finding)
    except StatisticsError:
        return None
    known = int((~np.isnan(label)).sum())
    return Curve(
        check=check.id,
        domain=check.domain,
        finding=finding,
        metric="cost per case, by threshold",
        clean=interval(locked),
        points=[
            CurvePoint(level=_threshold_level(at), value=interval(cost), n=known)
            for at, cost in zip(thresholds.tolist(), band, strict=True)
        ],
    )


def _threshold_level(margin: float) -> LevelRecord:
    digits = 1 if abs(margin) >= 0.05 else 3
    name = f"{margin:+.{digits}f}".replace("-", "−") if margin else "locked"
    return LevelRecord(name=name, value=margin, unit="log-odds above the locked threshold")


def _table(check: CheckSpec, rows: list[list[Cell]]) -> Table:
    return Table(
        check=check.id,
        domain=check.domain,
        title="Cost per case at the declared prevalence and costs",
        columns=["finding", "policy", "margin", "cost per case", "lower", "upper"],
        rows=rows,
        note="Margin: log-odds above the locked threshold. The cheapest threshold was chosen on these cases, so its cost is "
        "too favourable; its interval is that of the least cost of any threshold, corrected for the choice. What calling "
        "none or all costs follows from the declared numbers alone and has no error. The curve of the cost by threshold has "
        "a band that holds at all its thresholds together; dashed: the locked one.",
    )
