"""Many comparisons of one check become one joint judgement.

Every level and finding of a check is one comparison. Their intervals are made simultaneous (max-T over patient influence),
and for each finding and harm the worst level decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged, judge
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import NOT_RUN, Criterion, Interval, LevelRecord, Verdict
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One harm of one finding at one level.

    Attributes:
        finding: Which finding.
        quantity: What is measured, in words.
        harm: Key of the tolerance: auroc, sensitivity, …; "" for the check's only one.
        level: Which level; None when there is none.
        estimate: Makes the harm's estimate at a confidence level; may raise StatisticsError, whose text becomes the
            reason why the comparison is inconclusive.
        doubt: Why a pass may not be believed although the interval allows it (masked gradients), or "".
        tolerance: Overrides the check's δ.
        subgroup: Metadata column and value it is restricted to.
        counted: What the estimate is limited by: positives or negatives.
    """

    finding: str
    quantity: str
    harm: str
    estimate: Callable[[float], Estimate]
    level: Level | None = None
    doubt: str = ""
    tolerance: float | None = None
    subgroup: str = ""
    counted: str = "positives"


def judge_jointly(context: JudgeContext, check: CheckSpec, comparisons: Sequence[Comparison]) -> list[Judged]:
    """Judge all comparisons of a check together: one criterion per finding, harm and subgroup.

    Nothing is dropped: a comparison that cannot be estimated makes its criterion inconclusive unless another level
    already fails.
    """
    first = [_try(comparison, context.confidence) for comparison in comparisons]
    influences = [e.influence for e in first if isinstance(e, Estimate) and e.influence is not None]
    joint = context.confidence
    if len(influences) > 1:
        joint = joint_confidence(np.stack(influences), context.confidence, seed=context.seed)
    groups: dict[tuple[str, str, str], list[tuple[Comparison, Estimate | str]]] = {}
    for comparison, attempt in zip(comparisons, first, strict=True):
        estimate = _try(comparison, joint) if isinstance(attempt, Estimate) else attempt
        key = (comparison.finding, comparison.quantity, comparison.subgroup)
        groups.setdefault(key, []).append((comparison, estimate))
    return [_criterion(context, check, members) for members in groups.values()]


def _try(comparison: Comparison, confidence: float) -> Estimate | str:
    try:
        return comparison.estimate(confidence)
    except StatisticsError as error:
        return error.message


def _criterion(context: JudgeContext, check: CheckSpec, members: list[tuple[Comparison, Estimate | str]]) -> Judged:
    comparison, estimate, missing = _deciding(check, members)
    if isinstance(estimate, str):
        return not_assessable(context, check, comparison, estimate)
    tolerance = _tolerance(check, comparison)
    available = context.counts(comparison.finding)[comparison.counted] if comparison.finding else 0
    judged = judge(estimate, tolerance, positives=available, counted=comparison.counted)
    verdict, reason = judged.verdict, judged.reason
    doubts = [*dict.fromkeys(other.doubt for other, _ in members if other.doubt), missing]
    if verdict is Verdict.PASS and any(doubts):
        verdict, reason = Verdict.INCONCLUSIVE, "; ".join(doubt for doubt in doubts if doubt)
    criterion = _base(context, check, comparison).model_copy(
        update={
            "harm": interval(estimate),
            "tolerance": tolerance,
            "verdict": verdict,
            "reason": reason,
            "needed_positives": judged.needed_positives if verdict is Verdict.INCONCLUSIVE else None,
            "needed_counted": comparison.counted,
        }
    )
    return Judged(criterion=criterion, influence=estimate.influence)


def _deciding(
    check: CheckSpec, members: list[tuple[Comparison, Estimate | str]]
) -> tuple[Comparison, Estimate | str, str]:
    """The level that decides: the most certain failure, else the largest upper bound; and why others are missing."""
    known = [(comparison, e) for comparison, e in members if isinstance(e, Estimate)]
    reasons = [f"{_at(comparison)}{e}" for comparison, e in members if isinstance(e, str)]
    if not known:
        return members[0][0], str(members[0][1]), ""
    failing = [(c, e) for c, e in known if e.lower > _tolerance(check, c)]
    if failing:
        comparison, estimate = max(failing, key=lambda pair: pair[1].lower - _tolerance(check, pair[0]))
    else:
        comparison, estimate = max(known, key=lambda pair: pair[1].upper - _tolerance(check, pair[0]))
    return comparison, estimate, "; ".join(reasons)


def _at(comparison: Comparison) -> str:
    return f"at {comparison.level}: " if comparison.level else ""


def _tolerance(check: CheckSpec, comparison: Comparison) -> float:
    return check.delta(comparison.harm) if comparison.tolerance is None else comparison.tolerance


def not_assessable(context: JudgeContext, check: CheckSpec, comparison: Comparison, reason: str) -> Judged:
    """An inconclusive criterion without a number, with the reason and what would be needed."""
    criterion = _base(context, check, comparison).model_copy(update={"reason": f"not assessable: {reason}"})
    return Judged(criterion=criterion, influence=None)


def missing_check(check: CheckSpec, reason: str) -> Judged:
    """A check of the profile that did not run at all; it is never dropped silently."""
    criterion = Criterion(
        id=check.id,
        check=check.id,
        domain=check.domain,
        quantity=NOT_RUN,
        harm=Interval(estimate=None, lower=None, upper=None),
        tolerance=None,
        critical_harm=None,
        verdict=Verdict.INCONCLUSIVE,
        reason=f"not assessable: {reason}",
        critical=check.critical,
    )
    return Judged(criterion=criterion, influence=None)


def _base(context: JudgeContext, check: CheckSpec, comparison: Comparison) -> Criterion:
    parts = (check.id, comparison.finding, comparison.quantity, comparison.subgroup)
    base = Criterion(
        id="/".join(part for part in parts if part),
        check=check.id,
        domain=check.domain,
        finding=comparison.finding,
        subgroup=comparison.subgroup,
        quantity=comparison.quantity,
        level=level_record(comparison.level) if comparison.level else None,
        harm=Interval(estimate=None, lower=None, upper=None),
        tolerance=_tolerance(check, comparison),
        critical_harm=check.capital_delta(comparison.harm),
        verdict=Verdict.INCONCLUSIVE,
        reason="",
        critical=check.critical,
    )
    return base.model_copy(update=context.counts(comparison.finding)) if comparison.finding else base


def interval(estimate: Estimate) -> Interval:
    """An estimate as it is written into a result."""
    return Interval(
        estimate=_number(estimate.value),
        lower=_number(estimate.lower),
        upper=_number(estimate.upper),
        confidence=round(estimate.confidence, 6),
        method=estimate.method,
    )


def try_interval(make: Callable[[], Estimate]) -> Interval:
    """An interval, or an empty one that says why it is not defined."""
    try:
        return interval(make())
    except StatisticsError as error:
        return Interval(estimate=None, lower=None, upper=None, method=error.message)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def level_record(level: Level) -> LevelRecord:
    """A level as it is written into a result."""
    return LevelRecord(name=level.name, value=level.value, unit=level.unit)


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Fail before inconclusive before pass; nothing at all is inconclusive."""
    seen = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in seen:
            return verdict
    return Verdict.INCONCLUSIVE
