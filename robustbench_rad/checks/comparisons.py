"""Many comparisons of one check become one joint judgement.

Every level and finding of a check is one comparison. Their intervals are made simultaneous (max-T over patient influence,
a share of the error for those with exact limits), and for each finding and harm the worst level decides. Where the profile
says ``multiplicity = "audit"``, the level at which they hold comes from the comparisons of all checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged, judge
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import NOT_RUN, Criterion, Interval, LevelRecord, Verdict
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import Family


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One harm of one finding at one level.

    Attributes:
        finding: Which finding.
        quantity: What is measured, in words.
        harm: Key of the tolerance: auroc, sensitivity, …; "" for the check's only one.
        level: Which level; None when there is none.
        estimate: Makes the harm's estimate at a confidence level, called once or twice (see :class:`Prepared`); may
            raise StatisticsError, whose text becomes the reason why the comparison is inconclusive.
        doubt: Why a pass may not be believed although the interval allows it (masked gradients), or "".
        tolerance: Overrides the check's δ.
        subgroup: Metadata column and value it is restricted to.
        counted: What the estimate is limited by: positives or negatives.
        cases: Makes the ``(N,)`` mask of the cases that are compared; None: all with a known label.
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
    cases: Callable[[], NDArray[np.bool_]] | None = None


class Prepared:
    """An estimator that looks at the scores once: every confidence level is made from what it saw.

    Args:
        prepare: Looks at the scores, and returns what makes the estimate at a confidence level.
    """

    def __init__(self, prepare: Callable[[], Callable[[float], Estimate]]) -> None:
        self._prepare = prepare
        self._at: Callable[[float], Estimate] | None = None

    def __call__(self, confidence: float) -> Estimate:
        """The estimate at a confidence level; raises what ``prepare`` raises."""
        self._at = self._at or self._prepare()
        return self._at(confidence)


SHOWN = "shown, not judged"
Members = list[tuple[Comparison, Estimate | str]]


def judge_jointly(context: JudgeContext, check: CheckSpec, comparisons: Sequence[Comparison]) -> list[Judged]:
    """Judge all comparisons of a check together: one criterion per finding, harm and subgroup.

    Nothing is dropped: a comparison that cannot be estimated makes its criterion inconclusive unless another level
    already fails.
    """
    groups: dict[tuple[str, str, str], Members] = {}
    for comparison in comparisons:
        attempt = _try(comparison, context.confidence if context.joint is None else context.joint)
        key = (comparison.finding, comparison.quantity, comparison.subgroup)
        groups.setdefault(key, []).append((comparison, attempt))
    families = [_family(check, members) for members in groups.values()]
    joint = Family.joined(families).joint_confidence(context.confidence, seed=context.seed)
    if context.joint is None and joint > context.confidence:
        groups = {key: [_again(*member, joint) for member in members] for key, members in groups.items()}
    judged = [_criterion(context, check, members) for members in groups.values()]
    if check.informational:
        return [_only_shown(item, members) for item, members in zip(judged, groups.values(), strict=True)]
    return [replace(item, family=family) for item, family in zip(judged, families, strict=True)]


def _only_shown(item: Judged, members: Members) -> Judged:
    """The numbers without a verdict; what makes them doubtful is still said, what could not be measured too."""
    doubts = [*dict.fromkeys(comparison.doubt for comparison, _ in members if comparison.doubt)]
    missing = item.criterion.reason if item.criterion.harm.estimate is None else ""
    update = {
        "tolerance": None,
        "critical_harm": None,
        "verdict": Verdict.INFORMATIONAL,
        "reason": missing or "; ".join([SHOWN, *doubts]),
        "needed_positives": None,
    }
    return Judged(criterion=item.criterion.model_copy(update=update), influence=None)


def _family(check: CheckSpec, members: Members) -> Family:
    """What the comparisons of one criterion cost the others.

    Of exact comparisons within the tolerance only the upper limit can mislead, and the upper limit of a criterion is
    wrong only when that of its truly worst level is; so they count as one, however many levels there are (Berger 1982,
    doi:10.1080/00401706.1982.10487790: an intersection needs no correction). Beyond the tolerance each counts.
    """
    known = [(comparison, e) for comparison, e in members if isinstance(e, Estimate)]
    varying = tuple(e.influence for _, e in known if e.influence is not None and e.influence.any())
    beyond = [e.value > _tolerance(check, c) for c, e in known if e.influence is None or not e.influence.any()]
    return Family(influences=varying, exact=sum(beyond) + (not all(beyond)))


def _again(comparison: Comparison, attempt: Estimate | str, confidence: float) -> tuple[Comparison, Estimate | str]:
    return comparison, _try(comparison, confidence) if isinstance(attempt, Estimate) else attempt


def _try(comparison: Comparison, confidence: float) -> Estimate | str:
    try:
        return comparison.estimate(confidence)
    except StatisticsError as error:
        return error.message


def _criterion(context: JudgeContext, check: CheckSpec, members: Members) -> Judged:
    comparison, estimate, missing = _deciding(check, members)
    if isinstance(estimate, str):
        return not_assessable(context, check, comparison, estimate)
    tolerance = _tolerance(check, comparison)
    used = _used(context, comparison)
    judged = judge(estimate, tolerance, positives=used.get(comparison.counted, 0), counted=comparison.counted)
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
            **used,
        }
    )
    return Judged(criterion=criterion, influence=estimate.influence)


def _deciding(check: CheckSpec, members: Members) -> tuple[Comparison, Estimate | str, str]:
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


def _used(context: JudgeContext, comparison: Comparison) -> dict[str, int]:
    """Positives, negatives and patients that the comparison rests on."""
    if not comparison.finding:
        return {}
    return context.counts(comparison.finding, None if comparison.cases is None else comparison.cases())


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
