"""From scores to verdicts: run every check of the profile on a finished score table. Pure, and fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from robustbench_rad.checks import defaults
from robustbench_rad.checks.adversarial_honesty import untold
from robustbench_rad.checks.comparisons import missing_check, worst_verdict
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.criteria import Judged, with_points
from robustbench_rad.profile import CheckSpec, Profile
from robustbench_rad.result import Criterion, Curve, Domain, PreflightItem, Score, Table, Verdict
from robustbench_rad.scoring import overall, score_audit
from robustbench_rad.statistics.multiplicity import Family


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All criteria with the score and the verdict of the whole."""

    judged: list[Judged]
    curves: list[Curve]
    tables: list[Table]
    notices: list[str]
    score: Score
    verdict: Verdict


def judge_audit(
    context: JudgeContext,
    profile: Profile,
    *,
    errors: Mapping[str, str],
    partial: Mapping[str, str],
    preflight: list[PreflightItem],
) -> Judgement:
    """Run every check, score, and say the verdict.

    Args:
        context: Scores of the finished pass.
        profile: Effective profile.
        errors: Check id → why its condition could not run; such a check is inconclusive.
        partial: Check id → why no criterion of it may pass although what was measured may fail it.
        preflight: A preflight error allows no pass.
    """
    outcomes = _outcomes(context, profile, errors)
    judged = [
        with_points(_doubted(item, _doubt(item.criterion, partial, outcomes)))
        for outcome in outcomes
        for item in outcome.judged
    ]
    gate = _preflight_gate(preflight, utility_gate(judged, profile, claimed=bool(context.claims)))
    score = score_audit(judged, profile, gate, seed=context.seed)
    verdict = overall(score, judged, profile)
    return Judgement(
        judged=judged,
        curves=[curve for outcome in outcomes for curve in outcome.curves],
        tables=[*(table for outcome in outcomes for table in outcome.tables), *untold(context)],
        notices=[
            *_profile_notice(profile),
            *_multiplicity_notice(profile, judged),
            *(notice for outcome in outcomes for notice in outcome.notices),
        ],
        score=score,
        verdict=verdict,
    )


def _outcomes(context: JudgeContext, profile: Profile, errors: Mapping[str, str]) -> list[CheckOutcome]:
    """Every check judged; once more at the joint level where all checks are to hold together."""
    outcomes = [_judge(context, check, errors.get(check.id, "")) for check in profile.checks]
    if profile.multiplicity == "check":
        return outcomes
    family = Family.joined(item.family for outcome in outcomes for item in outcome.judged)
    joint = replace(context, joint=family.joint_confidence(context.confidence, seed=context.seed))
    return [_judge(joint, check, errors.get(check.id, "")) for check in profile.checks]


def _judge(context: JudgeContext, check: CheckSpec, error: str) -> CheckOutcome:
    if not check.enabled and check.informational:
        return CheckOutcome(judged=[])
    if not check.enabled:
        return CheckOutcome(judged=[missing_check(check, "the plan leaves this check out")])
    if error and check.informational:
        return CheckOutcome(judged=[], notices=[f"{check.id} could not be shown: {error}"])
    if error:
        return CheckOutcome(judged=[missing_check(check, error)])
    outcome: CheckOutcome = importlib.import_module(defaults(check.id).judge).judge(context, check)
    if not outcome.judged and not check.informational:
        return CheckOutcome(judged=[missing_check(check, "nothing could be compared")])
    return outcome


def _doubted(item: Judged, doubt: str) -> Judged:
    """The same criterion, inconclusive where it would have passed."""
    if not doubt or item.criterion.verdict is not Verdict.PASS:
        return item
    update = {"verdict": Verdict.INCONCLUSIVE, "reason": doubt}
    return replace(item, criterion=item.criterion.model_copy(update=update))


def _doubt(criterion: Criterion, partial: Mapping[str, str], outcomes: list[CheckOutcome]) -> str:
    """Why a criterion may not pass: its check was not measured whole, or another check casts doubt on its domain."""
    said = (outcome.doubts.get((criterion.domain, criterion.finding), "") for outcome in outcomes)
    return partial.get(criterion.check, "") or next((doubt for doubt in said if doubt), "")


def _profile_notice(profile: Profile) -> list[str]:
    changed = ", ".join(profile.modified)
    return [f"The plan changes the profile {profile.name} v{profile.version}: {changed}."] if changed else []


def _multiplicity_notice(profile: Profile, judged: list[Judged]) -> list[str]:
    levels = [c.harm.confidence for c in (item.criterion for item in judged) if c.harm.upper is not None]
    if profile.multiplicity == "check" or not levels:
        return []
    return [
        f"The profile judges all checks together: each interval of a harm is at {100 * max(levels):.3g} %, so that all of "
        "them hold at once."
    ]


def _preflight_gate(preflight: list[PreflightItem], gate: tuple[Verdict, str]) -> tuple[Verdict, str]:
    """A preflight error means that the numbers themselves are in doubt: no score, and no pass."""
    errors = [f"{item.name}: {item.detail}" for item in preflight if item.status == "error"]
    if not errors or gate[0] is Verdict.FAIL:
        return gate
    return Verdict.INCONCLUSIVE, f"preflight error: {errors[0]}"


def utility_gate(judged: list[Judged], profile: Profile, *, claimed: bool) -> tuple[Verdict, str]:
    """Whether the model is shown to reach its declared clean performance; without it there is no score."""
    clean = [
        item.criterion
        for item in judged
        if item.criterion.domain is Domain.CLEAN and item.criterion.verdict is not Verdict.INFORMATIONAL
    ]
    if not clean:
        return Verdict.INCONCLUSIVE, "the profile holds no check of clean performance"
    verdict = worst_verdict(criterion.verdict for criterion in clean)
    if verdict is Verdict.PASS and claimed:
        return verdict, "every claimed metric is shown to be reached"
    if verdict is Verdict.PASS:
        return (
            verdict,
            f"nothing is claimed; AUROC {profile.minimum_auroc:g}, the profile's least, is shown to be reached",
        )
    worst = next(criterion for criterion in clean if criterion.verdict is verdict)
    return verdict, f"{worst.finding}: {worst.quantity}: {worst.reason}"
