"""From judged criteria to the score: a pure function of the criteria and the profile.

Check: the worst of its criteria. Domain: the mean of the worst quarter of the profile's checks, a missing check counting 0.
Total: the weighted geometric mean of the domains, less what a failed saliency check takes where a shortcut failed too, and
capped by critical checks. The whole formula is written for many draws at once, so the score and its interval share one path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.criteria import Judged, criterion_points, points
from robustbench_rad.profile import Profile
from robustbench_rad.result import Cost, Criterion, Domain, DomainScore, Score, Verdict

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FLOOR = 5.0
"""A domain counts at least this much in the geometric mean, so that the others still rank two failing models."""
CAP_FAIL, CAP_OPEN = 49.0, 69.0
"""Ceiling with a critical check that failed; with one that is inconclusive or missing (below 70, which means pass)."""
SALIENCY_MOST = 10.0
"""Points a failed saliency domain may take, and only beside a failed shortcut check."""
COSTLIEST = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class _Check:
    """A check over T draws of the data.

    Attributes:
        id: Check id.
        domain: Its family.
        profiled: Whether the profile itself holds it.
        critical: Whether it caps the total.
        left_out: Whether the plan leaves it out.
        finding: Finding of its worst criterion, "" when it is missing.
        points: ``(T,)``.
        failed: ``(T,)`` whether any criterion failed.
        passed: ``(T,)`` whether all passed.
    """

    id: str
    domain: Domain
    profiled: bool
    critical: bool
    left_out: bool
    finding: str
    points: Floats
    failed: Flags
    passed: Flags


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
    base = _checks(judged, profile, _still(judged))
    gate, reason = utility
    why_none = _why_none(base, profile, gate, reason)
    total = lower = upper = None
    cap, cap_reason = _cap(base)
    if not why_none:
        total = float(_total(base, profile)[0])
        resampled = _total(_checks(judged, profile, _shifts(judged, seed, draws)), profile)
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
        evidence_coverage=_coverage(base),
        domains=[_domain_score(domain, base, profile) for domain in _domains(base)],
        costliest=_costs(base, profile)[:COSTLIEST],
        utility_gate=gate,
        utility_reason=reason,
    )


def overall(score: Score, judged: Sequence[Judged], profile: Profile) -> Verdict:
    """Verdict of the whole audit.

    Fail when the utility gate or any judged check fails, critical or not; else inconclusive when the gate or any check is
    inconclusive or missing, or when there is nothing to judge; else pass. Saliency never decides.
    """
    checks = [check for check in _checks(judged, profile, _still(judged)) if check.domain is not Domain.SALIENCY]
    if score.utility_gate is Verdict.FAIL or any(check.failed[0] for check in checks):
        return Verdict.FAIL
    if checks and score.utility_gate is Verdict.PASS and all(check.passed[0] for check in checks):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def _still(judged: Sequence[Judged]) -> Floats:
    return np.zeros((1, len(judged)))


def _shifts(judged: Sequence[Judged], seed: int, draws: int) -> Floats:
    """``(draws, M)`` joint displacements of the harms; zero where a harm has no influence."""
    moves = np.zeros((draws, len(judged)))
    rows = [(place, item.influence) for place, item in enumerate(judged) if item.influence is not None]
    if not rows:
        return moves
    influence = np.stack([row for _, row in rows])
    patients = influence.shape[1]
    multipliers = np.random.default_rng(seed).standard_normal((draws, patients))
    moves[:, [place for place, _ in rows]] = multipliers @ influence.T * math.sqrt(patients / max(patients - 1, 1))
    return moves


def _checks(judged: Sequence[Judged], profile: Profile, shifts: Floats) -> list[_Check]:
    """Every check that counts: those of the profile, then those beyond it."""
    members: dict[str, list[int]] = {spec.id: [] for spec in profile.checks if not spec.informational}
    for place, item in enumerate(judged):
        members.setdefault(item.criterion.check, []).append(place)
    checks = []
    for id, places in members.items():
        spec = profile.check(id)
        counted = [place for place in places if judged[place].criterion.verdict is not Verdict.INFORMATIONAL]
        if places and not counted and (spec is None or spec.informational):
            continue  # only shown, by its nature; a judged check that judged nothing is missing
        criteria = [judged[place].criterion for place in counted]
        outcomes = [_outcome(judged[place], shifts[:, place]) for place in counted]
        outcomes = outcomes or [_missing(len(shifts))]
        worst = min(range(len(outcomes)), key=lambda index: float(outcomes[index][0][0]))
        checks.append(
            _Check(
                id=id,
                domain=spec.domain if spec else criteria[0].domain,
                profiled=spec.profiled if spec else False,
                critical=spec.critical if spec else any(criterion.critical for criterion in criteria),
                left_out=spec is not None and not spec.enabled,
                finding=criteria[worst].finding if criteria else "",
                points=np.min([outcome[0] for outcome in outcomes], axis=0),
                failed=np.any([outcome[1] for outcome in outcomes], axis=0),
                passed=np.all([outcome[2] for outcome in outcomes], axis=0),
            )
        )
    return checks


def _missing(draws: int) -> tuple[Floats, Flags, Flags]:
    none = np.zeros(draws, dtype=np.bool_)
    return np.zeros(draws), none, none


def _outcome(item: Judged, shift: Floats) -> tuple[Floats, Flags, Flags]:
    """Points, failed and passed of one criterion whose limits move by ``shift``."""
    criterion, harm = item.criterion, item.criterion.harm
    bounds = harm.lower, harm.upper, criterion.tolerance, criterion.critical_harm
    lower, upper, tolerance, critical = bounds
    if lower is None or upper is None or tolerance is None or critical is None or _overruled(criterion):
        fixed = np.full(len(shift), criterion_points(criterion) or 0.0)
        return fixed, _all(criterion, Verdict.FAIL, shift), _all(criterion, Verdict.PASS, shift)
    return points(upper + shift, tolerance, critical), lower + shift > tolerance, upper + shift <= tolerance


def _overruled(criterion: Criterion) -> bool:
    """Whether the verdict is not the one its interval gives: a doubt, which no draw removes."""
    lower, upper, tolerance = criterion.harm.lower, criterion.harm.upper, criterion.tolerance
    if lower is None or upper is None or tolerance is None:
        return True
    given = Verdict.PASS if upper <= tolerance else Verdict.FAIL if lower > tolerance else Verdict.INCONCLUSIVE
    return criterion.verdict is not given


def _all(criterion: Criterion, verdict: Verdict, shift: Floats) -> Flags:
    return np.full(len(shift), criterion.verdict is verdict)


def _domains(checks: Sequence[_Check]) -> list[Domain]:
    present = {check.domain for check in checks}
    return [domain for domain in Domain if domain in present]


def _profiled(checks: Sequence[_Check], domain: Domain) -> list[_Check]:
    return [check for check in checks if check.domain is domain and check.profiled]


def _domain_points(checks: Sequence[_Check], domain: Domain) -> Floats:
    """``(T,)`` mean of the worst quarter; checks beyond the profile may be among the worst, but do not widen it."""
    members = [check for check in checks if check.domain is domain]
    quarter = math.ceil(len(_profiled(checks, domain) or members) / 4)
    return np.asarray(np.sort([check.points for check in members], axis=0)[:quarter].mean(axis=0))


def _weight(profile: Profile, domain: Domain) -> float:
    return 0.0 if domain is Domain.SALIENCY else float(profile.weights.get(domain, 1.0))


def _weighted(checks: Sequence[_Check], profile: Profile) -> list[Domain]:
    return [domain for domain in _domains(checks) if _weight(profile, domain) > 0 and _profiled(checks, domain)]


def _geometric(checks: Sequence[_Check], profile: Profile, domains: Sequence[Domain]) -> Floats:
    weights = np.array([_weight(profile, domain) for domain in domains])
    levels = np.maximum([_domain_points(checks, domain) for domain in domains], FLOOR)
    return np.asarray(100 * np.exp(weights @ np.log(levels / 100) / weights.sum()))


def _mean(checks: Sequence[_Check], profile: Profile) -> Floats:
    """Geometric mean over the profile's domains; a domain only the plan adds can lower it."""
    inside = _weighted(checks, profile)
    added = [domain for domain in _domains(checks) if domain not in inside and _weight(profile, domain) > 0]
    mean = _geometric(checks, profile, inside)
    return np.minimum(mean, _geometric(checks, profile, [*inside, *added])) if added else mean


