"""What each check came to, in the data as they are and in draws of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.criteria import Judged, criterion_points, points
from robustbench_rad.profile import Profile
from robustbench_rad.result import Criterion, Domain, Verdict

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckOutcome:
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


def unmoved(judged: Sequence[Judged]) -> Floats:
    """Displacements of the data as they are: one draw, none."""
    return np.zeros((1, len(judged)))


def joint_shifts(judged: Sequence[Judged], seed: int, draws: int) -> Floats:
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


def check_outcomes(judged: Sequence[Judged], profile: Profile, shifts: Floats) -> list[CheckOutcome]:
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
            CheckOutcome(
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
