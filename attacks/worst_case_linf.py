"""The worst of several attacks, case by case, inside an L-infinity ball."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.momentum_linf import MomentumLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.conditions import Level
from robustbench_rad.registry import entry, register

SHARED = ("levels", "full_search", "mask", "attack_space")  # what all members have in common
OVERHEAD = 3  # passes per finding before the first level: the gradient at the original

Build = Callable[[int, Mapping[str, Any]], LinfAttack | None]
"""Makes a member from passes per level and the shared options; None when they are too few."""


class Tier(StrEnum):
    """How much may be spent, in forward-equivalents per case and finding when nothing flips (a backward counts two).

    SMOKE: 30, to see that attacks run. CI: 300, for every merge. AUDIT: 5,000, for a release. DEEP: 25,000, where a model
    claims to be robust.
    """

    SMOKE = "smoke"
    CI = "ci"
    AUDIT = "audit"
    DEEP = "deep"


BUDGETS = {Tier.SMOKE: 30, Tier.CI: 300, Tier.AUDIT: 5_000, Tier.DEEP: 25_000}


@register(
    id="attack.worst-case",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Croce & Hein 2020, arXiv:2003.01690",
)
@dataclass(frozen=True, kw_only=True)
class WorstCaseLinf(LinfAttack):
    """Several attacks, cheap before dear, and for each case, finding and level the worst margin any of them found.

    Each member climbs the ladder as it would alone, with the same draws. What is reported is the minimum over its members,
    so adding one never makes the model look better. Where the search stops at the flip, a case that a member has flipped
    is not attacked at that level, nor at larger ones, by those after it: only survivors pay for dear attacks. Which
    member was the worst is measured.

    A tier's passes are divided among FGSM, PGD, APGD, momentum over smoothed gradients, square (which needs no gradient)
    and PGD from random starts, and over the levels; what a member cannot use goes to the next.

    Attributes:
        tier: ``smoke``, ``ci``, ``audit`` or ``deep``, see :class:`Tier`.
        attacks: Members instead of a tier's: ids, or tables of an id and options
            (``{ id = "attack.pgd-linf", steps = 40 }``), run in this order.

    >>> [attack.id for attack in WorstCaseLinf.from_options({"tier": "ci"}).members]
    ['attack.fgsm', 'attack.pgd-linf', 'attack.apgd-linf', 'attack.square-linf']
    >>> [WorstCaseLinf.from_options({"tier": tier}).passes(findings=1) for tier in BUDGETS]
    [27.0, 300.0, 4998.0, 24903.0]
    """

    tier: Tier = Tier.CI
    attacks: tuple[str | Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown tiers, members that do not fit, and ladders a tier cannot pay for."""
        super().__post_init__()
        if self.tier not in list(Tier):
            raise ValueError(f"tier: expected one of {[str(tier) for tier in Tier]}, got {self.tier!r}")
        object.__setattr__(self, "tier", Tier(self.tier))
        if isinstance(self.attacks, str) or not isinstance(self.attacks, tuple | list):
            raise ValueError(f"attacks: expected a list of ids or tables, got {self.attacks!r}")
        object.__setattr__(self, "attacks", tuple(self.attacks))
        if not self.members:
            most = BUDGETS[self.tier] - OVERHEAD
            raise ValueError(
                f"levels: expected at most {most} for the {BUDGETS[self.tier]} passes of tier {str(self.tier)!r}, "
                f"got {len(self.levels)}"
            )

    @property
    def members(self) -> tuple[Attack, ...]:
        """The attacks, in the order they run."""
        shared = {name: getattr(self, name) for name in SHARED}
        if self.attacks:
            return tuple(_member(given, shared) for given in self.attacks)
        passes = (BUDGETS[self.tier] - OVERHEAD) // len(self.levels)
        return tuple(_tier_members(self.tier, passes, shared))

    @property
    def winner(self) -> str:
        """``winner of`` the members' names, in the order of the numbers measured (0 is the first)."""
        return "winner of " + ", ".join(names(self.members))

    @property
    def passes_per_level(self) -> float:
        """The sum of the members'."""
        return sum(member.passes_per_level for member in self.members)

    def self_test(self) -> str:
        """The positive control of each member; the first that fails speaks for all."""
        for name, member in zip(names(self.members), self.members, strict=True):
            if found := member.self_test():
                return f"{name}: {found}"
        return ""

    def search(self, front: Front, level: Level) -> None:
        """Refused: the members search, each on a front of its own."""
        raise NotImplementedError(f"{self.id}: its members search, one after the other")


