"""Parameter randomisation: a saliency map that a random model draws as well says nothing about the trained one.

Similarity of maps of the trained and the fully re-initialised model must lie below the similarity of maps of different images
(Arun et al. 2021, doi:10.1148/ryai.2021200267) and below the tolerance. Similarity is the absolute rank correlation: a map in
negative is the same map. SSIM is shown beside it. Methods are never ranked by any of it: noise passes too.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from robustbench_rad.checks.comparisons import Comparison, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import mean

SHOWN = ("similarity_randomised", "similarity_between_images", "ssim_randomised", "ssim_between_images")
RANDOMISED, BASELINE, FALLBACK = "similarity_randomised", "similarity_between_images", "uses_input_gradient"


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the mean similarity of each finding against the smaller of tolerance and inter-image baseline."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity="map similarity to a random model",
            harm="",
            tolerance=_bar(context, check, finding),
            estimate=partial(_similarity, context, check.id, RANDOMISED, finding),
        )
        for finding in context.findings
    ]
    return CheckOutcome(
        judged=judge_jointly(context, check, comparisons),
        tables=[_table(context, check)],
        notices=_notices(context, check),
    )


def _bar(context: JudgeContext, check: CheckSpec, finding: str) -> float:
    baseline = _values(context, check.id, BASELINE, finding)
    known = baseline[np.isfinite(baseline)]
    return min(check.delta(""), float(known.mean())) if len(known) else check.delta("")


def _similarity(context: JudgeContext, condition: str, name: str, finding: str, confidence: float) -> Estimate:
    values = _values(context, condition, name, finding)
    if np.isnan(values).all():
        raise StatisticsError("no positive case with a map that is not constant")
    bounds = (0.0, 1.0) if name in (RANDOMISED, BASELINE) else (-1.0, 1.0)
    return mean(values, context.patients, context.n_patients, bounds=bounds, confidence=confidence)


def _values(context: JudgeContext, condition: str, name: str, finding: str) -> Floats:
    """A measurement by case; rank correlations without their sign, lest maps in negative count as unlike."""
    values = context.measured(condition, name, finding=finding)
    return np.abs(values) if name in (RANDOMISED, BASELINE) else values


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[str | float | int | None]] = []
    for finding in context.findings:
        for name in SHOWN:
            try:
                e = _similarity(context, check.id, name, finding, context.confidence)
            except StatisticsError:
                rows.append([finding, _words(name), 0, None, None, None])
                continue
            known = int(np.isfinite(context.measured(check.id, name, finding=finding)).sum())
            rows.append([finding, _words(name), known, e.value, e.lower, e.upper])
    columns = ["finding", "quantity", "cases", "mean", "lower", "upper"]
    return Table(check=check.id, domain=check.domain, title="Similarity of saliency maps", columns=columns, rows=rows)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("ssim", "SSIM")


def _notices(context: JudgeContext, check: CheckSpec) -> list[str]:
    columns = ["", *context.findings]
    if not any((context.measured(check.id, FALLBACK, finding=finding) > 0).any() for finding in columns):
        return []
    return ["Saliency: the model's layers cannot be reached, so Grad-CAM is unavailable; input gradients were used."]
