"""What is said beside a score: the cap, why there is none, points by domain, the costliest checks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustbench_rad.profile import Profile
from robustbench_rad.result import Cost, Domain, DomainScore, Verdict
from robustbench_rad.scoring.formula import (
    CAP_FAIL,
    CAP_OPEN,
    FLOOR,
    critical_checks,
    domain_points,
    geometric_mean,
    profiled_in,
    weight_of,
    weighted_domains,
)
from robustbench_rad.scoring.outcomes import CheckOutcome


def cap_of(checks: Sequence[CheckOutcome]) -> tuple[float | None, str]:
    """The ceiling of the total and which checks set it; None for none."""
    critical = critical_checks(checks)
    failed = [check.id for check in critical if check.failed[0]]
    left_out = [check.id for check in critical if check.left_out]
    undecided = [check.id for check in critical if not check.failed[0] and not check.passed[0]]
    if failed:
        return CAP_FAIL, f"critical and failed: {', '.join(failed)}"
    if left_out:
        return CAP_FAIL, f"critical and left out by the plan: {', '.join(left_out)}"
    if undecided:
        return CAP_OPEN, f"critical and inconclusive or missing: {', '.join(undecided)}"
    return None, ""


def reason_for_none(checks: Sequence[CheckOutcome], profile: Profile, gate: Verdict, reason: str) -> str:
    """Why there is no score; "" where there is one."""
    if gate is Verdict.FAIL:
        return f"the declared clean performance is not reached: {reason}"
    if gate is not Verdict.PASS:
        return f"the declared clean performance is not shown: {reason}"
    return "" if weighted_domains(checks, profile) else "no check of the profile counts towards a score"


def coverage_of(checks: Sequence[CheckOutcome]) -> float:
    """Share of the profile's checks that the data could decide."""
    profiled = [check for check in checks if check.profiled]
    return _decided(profiled) / len(profiled) if profiled else 0.0


def _decided(checks: Sequence[CheckOutcome]) -> int:
    return sum(bool(check.failed[0] or check.passed[0]) for check in checks)


def domain_score(domain: Domain, checks: Sequence[CheckOutcome], profile: Profile) -> DomainScore:
    """Points and verdict of one domain."""
    members = [check for check in checks if check.domain is domain]
    profiled = profiled_in(checks, domain)
    added = [check for check in members if not check.profiled]
    verdict = Verdict.PASS if all(check.passed[0] for check in members) else Verdict.INCONCLUSIVE
    return DomainScore(
        domain=domain,
        points=float(domain_points(checks, domain)[0]),
        weight=weight_of(profile, domain),
        checks=len(profiled),
        judged=_decided(profiled),
        added=len(added),
        added_judged=_decided(added),
        verdict=Verdict.FAIL if any(check.failed[0] for check in members) else verdict,
    )


def costs_of(checks: Sequence[CheckOutcome], profile: Profile) -> list[Cost]:
    """Every check's part in the points below 100 of the geometric mean, costliest first; the parts add up exactly.

    ``log(100 / mean) = sum_D w_D log(100 / D)``: a domain's part is its term, shared among its worst quarter by
    ``100 - points``.
    """
    domains = weighted_domains(checks, profile)
    if not domains:
        return []
    terms = {domain: weight_of(profile, domain) * _log_loss(checks, domain) for domain in domains}
    whole = sum(terms.values())
    lost = 100 - float(geometric_mean(checks, profile, domains)[0])
    costs = []
    for domain, term in terms.items():
        members = sorted((c for c in checks if c.domain is domain), key=lambda c: float(c.points[0]))
        worst = members[: math.ceil(len(profiled_in(checks, domain)) / 4)]
        below = sum(100 - float(check.points[0]) for check in worst)
        for check in worst:
            part = lost * term / whole * (100 - float(check.points[0])) / below if below > 0 else 0.0
            costs.append(Cost(check=check.id, finding=check.finding, points_lost=part))
    return sorted((cost for cost in costs if cost.points_lost > 0), key=lambda cost: -cost.points_lost)


def _log_loss(checks: Sequence[CheckOutcome], domain: Domain) -> float:
    return -math.log(max(float(domain_points(checks, domain)[0]), FLOOR) / 100)
