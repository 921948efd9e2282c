"""Clean performance against what the release claims: a model that does not reach it gets no score."""

from __future__ import annotations

from functools import partial

from robustbench_rad.checks.comparisons import Comparison, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.metrics import METRICS, NAMES, metric
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.statistics.estimate import Estimate

USELESS = 0.2  # a sensitivity or specificity wholly below this is no operating point anyone chose


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the shortfall, claim minus metric, of every claimed metric; AUROC always, at the profile's least or more."""
    comparisons = []
    for finding in context.findings:
        for name, claim in _claims(context, finding).items():
            make = partial(_shortfall, context, name, finding, claim)
            quantity = f"{NAMES[name]} below {claim:.2f}"
            counted = "negatives" if name == "specificity" else "positives"
            comparisons.append(
                Comparison(finding=finding, quantity=quantity, harm=name, estimate=make, counted=counted)
            )
    return CheckOutcome(judged=judge_jointly(context, check, comparisons), notices=_useless_thresholds(context))


def _useless_thresholds(context: JudgeContext) -> list[str]:
    """Say when nearly everything, or nearly nothing, is called at the locked threshold; AUROC does not see it."""
    notices = []
    for finding in context.findings:
        for name, calls in (("specificity", "positive"), ("sensitivity", "negative")):
            try:
                found = metric(context, name, finding, context.clean(finding), context.confidence)
            except StatisticsError:
                continue
            if found.upper < USELESS:
                notices.append(
                    f"{finding}: nearly every case is called {calls} ({NAMES[name]} {found.value:.2f}) at the locked "
                    "threshold: check the threshold, and range, mean and std in [model.input]"
                )
    return notices


def _claims(context: JudgeContext, finding: str) -> dict[str, float]:
    section = context.claims.get(finding)
    claims = {name: value for name in METRICS if section and (value := getattr(section, name)) is not None}
    return {"auroc": context.minimum_auroc, **claims}  # a sensitivity alone is met by calling everything


def _shortfall(context: JudgeContext, name: str, finding: str, claim: float, confidence: float) -> Estimate:
    return metric(context, name, finding, context.clean(finding), confidence).affine(scale=-1.0, offset=claim)
