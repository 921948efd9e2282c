"""Clinical goals that involve more than one finding of a case, each as one or a few rows of an objective.

Every goal asks that some margins fall below a bound and others reach one. A *term* is positive while its bound is not met
and its size is how far the margin is from it, so one row of terms and a rule to join them holds any of the goals:

=========  ============================================================================  ==================
goal       reached when                                                                  rows of a case
=========  ============================================================================  ==================
hide       a true positive is no longer called                                           one per finding
create     a true negative is called                                                     one per finding
any        any right call of the case is wrong: the least of hide and create             those
quiet      one right call is wrong, every other call stays on its side                   one per finding
all-clear  nothing is called any more in a case with a true positive                     one
alarm      every finding that is absent is called; the findings called are counted       one
swap       a true positive A is no longer called, and the absent B is                    one per pair
triage     every finding of the worklist falls below its cut-off                         one
drift      never: how far a probability can be moved, whatever is called                 two per finding
=========  ============================================================================  ==================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Self

import torch
from torch import Tensor

from robustbench_rad.attacks._objective import Targets

SHARPNESS = (
    0.07  # of the largest clean term: how far behind the worst term another one still has a say in the direction
)


class Goal(StrEnum):
    """What an attack is after; the table of :mod:`robustbench_rad.attacks._goals` says when each is reached."""

    HIDE = "hide"
    CREATE = "create"
    ANY = "any"
    QUIET = "quiet"
    ALL_CLEAR = "all-clear"
    ALARM = "alarm"
    SWAP = "swap"
    TRIAGE = "triage"
    DRIFT = "drift"


class Join(StrEnum):
    """How the terms of a row become its health.

    LARGEST: the bound farthest from being met; all must be.
    TOTAL: the sum of what is missing, so that one bound out of reach does not keep the others from being met.
    NEVER: the only term, however negative: nothing to reach, only a size.
    """

    LARGEST = auto()
    TOTAL = auto()
    NEVER = auto()


_JOINS = tuple(Join)


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One goal with the findings it is about; a column of the results.

    Attributes:
        goal: Which goal; ``any`` stands for hide or create, whichever the label says.
        finding: Index of the finding; -1 for all of them.
        other: For swap, the index of the finding to be created. For drift, 1 up and 0 down.
    """

    goal: Goal
    finding: int = -1
    other: int = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Goals(Targets):
    """R rows of terms ``push (margin - bound)``, joined.

    Attributes:
        finding: ``(R,)`` column of the results that the row belongs to.
        side: ``(R,)`` ones: the health is what is recorded.
        push: ``(R, K)``: +1 where a margin shall fall below its bound, -1 where it shall reach it, 0 where it does not matter.
        bound: ``(R, K)`` bounds; 0 is the operating point.
        join: ``(R,)`` int64 place of the rule in :class:`Join`.
        sharpness: ``(R,)`` how far behind the worst term another one still has a say in the direction of the search.
    """

    push: Tensor
    bound: Tensor
    join: Tensor
    sharpness: Tensor

    def terms(self, margins: Tensor) -> Tensor:
        """Terms ``(R, K)``: 0 or less where a bound is met, -inf where a margin does not matter.

        A margin of exactly the bound is a call: it is reached from below, and not fallen below from above.
        """
        return _terms(margins, self.push, self.bound)

    def health(self, margins: Tensor) -> Tensor:
        """The joined terms ``(R,)``."""
        return _joined(self.terms(margins), self.join)

    def weights(self, findings: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Subgradients of the health; near ties of the worst term are shared out.

        Of several bounds that must all be met, following the worst one alone sets the others back and zigzags. The
        weights are those of a smoothed largest term, ``softmax(term / sharpness)``, whose least value lies within
        ``sharpness log K`` of the true one.
        """
        del findings

        def weigh(margins: Tensor, rows: Tensor) -> Tensor:
            push = self.push[rows]
            terms = _terms(margins, push, self.bound[rows])
            shared = (terms / self.sharpness[rows, None]).softmax(1)
            unmet = (terms > 0).to(terms.dtype)
            total = (self.join[rows] == _JOINS.index(Join.TOTAL))[:, None]
            return torch.where(total, unmet, shared) * push

        return weigh

    def wrong(self, health: Tensor) -> Tensor:
        """Whether every bound is met; never for a drift."""
        return (health <= 0) & (self.join != _JOINS.index(Join.NEVER))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All rows of several objectives."""
        names = ("case", "finding", "side", "push", "bound", "join", "sharpness")
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _terms(margins: Tensor, push: Tensor, bound: Tensor) -> Tensor:
    terms = push * (margins - bound)
    at_bound = (terms == 0) & (push > 0)
    terms = torch.where(at_bound, torch.finfo(terms.dtype).tiny, terms)
    return torch.where(push == 0, -torch.inf, terms)


def _joined(terms: Tensor, join: Tensor) -> Tensor:
    total = terms.clamp_min(0.0).sum(1)
    return torch.where(join == _JOINS.index(Join.TOTAL), total, terms.amax(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the rows are made from.

    Attributes:
        labels: ``(N, K)``: 1, 0 or NaN.
        clean: ``(N, K)`` margins of the originals.
        threshold: ``(K,)`` log-odds of the operating points; NaN where the largest class decides.
        cutoff: ``(K,)`` log-odds of the worklist's cut-offs; NaN where a finding has none.
    """

    labels: Tensor
    clean: Tensor
    threshold: Tensor
    cutoff: Tensor

    def rows(self, aim: Aim, column: int) -> Goals:
        """The rows of one aim: those cases in which it can be reached and is not yet."""
        push, bound, possible = self._row(aim)
        case = possible.nonzero()[:, 0]
        push, bound = push[case], bound[case]
        clean = _terms(self.clean[case], push, bound)
        size = torch.where(push == 0, 0.0, clean.abs()).amax(1) if len(case) else clean.new_zeros(0)
        join = {Goal.ALARM: Join.TOTAL, Goal.DRIFT: Join.NEVER}.get(aim.goal, Join.LARGEST)
        return Goals(
            case=case,
            finding=torch.full_like(case, column),
            side=torch.ones_like(size),
            push=push,
            bound=bound,
            join=torch.full_like(case, _JOINS.index(join)),
            sharpness=SHARPNESS * size.clamp_min(torch.finfo(size.dtype).tiny * 1e6),
        )

    def _row(self, aim: Aim) -> tuple[Tensor, Tensor, Tensor]:
        """Pushes ``(N, K)``, bounds ``(N, K)`` and whether the goal makes sense in a case ``(N,)``."""
        push, bound = torch.zeros_like(self.clean), torch.zeros_like(self.clean)
        k = aim.finding
        match aim.goal:
            case Goal.ALL_CLEAR:
                return push + 1, bound, self.true_positive.any(1)
            case Goal.ALARM:
                return torch.where(self.labels == 0, -1.0, push), bound, self.true_negative.any(1)
            case Goal.SWAP:
                push[:, k], push[:, aim.other] = 1.0, -1.0
                return push, bound, self.true_positive[:, k] & self.true_negative[:, aim.other]
            case Goal.TRIAGE:
                return self._triage()
            case Goal.DRIFT:
                push[:, k] = -1.0 if aim.other else 1.0
                return push, bound, self.threshold[k].isfinite().expand(len(push))
            case Goal.QUIET:
                push = torch.where(self.clean >= 0, -1.0, 1.0)  # stay on the side of the clean call
        push[:, k] = torch.where(self.labels[:, k] == 1, 1.0, -1.0)
        return push, bound, (self.true_positive | self.true_negative)[:, k]

    def _triage(self) -> tuple[Tensor, Tensor, Tensor]:
        listed = self.cutoff.isfinite() & self.threshold.isfinite()
        bound = torch.where(listed, self.cutoff - self.threshold, 0.0).expand_as(self.clean)
        urgent = (listed & (self.clean >= bound)).any(1) & (listed & (self.labels == 1)).any(1)
        return listed.to(bound.dtype).expand_as(bound), bound, urgent

    @property
    def true_positive(self) -> Tensor:
        """``(N, K)``: present and called."""
        return (self.labels == 1) & (self.clean >= 0)

    @property
    def true_negative(self) -> Tensor:
        """``(N, K)``: absent and not called."""
        return (self.labels == 0) & (self.clean < 0)