def _total(checks: Sequence[_Check], profile: Profile) -> Floats:
    return np.minimum(np.maximum(_mean(checks, profile) - _deduction(checks), 0.0), _ceiling(checks))


def _deduction(checks: Sequence[_Check]) -> Floats:
    """Points lost to saliency: only where it failed and a shortcut check failed too."""
    saliency = [check for check in checks if check.domain is Domain.SALIENCY]
    shortcut = [check for check in checks if check.domain is Domain.SHORTCUT]
    if not saliency or not shortcut:
        return np.zeros(1)
    both = np.any([c.failed for c in saliency], axis=0) & np.any([c.failed for c in shortcut], axis=0)
    return np.where(both, SALIENCY_MOST * (1 - _domain_points(checks, Domain.SALIENCY) / 100), 0.0)


def _critical(checks: Sequence[_Check]) -> list[_Check]:
    return [check for check in checks if check.critical and check.domain is not Domain.SALIENCY]


def _ceiling(checks: Sequence[_Check]) -> Floats:
    critical = _critical(checks)
    if not critical:
        return np.full(1, 100.0)
    # A critical check that the plan leaves out might have failed: leaving it out must not lift the cap.
    failed = np.any([check.failed | check.left_out for check in critical], axis=0)
    passed = np.all([check.passed for check in critical], axis=0)
    return np.where(failed, CAP_FAIL, np.where(passed, 100.0, CAP_OPEN))


