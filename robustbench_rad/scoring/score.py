"""The score of an audit with its interval, and the verdict of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustbench_rad.criteria import Judged
from robustbench_rad.profile import Profile
from robustbench_rad.result import Domain, Score, Verdict
from robustbench_rad.scoring.explaining import cap_of, costs_of, coverage_of, domain_score, reason_for_none
from robustbench_rad.scoring.formula import domains_of, total_points
from robustbench_rad.scoring.outcomes import check_outcomes, joint_shifts, unmoved

COSTLIEST = 3


def score_audit(
    judged: Sequence[Judged],
    profile: Profile,
    utility: tuple[Verdict, str],
    *,
    seed: int,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Score:
    """Score an audit.

    The interval comes from joint multiplier draws: ``sqrt(C / (C - 1)) * sum_i w_i d_i`` with standard normal w_i shared
    by all criteria moves both limits of every criterion, and points, verdicts, caps and means follow.

    Args:
        judged: Every criterion with its influence; informational ones never count.
        profile: Which checks belong, which are critical, and the weights of the domains.
        utility: Whether the declared clean performance is shown, and the reason; anything but a pass means no score,
            for a constant model would be perfectly robust.
        seed: Of the draws.
        draws: Number of draws.
        confidence: Of the interval of the score.

    Returns:
        The score; ``total`` is None without a pass of the utility gate, or when no domain has a weight.
    """
    base = check_outcomes(judged, profile, unmoved(judged))
    gate, reason = utility
    why_none = reason_for_none(base, profile, gate, reason)
    total = lower = upper = None
    cap, cap_reason = cap_of(base)
    if not why_none:
        total = float(total_points(base, profile)[0])
        resampled = total_points(check_outcomes(judged, profile, joint_shifts(judged, seed, draws)), profile)
        tail = (1 - confidence) / 2
        ends = np.quantile(resampled, [tail, 1 - tail])
        lower, upper = min(float(ends[0]), total), max(float(ends[1]), total)
    return Score(
        total=total,
        lower=lower,
        upper=upper,
        why_none=why_none,
        cap=cap,
        cap_reason=cap_reason,
        evidence_coverage=coverage_of(base),
        domains=[domain_score(domain, base, profile) for domain in domains_of(base)],
        costliest=costs_of(base, profile)[:COSTLIEST],
        utility_gate=gate,
        utility_reason=reason,
    )


def overall(score: Score, judged: Sequence[Judged], profile: Profile) -> Verdict:
    """Verdict of the whole audit.

    Fail when the utility gate or any judged check fails, critical or not; else inconclusive when the gate or any check is
    inconclusive or missing, or when there is nothing to judge; else pass. Saliency never decides.
    """
    checks = [
        check for check in check_outcomes(judged, profile, unmoved(judged)) if check.domain is not Domain.SALIENCY
    ]
    if score.utility_gate is Verdict.FAIL or any(check.failed[0] for check in checks):
        return Verdict.FAIL
    if checks and score.utility_gate is Verdict.PASS and all(check.passed[0] for check in checks):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE
