"""What an adversary may be after beyond one flipped call: goals about all findings of a case, inside an L-infinity ball."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._goals import Aim, Goal, Goals, Reading
from robustbench_rad.attacks._record import Record
from robustbench_rad.attacks._search import Progress
from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.conditions import Batch, Measurement, ModelQuery, State, Variant
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.registry import register

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier

THRESHOLD = "threshold_log_odds"
DEFAULT_GOALS = (Goal.ANY, Goal.QUIET, Goal.ALL_CLEAR, Goal.ALARM, Goal.DRIFT)
NO_ANSWER = math.inf
"""A case in which the goal makes sense, but a level is too small for its file or the model gave no number."""


@register(
    id="attack.clinical-goals",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Ghamizi et al. 2022, arXiv:2212.08130; search: Madry et al. 2018, arXiv:1706.06083",
)
@dataclass(frozen=True, kw_only=True)
class ClinicalGoals(PgdLinf):
    """Goals about all findings of a case, by projected gradient descent on what is still missing.

    Each goal is a set of bounds on margins, all of which must hold at once; the search descends on the bound that is
    farthest from holding, with those nearly as far sharing the direction. ``hide`` and ``create`` flip one right call,
    ``any`` some call of the case, ``quiet`` one while every other call stays on its side; ``all-clear`` leaves no call in a
    case with a finding; ``alarm`` calls every absent finding; ``swap`` hides one finding and creates another; ``triage``
    brings all findings of a worklist below its cut-off; ``drift`` moves a probability as far as it goes.

    Attributes:
        goals: Which goals.
        pairs: For ``swap``: pairs of findings, the one to be hidden first.
        cutoff: For ``triage``: finding → probability at which the worklist puts a case forward.

    >>> ClinicalGoals.from_options({"epsilon": "1/255", "goals": ["all-clear"], "steps": 20}).passes(findings=14)
    120.0
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}

    steps: int = 40
    random_starts: int = 1
    goals: tuple[Goal, ...] = DEFAULT_GOALS
    pairs: tuple[tuple[str, str], ...] = ()
    cutoff: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unknown goals, and goals without what they need."""
        super().__post_init__()
        known = [str(goal) for goal in Goal]
        if isinstance(self.goals, str) or not self.goals or not set(self.goals) <= set(known):
            raise ValueError(f"goals: expected a list out of {', '.join(known)}, got {self.goals!r}")
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"goals: expected each goal once, got {list(self.goals)}")
        object.__setattr__(self, "goals", tuple(Goal(goal) for goal in self.goals))
        object.__setattr__(self, "pairs", _pairs(self.pairs))
        _check_cutoff(self.cutoff)
        for goal, name in ((Goal.SWAP, "pairs"), (Goal.TRIAGE, "cutoff")):
            if bool(getattr(self, name)) != (goal in self.goals):
                raise ValueError(
                    f"{name}: expected with the goal {goal}, and only with it, got {getattr(self, name)!r}"
                )

    @property
    def passes_per_level(self) -> float:
        """Those of the search, and a look at the plane that it ends with."""
        return super().passes_per_level + 1

    def passes(self, findings: int) -> float:
        """Forward-equivalents per case when no goal is reached: an upper bound."""
        rows = len(self._aims(findings, [(0, 0)] * len(self.pairs)))
        return float(rows * (3 + len(self.levels) * self.passes_per_level))

    def self_test(self) -> str:
        """Solve a planted linear model, whose only finding has no pair and no worklist."""
        from robustbench_rad.attacks._sentinel import solve  # which makes attacks of its own

        return solve(replace(self, goals=(Goal.ANY,), pairs=(), cutoff={}))

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Learn where the operating points lie; no image is looked at.

        Raises:
            PlanError: A finding of ``pairs`` or ``cutoff`` that the model does not have, or a cut-off without a probability.
        """
        del batches
        head = classifier.head
        points = torch.logit(torch.tensor(head.thresholds, dtype=torch.float64))
        if head.classes == 2:  # the larger of two classes has a probability of one half or more
            points = points.nan_to_num(0.0)
        self._find(classifier.findings)
        named = zip(classifier.findings, points, strict=True)
        lacking = [name for name, point in named if point.isnan() and name in self.cutoff]
        if lacking:
            raise PlanError(
                f"[checks.{self.id!r}]: cutoff: expected findings with a threshold, got {', '.join(lacking)}",
                hint="Declare a threshold: where the largest class decides, a margin is no log-odds.",
            )
        return {THRESHOLD: points.float()}

    def _find(self, findings: Sequence[str]) -> list[tuple[int, int]]:
        """Places of the findings of the pairs; refuses findings that there are not."""
        for name in (*(name for pair in self.pairs for name in pair), *self.cutoff):
            if name not in findings:
                raise PlanError(f"[checks.{self.id!r}]: unknown finding {name!r}", hint=suggestion(name, findings))
        return [(findings.index(hidden), findings.index(created)) for hidden, created in self.pairs]

    def _aims(self, findings: int, pairs: Sequence[tuple[int, int]]) -> list[Aim]:
        """What is searched for; hide, create and any share their rows."""
        every, wanted = range(findings), set(self.goals)
        aims = [Aim(goal=Goal.ANY, finding=k) for k in every if wanted & {Goal.HIDE, Goal.CREATE, Goal.ANY}]
        aims += [Aim(goal=Goal.QUIET, finding=k) for k in every if Goal.QUIET in wanted]
        aims += [Aim(goal=Goal.SWAP, finding=a, other=b) for a, b in pairs]
        aims += [Aim(goal=goal) for goal in (Goal.ALL_CLEAR, Goal.ALARM, Goal.TRIAGE) if goal in wanted]
        return aims + [
            Aim(goal=Goal.DRIFT, finding=k, other=up) for k in every for up in (0, 1) if Goal.DRIFT in wanted
        ]

    def _variants(
        self, batch: Batch, query: ModelQuery, state: State | None, measurements: list[Measurement]
    ) -> Iterator[Variant]:
        """Search all aims; a level's margins are the worst that any plane found showed, finding by finding."""
        climb = GoalClimb.towards(
            self, batch, query, state, self._aims(len(query.findings), self._find(query.findings))
        )
        climb.run()
        measurements.extend(Results(climb=climb, goals=self.goals, findings=query.findings).measurements())
        yield from climb.variants()


@dataclass(frozen=True, kw_only=True, eq=False)
class GoalClimb(Climb):
    """A climb whose columns are aims instead of findings.

    Attributes:
        aims: C aims.
        reading: Labels, clean margins and thresholds.
        goals: The rows.
        seen: ``(L, N, C, K)`` margins of the best plane of each row; NaN where there is no row.
    """

    aims: Sequence[Aim]
    reading: Reading
    goals: Goals
    seen: Tensor

    @classmethod
    def towards(
        cls, attack: ClinicalGoals, batch: Batch, query: ModelQuery, state: State | None, aims: Sequence[Aim]
    ) -> GoalClimb:
        """Prepare the rows of all aims."""
        base = Climb.of(attack, batch, query, state)
        reading = _reading(attack, batch.labels, base.record.clean, query.findings, state)
        goals = Goals.joined([reading.rows(aim, column) for column, aim in enumerate(aims)])
        health = torch.full((len(batch), len(aims)), torch.nan, device=batch.device)
        health[goals.case, goals.finding] = goals.health(reading.clean[goals.case])
        return cls(
            **{name: getattr(base, name) for name in Climb.__dataclass_fields__ if name != "record"},
            record=Record(
                levels=attack.levels,
                full_search=attack.full_search,
                clean=health,
                labels=health,  # known where there is a row
                usable=base.record.usable,
                reasons=base.record.reasons,
            ),
            aims=aims,
            reading=reading,
            goals=goals,
            seen=torch.full((len(attack.levels), *health.shape, len(query.findings)), torch.nan, device=batch.device),
        )

    def targets(self) -> Goals:
        """The rows."""
        return self.goals

    def _shares_levels(self, member: Attack) -> bool:
        """No: after each level, all findings are asked at the best planes."""
        del member
        return False

    def _level(self, member: Attack, progress: Progress, active: Tensor, number: int, *, to_flip: bool) -> None:
        """Search, then look once more at the best planes: what do all findings say there?"""
        super()._level(member, progress, active, number, to_flip=to_flip)
        rows = (self.radii[number][progress.targets.case] > 0).nonzero()[:, 0]
        targets = progress.targets.select(rows)
        assert isinstance(targets, Goals)
        if len(rows):
            margins = self.oracle.query.margins(stored(progress.best[rows], self.oracle.bits))
            self.seen[number][targets.case, targets.finding] = margins

    def variants(self) -> Iterator[Variant]:
        """The worst margin of each labelled finding on any plane found, never better than the clean one."""
        labels, clean = self.reading.labels, self.reading.clean
        side = torch.where(labels.isnan(), torch.nan, torch.where(labels == 1, 1.0, -1.0))
        for number, level in enumerate(self.record.levels):
            found = (self.seen[number] * side[:, None]).nan_to_num(torch.inf, posinf=torch.inf, neginf=torch.inf)
            worst = torch.minimum(found.amin(1) if found.shape[1] else torch.full_like(clean, torch.inf), clean * side)
            usable = self.record.usable[number]
            yield Variant(
                level=level,
                margins=torch.where(usable[:, None], worst * side, torch.nan),
                applicable=usable,
                reason=self.record.reasons[number],
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What a finished climb says of the goals."""

    climb: GoalClimb
    goals: Sequence[Goal]
    findings: Sequence[str]

    def measurements(self) -> Iterator[Measurement]:
        """What was reached at each level, and where the search was blind.

        ``reached GOAL``: 1, 0, NaN where the goal makes no sense, infinite where there is no answer. ``drift``: as a
        probability. ``alarms raised``: absent findings newly called. ``zero_gradient GOAL``: 1 where the search was blind.
        """
        for goal in self.goals:
            for aims, finding, name in self._columns(goal):
                columns = torch.tensor([self.climb.aims.index(aim) for aim in aims])
                where = self._where(goal, aims)
                blind = self.climb.record.zero_gradient[:, columns].nan_to_num().amax(1)
                blind = torch.where(where, blind, torch.nan)
                yield Measurement(quantity=f"zero_gradient {name}", values=blind, finding=finding)
                for number, level in enumerate(self.climb.record.levels):
                    yield from (
                        Measurement(quantity=quantity, values=values, level=level.name, finding=finding)
                        for quantity, values in self._values(goal, name, columns, where, number)
                    )

    def _columns(self, goal: Goal) -> Iterator[tuple[list[Aim], str, str]]:
        """Aims that are read together, the finding they belong to, and the name of the goal."""
        aims = [aim for aim in self.climb.aims if aim.goal is goal]
        flips = [aim for aim in self.climb.aims if aim.goal is Goal.ANY]
        match goal:
            case Goal.HIDE | Goal.CREATE:
                yield from (([aim], self.findings[aim.finding], str(goal)) for aim in flips)
            case Goal.QUIET:
                yield from (([aim], self.findings[aim.finding], str(goal)) for aim in aims)
            case Goal.SWAP:
                yield from (([aim], self.findings[aim.finding], f"swap to {self.findings[aim.other]}") for aim in aims)
            case Goal.DRIFT:
                for k, finding in enumerate(self.findings):
                    yield [aim for aim in aims if aim.finding == k], finding, str(goal)
            case _:
                yield aims, "", str(goal)

    def _where(self, goal: Goal, aims: Sequence[Aim]) -> Tensor:
        """Cases ``(N,)`` in which the goal makes sense."""
        record, labels = self.climb.record, self.climb.reading.labels
        possible = ~record.clean[:, [self.climb.aims.index(aim) for aim in aims]].isnan().all(1)
        if goal in (Goal.HIDE, Goal.CREATE):
            possible &= labels[:, aims[0].finding] == (1.0 if goal is Goal.HIDE else 0.0)
        return possible

    def _values(
        self, goal: Goal, name: str, columns: Tensor, where: Tensor, number: int
    ) -> Iterator[tuple[str, Tensor]]:
        health = self.climb.record.margins[number][:, columns]
        rows = ~self.climb.record.clean[:, columns].isnan()
        answered = self.climb.record.usable[number] & where
        if goal is Goal.DRIFT:
            drift = self._drift(health, columns)
            yield "drift", _known(drift, where, answered & drift.isfinite())
            return
        reached = (health <= 0).any(1)
        lost = (rows & health.isnan()).any(1) & ~reached  # the model gave no number, and no plane reached the goal
        yield f"reached {name}", _known(reached.float(), where, answered & ~lost)
        if goal is Goal.ALARM:
            alarms = (self.climb.seen[number][:, columns[0]] >= 0) & self.climb.reading.true_negative
            yield "alarms raised", _known(alarms.sum(1).float(), where, answered & ~lost)

    def _drift(self, health: Tensor, columns: Tensor) -> Tensor:
        """Largest change ``(N,)`` of the probability, down or up."""
        reading = self.climb.reading
        aims = [self.climb.aims[int(column)] for column in columns]
        k = aims[0].finding
        sides = torch.tensor([-1.0 if aim.other else 1.0 for aim in aims], device=health.device)
        log_odds = health * sides + reading.threshold[k]
        clean = torch.sigmoid(reading.clean[:, k] + reading.threshold[k])
        return (torch.sigmoid(log_odds) - clean[:, None]).abs().amax(1)


def _known(values: Tensor, where: Tensor, answered: Tensor) -> Tensor:
    return torch.where(where, torch.where(answered, values, NO_ANSWER), torch.nan)


def _reading(
    attack: ClinicalGoals, labels: Tensor, clean: Tensor, findings: Sequence[str], state: State | None
) -> Reading:
    threshold = torch.full((len(findings),), torch.nan) if state is None else state[THRESHOLD]
    cutoff = torch.tensor([attack.cutoff.get(name, math.nan) for name in findings], dtype=torch.float64)
    return Reading(
        labels=labels,
        clean=clean,
        threshold=threshold.to(clean.device),
        cutoff=torch.logit(cutoff).float().to(clean.device),
    )


def _pairs(given: object) -> tuple[tuple[str, str], ...]:
    """Pairs as tuples."""

    def is_pair(pair: object) -> bool:
        named = isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        return named and pair[0] != pair[1]  # type: ignore[index]

    if not isinstance(given, list | tuple) or not all(is_pair(pair) for pair in given):
        raise ValueError(f"pairs: expected a list of pairs of two findings, the one to be hidden first, got {given!r}")
    return tuple((str(hidden), str(created)) for hidden, created in given)


def _check_cutoff(given: object) -> None:
    if not isinstance(given, Mapping) or not all(
        isinstance(value, float) and 0 < value < 1 for value in given.values()
    ):
        raise ValueError(f"cutoff: expected finding = probability between 0 and 1, got {given!r}")
