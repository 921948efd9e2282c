"""From checks to the total: domains, their geometric mean, what saliency takes, the caps; for many draws at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.profile import Profile
from robustbench_rad.result import Domain
from robustbench_rad.scoring.outcomes import CheckOutcome

Floats = NDArray[np.float64]

FLOOR = 5.0
"""A domain counts at least this much in the geometric mean, so that the others still rank two failing models."""
CAP_FAIL, CAP_OPEN = 49.0, 69.0
"""Ceiling with a critical check that failed; with one that is inconclusive or missing (below 70, which means pass)."""
SALIENCY_MOST = 10.0
"""Points a failed saliency domain may take, and only beside a failed shortcut check."""


def domains_of(checks: Sequence[CheckOutcome]) -> list[Domain]:
    """Domains with a check, in the order of a report."""
    present = {check.domain for check in checks}
    return [domain for domain in Domain if domain in present]


def profiled_in(checks: Sequence[CheckOutcome], domain: Domain) -> list[CheckOutcome]:
    """Checks of the profile itself in a domain."""
    return [check for check in checks if check.domain is domain and check.profiled]


def domain_points(checks: Sequence[CheckOutcome], domain: Domain) -> Floats:
    """``(T,)`` mean of the worst quarter; checks beyond the profile may be among the worst, but do not widen it."""
    members = [check for check in checks if check.domain is domain]
    quarter = math.ceil(len(profiled_in(checks, domain) or members) / 4)
    return np.asarray(np.sort([check.points for check in members], axis=0)[:quarter].mean(axis=0))


def weight_of(profile: Profile, domain: Domain) -> float:
    """Weight in the geometric mean; saliency has none."""
    return 0.0 if domain is Domain.SALIENCY else float(profile.weights.get(domain, 1.0))


def weighted_domains(checks: Sequence[CheckOutcome], profile: Profile) -> list[Domain]:
    """Domains that the profile itself weighs."""
    return [domain for domain in domains_of(checks) if weight_of(profile, domain) > 0 and profiled_in(checks, domain)]


def geometric_mean(checks: Sequence[CheckOutcome], profile: Profile, domains: Sequence[Domain]) -> Floats:
    """``(T,)`` weighted geometric mean of these domains, each at least ``FLOOR``."""
    weights = np.array([weight_of(profile, domain) for domain in domains])
    levels = np.maximum([domain_points(checks, domain) for domain in domains], FLOOR)
    return np.asarray(100 * np.exp(weights @ np.log(levels / 100) / weights.sum()))


def _mean(checks: Sequence[CheckOutcome], profile: Profile) -> Floats:
    """Geometric mean over the profile's domains; a domain only the plan adds can lower it."""
    inside = weighted_domains(checks, profile)
    added = [domain for domain in domains_of(checks) if domain not in inside and weight_of(profile, domain) > 0]
    mean = geometric_mean(checks, profile, inside)
    return np.minimum(mean, geometric_mean(checks, profile, [*inside, *added])) if added else mean


def total_points(checks: Sequence[CheckOutcome], profile: Profile) -> Floats:
    """``(T,)`` the mean less what saliency takes, capped."""
    return np.minimum(np.maximum(_mean(checks, profile) - _deduction(checks), 0.0), _ceiling(checks))


def _deduction(checks: Sequence[CheckOutcome]) -> Floats:
    """Points lost to saliency: only where it failed and a shortcut check failed too."""
    saliency = [check for check in checks if check.domain is Domain.SALIENCY]
    shortcut = [check for check in checks if check.domain is Domain.SHORTCUT]
    if not saliency or not shortcut:
        return np.zeros(1)
    both = np.any([c.failed for c in saliency], axis=0) & np.any([c.failed for c in shortcut], axis=0)
    return np.where(both, SALIENCY_MOST * (1 - domain_points(checks, Domain.SALIENCY) / 100), 0.0)


def critical_checks(checks: Sequence[CheckOutcome]) -> list[CheckOutcome]:
    """Checks that cap the total."""
    return [check for check in checks if check.critical and check.domain is not Domain.SALIENCY]


def _ceiling(checks: Sequence[CheckOutcome]) -> Floats:
    critical = critical_checks(checks)
    if not critical:
        return np.full(1, 100.0)
    # A critical check that the plan leaves out might have failed: leaving it out must not lift the cap.
    failed = np.any([check.failed | check.left_out for check in critical], axis=0)
    passed = np.all([check.passed for check in critical], axis=0)
    return np.where(failed, CAP_FAIL, np.where(passed, 100.0, CAP_OPEN))
