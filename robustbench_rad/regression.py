"""Is this model worse than the last one? Every check of two finished runs, compared case by case, never score by score.

Harm is the loss of a metric from the baseline to this run, at every level that both measured and in every group of patients,
and the rise of what the score tells of a scanner. On the same cases the comparison is paired (clustered DeLong; paired
differences at the operating point), which is worth about five times the cases; on other cases it is not, and says so. All
intervals hold together (max-T). Margins: 0.02 AUROC, 0.03 sensitivity and specificity. What is not compared is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from robustbench_rad.checks.comparisons import interval, level_record, try_interval
from robustbench_rad.criteria import judge
from robustbench_rad.errors import StatisticsError
from robustbench_rad.judging import FinishedRun
from robustbench_rad.regression_contrasts import RISES, Contrast, Runs, clean, conditions
from robustbench_rad.regression_groups import others, scanners, subgroups
from robustbench_rad.regression_loss import (
    BEFORE,
    NOW,
    TELLING,
    Sample,
    available,
    discordant,
    loss,
    metric,
    unmeasured,
)
from robustbench_rad.result import Interval, Regression, RegressionRow, RegressionVerdict, Verdict
from robustbench_rad.seeds import derive_seed
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence

MARGINS: Mapping[str, float] = {"auroc": 0.02, TELLING: 0.02, "sensitivity": 0.03, "specificity": 0.03}
CONFIDENCE = 0.95
WORDS = {
    Verdict.PASS: RegressionVerdict.NOT_REGRESSED,
    Verdict.FAIL: RegressionVerdict.REGRESSED,
    Verdict.INCONCLUSIVE: RegressionVerdict.CANNOT_TELL,
}


def compare(current: FinishedRun, baseline: FinishedRun) -> Regression:
    """Compare a run with its baseline.

    Args:
        current: The run that is judged.
        baseline: The run it must not fall behind.
    """
    runs = Runs.of(current, baseline)
    found = [look(runs) for look in (clean, conditions, scanners, subgroups, others)]
    contrasts = [contrast for part in found for contrast in part.contrasts]
    rows = _rows(contrasts, derive_seed(current.record.plan.seed, "regression") % 2**32)
    return Regression(
        baseline=baseline.folder.resolve().name,
        measurement_sha256=baseline.record.provenance.measurement_sha256,
        weights_sha256=baseline.record.model.weights_sha256,
        finished=baseline.record.provenance.finished,
        paired=runs.order is not None,
        pairing=runs.pairing,
        verdict=_overall(row.verdict for row in rows),
        rows=rows,
        not_compared=[reason for part in found for reason in part.not_compared],
    )


def _rows(contrasts: Sequence[Contrast], seed: int) -> list[RegressionRow]:
    """One row per check, finding and metric; the worst level decides; all intervals hold together."""
    first = [_attempt(contrast, CONFIDENCE) for contrast in contrasts]
    influences = [e.influence for e in first if isinstance(e, Estimate) and e.influence is not None]
    joint = joint_confidence(np.stack(influences), CONFIDENCE, seed=seed) if len(influences) > 1 else CONFIDENCE
    groups: dict[tuple[str, str, str], list[tuple[Contrast, Estimate | str]]] = {}
    for contrast, attempt in zip(contrasts, first, strict=True):
        estimate = _attempt(contrast, joint) if isinstance(attempt, Estimate) else attempt
        groups.setdefault(contrast.group, []).append((contrast, estimate))
    return [_row(members) for members in groups.values()]


def _attempt(contrast: Contrast, confidence: float) -> Estimate | str:
    if isinstance(contrast.sample, str):
        return contrast.sample
    try:
        estimate = loss(contrast.sample, contrast.metric, confidence)
    except StatisticsError as error:
        return error.message
    return estimate.affine(scale=-1.0) if contrast.rises else estimate


def _row(members: Sequence[tuple[Contrast, Estimate | str]]) -> RegressionRow:
    margin = MARGINS[members[0][0].metric]
    known = [(contrast, e) for contrast, e in members if isinstance(e, Estimate)]
    missing = "; ".join(f"{f'at {c.level}: ' if c.level else ''}{e}" for c, e in members if isinstance(e, str))
    notes = [*dict.fromkeys(contrast.note for contrast, _ in members), _unmeasured(contrast for contrast, _ in members)]
    if not known:
        return _base(members[0][0], margin, [missing, *notes])
    contrast, estimate = _deciding(known, margin)
    assert isinstance(contrast.sample, Sample)  # it has an estimate
    positives, counted = available(contrast.sample, contrast.metric)
    judged = judge(estimate, margin, positives=positives, counted=counted)
    verdict, reason = judged.verdict, judged.reason
    doubts = [*dict.fromkeys(other.doubt for other, _ in members if other.doubt), missing]
    if verdict is Verdict.PASS and any(doubts):
        verdict, reason = Verdict.INCONCLUSIVE, "; ".join(filter(None, doubts))
    return _base(contrast, margin, [reason, discordant(contrast.sample, contrast.metric), *notes]).model_copy(
        update={
            "baseline": _shown(contrast, BEFORE),
            "current": _shown(contrast, NOW),
            "loss": interval(estimate),
            "verdict": WORDS[verdict],
        }
    )


def _unmeasured(contrasts: Iterable[Contrast]) -> str:
    """Cases that take no part because a run has no margin for them, at every level where there are some."""
    places: dict[str, list[str]] = {}
    for contrast in contrasts:
        words = unmeasured(contrast.sample) if isinstance(contrast.sample, Sample) else ""
        if words:
            places.setdefault(words, []).append(str(contrast.level or ""))
    return "; ".join(f"{words} at {', '.join(at)}" if any(at) else words for words, at in places.items())


def _deciding(known: Sequence[tuple[Contrast, Estimate]], margin: float) -> tuple[Contrast, Estimate]:
    """The most certain loss, else the largest upper bound; of three fills of the anatomy two must agree."""
    if known[0][0].check == RISES:
        return sorted(known, key=lambda member: member[1].lower)[len(known) // 2]
    lost = [member for member in known if member[1].lower > margin]
    if lost:
        return max(lost, key=lambda member: member[1].lower)
    return max(known, key=lambda member: member[1].upper)


def _base(contrast: Contrast, margin: float, reasons: Iterable[str]) -> RegressionRow:
    none = Interval(estimate=None, lower=None, upper=None)
    return RegressionRow(
        check=contrast.check,
        domain=contrast.domain,
        finding=contrast.finding,
        quantity=contrast.quantity,
        level=level_record(contrast.level) if contrast.level else None,
        baseline=none,
        current=none,
        loss=none,
        margin=margin,
        verdict=RegressionVerdict.CANNOT_TELL,
        reason="; ".join(filter(None, reasons)),
    )


def _shown(contrast: Contrast, run: int) -> Interval:
    """The metric of one run on its own cases, for the reader; the comparison does not subtract it."""
    assert isinstance(contrast.sample, Sample)  # it has an estimate
    return try_interval(partial(metric, contrast.sample, run, contrast.metric, CONFIDENCE))


def _overall(verdicts: Iterable[RegressionVerdict]) -> RegressionVerdict:
    """Regressed before cannot tell before not regressed; nothing at all cannot tell."""
    seen = set(verdicts)
    for verdict in (RegressionVerdict.REGRESSED, RegressionVerdict.CANNOT_TELL, RegressionVerdict.NOT_REGRESSED):
        if verdict in seen:
            return verdict
    return RegressionVerdict.CANNOT_TELL
