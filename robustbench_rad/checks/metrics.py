"""AUROC, sensitivity and specificity of margins, clean and altered, on the cases where both are defined."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import level_record, try_interval
from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, CurvePoint
from robustbench_rad.statistics.auc import difference_of_rankings, interval
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import paired_interval, paired_shares, proportion

METRICS = ("auroc", "sensitivity", "specificity")
NAMES = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
NO_SIGNAL = "not assessable: the model shows no signal on these cases, so a pass would mean nothing"
Mask = NDArray[np.bool_]


def metric(context: JudgeContext, name: str, finding: str, margins: Floats, confidence: float) -> Estimate:
    """Estimate a metric of the margins at the locked operating point (margin ≥ 0 is a call).

    Args:
        context: Labels and patients.
        name: ``auroc``, ``sensitivity`` or ``specificity``.
        finding: Which finding.
        margins: ``(N,)``; NaN where the case does not take part.
        confidence: Of the interval.

    Raises:
        StatisticsError: One class, no case, or margins that are not numbers; the text is the reason.
    """
    label = usable_labels(context, finding, margins)
    if name == "auroc":
        return interval(context.rank(label, margins), confidence=confidence)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    return proportion(correct(name, margins), valid, context.patients, context.n_patients, confidence=confidence)


def metric_drop(context: JudgeContext, name: str, finding: str, margins: Floats) -> Callable[[float], Estimate]:
    """Prepare the paired loss of a metric, clean minus altered, on the cases where the altered image has a meaning.

    Args:
        context: Labels, patients and clean margins.
        name: ``auroc``, ``sensitivity`` or ``specificity``.
        finding: Which finding.
        margins: ``(N,)`` under the condition; NaN where it has no meaning.

    Returns:
        What makes the estimate at a confidence level; all sorting and counting is done.

    Raises:
        StatisticsError: As :func:`metric`.
    """
    label = usable_labels(context, finding, margins)
    clean = context.clean(finding)
    if name == "auroc":
        return _at(partial(difference_of_rankings, context.rank(label, clean), context.rank(label, margins)))
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    calls = correct(name, clean), correct(name, margins)
    return _at(partial(paired_interval, paired_shares(*calls, valid, context.patients, context.n_patients)))


def _at(make: Callable[..., Estimate]) -> Callable[[float], Estimate]:
    return lambda confidence: make(confidence=confidence)


def correct(name: str, margins: Floats) -> Mask:
    """Which cases are called rightly, were they all positive (sensitivity) or all negative (specificity)."""
    called: Mask = margins >= 0
    return called if name == "sensitivity" else ~called


def usable_labels(context: JudgeContext, finding: str, margins: Floats) -> Floats:
    """Labels, unknown where the margin has no meaning.

    Raises:
        StatisticsError: No case at all, or the model gave no number for some.
    """
    label = np.where(np.isnan(margins), np.nan, context.label(finding))
    broken = int((np.isinf(margins) & ~np.isnan(label)).sum())
    if broken:
        raise StatisticsError(f"the model gave NaN or infinity on {broken} case(s)")
    if not (~np.isnan(label)).any():
        raise StatisticsError("no case with a known label could be altered like this")
    return label


def without_signal(context: JudgeContext, finding: str) -> str:
    """Why no pass of an audit may be believed: a model that tells nothing has nothing to lose; "" where it has a signal."""
    try:
        signal = metric(context, "auroc", finding, context.clean(finding), context.confidence)
    except StatisticsError as error:
        return f"not assessable: whether the model has a signal cannot be told, {error.message}"
    return NO_SIGNAL if signal.lower <= 0.5 else ""


def curve(context: JudgeContext, check: CheckSpec, finding: str, name: str, select: Callable[[Level], bool]) -> Curve:
    """A metric against the levels of a condition."""
    ladder = [level for level in context.levels.get(check.id, ()) if select(level)]
    clean = context.clean(finding)
    points = []
    for level in ladder:
        margins = context.margins(check.id, level.name, finding)
        value = try_interval(lambda m=margins: metric(context, name, finding, m, context.confidence))  # type: ignore[misc]
        points.append(CurvePoint(level=level_record(level), value=value, n=int(np.isfinite(margins).sum())))
    return Curve(
        check=check.id,
        domain=check.domain,
        finding=finding,
        metric=NAMES[name],
        clean=try_interval(lambda: metric(context, name, finding, clean, context.confidence)),
        points=points,
    )