def names(members: tuple[Attack, ...]) -> list[str]:
    """Short names; a kind of attack that is there again has a number.

    >>> names((Fgsm(), PgdLinf(), PgdLinf(steps=3)))
    ['fgsm', 'pgd-linf', 'pgd-linf 2']
    """
    kinds = [member.id.removeprefix("attack.") for member in members]
    again = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [kind if number == 1 else f"{kind} {number}" for kind, number in zip(kinds, again, strict=True)]


def _member(given: str | Mapping[str, Any], shared: Mapping[str, Any]) -> LinfAttack:
    options = {"id": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
    id = options.pop("id", None)
    if not isinstance(id, str):
        raise ValueError(f'attacks: expected ids or tables such as {{ id = "attack.pgd-linf" }}, got {given!r}')
    kind = entry(id).load()
    if not issubclass(kind, LinfAttack) or not _climbs_like_any(kind):
        raise ValueError(f"attacks: expected attacks inside an L-infinity ball such as 'attack.pgd-linf', got {id!r}")
    if taken := sorted({*SHARED, *kind.aliases} & set(options)):
        raise ValueError(f"attacks: {id}: {', '.join(taken)}: say it once, for all members alike, not for one")
    return replace(kind.from_options(options), **shared)


def _climbs_like_any(kind: type[LinfAttack]) -> bool:
    """Whether it sees the model as every attack does, learns nothing first, and measures nothing of its own."""
    own = (kind.oracle, kind.members, kind.fit, kind.apply, kind._variants, kind.reach)
    common = (Attack.oracle, Attack.members, Attack.fit, Attack.apply, Attack._variants, LinfAttack.reach)
    return kind.nested and not kind.notes and all(one is other for one, other in zip(own, common, strict=True))


def _tier_members(tier: Tier, passes: int, shared: Mapping[str, Any]) -> Iterator[LinfAttack]:
    """Members that together cost at most ``passes`` per level."""
    rest = passes
    for build, share in PLANS[tier]:
        member = build(min(rest, int(share * passes)), shared)
        if member is not None:
            rest -= int(member.passes_per_level)
            yield member


def _fgsm(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    return Fgsm(**shared) if passes >= 1 else None


def _pgd(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    """As many steps as can be paid, up to 100; one step would be FGSM again."""
    steps = min(100, (passes + 2) // 3)
    return PgdLinf(steps=steps, random_starts=0, **shared) if steps > 1 else None


def _apgd(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    """Up to 100 steps, then more starts; with fewer than 5 steps no step would be halved in time."""
    starts = max(1, passes // 301)
    steps = min(100, (passes // starts - 1) // 3)
    return ApgdLinf(steps=steps, random_starts=starts - 1, **shared) if steps >= 5 else None


def _momentum(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    """50 steps, with as many samples as can be paid, up to 8."""
    samples = min(8, (passes // 50 - 1) // 3)
    return MomentumLinf(steps=50, samples=samples, **shared) if samples >= 1 else None


def _square(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    """Up to the 5,000 queries of the literature; below 20 no window becomes small."""
    return SquareLinf(queries=min(5_000, passes), **shared) if passes >= 20 else None


def _starts(passes: int, shared: Mapping[str, Any]) -> LinfAttack | None:
    """PGD from as many random starts as can be paid, after the one at the original."""
    starts = passes // 58 - 1
    return PgdLinf(steps=20, random_starts=starts, **shared) if starts >= 1 else None


PLANS: Mapping[Tier, tuple[tuple[Build, float], ...]] = {
    Tier.SMOKE: ((_fgsm, 1.0), (_pgd, 1.0)),
    Tier.CI: ((_fgsm, 1.0), (_pgd, 0.3), (_apgd, 0.4), (_square, 1.0)),
    Tier.AUDIT: ((_fgsm, 1.0), (_pgd, 0.1), (_apgd, 0.2), (_momentum, 0.25), (_square, 0.3), (_starts, 1.0)),
    Tier.DEEP: ((_fgsm, 1.0), (_pgd, 0.05), (_apgd, 0.2), (_momentum, 0.2), (_square, 0.4), (_starts, 1.0)),
}
"""Who gets which share of the passes of a level, at most; who comes last, what the others left."""