def _cap(checks: Sequence[_Check]) -> tuple[float | None, str]:
    critical = _critical(checks)
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


def _why_none(checks: Sequence[_Check], profile: Profile, gate: Verdict, reason: str) -> str:
    if gate is Verdict.FAIL:
        return f"the declared clean performance is not reached: {reason}"
    if gate is not Verdict.PASS:
        return f"the declared clean performance is not shown: {reason}"
    return "" if _weighted(checks, profile) else "no check of the profile counts towards a score"


def _coverage(checks: Sequence[_Check]) -> float:
    profiled = [check for check in checks if check.profiled]
    decided = [check for check in profiled if check.failed[0] or check.passed[0]]
    return len(decided) / len(profiled) if profiled else 0.0


def _domain_score(domain: Domain, checks: Sequence[_Check], profile: Profile) -> DomainScore:
    members = [check for check in checks if check.domain is domain]
    profiled = _profiled(checks, domain)
    verdict = Verdict.PASS if all(check.passed[0] for check in members) else Verdict.INCONCLUSIVE
    return DomainScore(
        domain=domain,
        points=float(_domain_points(checks, domain)[0]),
        weight=_weight(profile, domain),
        checks=len(profiled),
        judged=sum(bool(check.failed[0] or check.passed[0]) for check in profiled),
        verdict=Verdict.FAIL if any(check.failed[0] for check in members) else verdict,
    )


def _costs(checks: Sequence[_Check], profile: Profile) -> list[Cost]:
    """Every check's part in the points below 100 of the geometric mean, costliest first; the parts add up exactly.

    ``log(100 / mean) = sum_D w_D log(100 / D)``: a domain's part is its term, shared among its worst quarter by
    ``100 - points``.
    """
    domains = _weighted(checks, profile)
    if not domains:
        return []
    terms = {domain: _weight(profile, domain) * _log_loss(checks, domain) for domain in domains}
    whole = sum(terms.values())
    lost = 100 - float(_geometric(checks, profile, domains)[0])
    costs = []
    for domain, term in terms.items():
        members = sorted((c for c in checks if c.domain is domain), key=lambda c: float(c.points[0]))
        worst = members[: math.ceil(len(_profiled(checks, domain)) / 4)]
        below = sum(100 - float(check.points[0]) for check in worst)
        for check in worst:
            part = lost * term / whole * (100 - float(check.points[0])) / below if below > 0 else 0.0
            costs.append(Cost(check=check.id, finding=check.finding, points_lost=part))
    return sorted((cost for cost in costs if cost.points_lost > 0), key=lambda cost: -cost.points_lost)


def _log_loss(checks: Sequence[_Check], domain: Domain) -> float:
    return -math.log(max(float(_domain_points(checks, domain)[0]), FLOOR) / 100)
