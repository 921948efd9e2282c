"""Attacks that look for the smallest change that makes a call wrong, and answer every level of the ladder with it.

One search per case and finding instead of one per level. Every plane that is scored counts at each level that contains it,
so a level is flipped exactly where a wrong plane of its size or less was found, and the answers are monotone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._objective import Objective, Targets
from robustbench_rad.attacks._pool import Capacity
from robustbench_rad.attacks._search import Front, Progress, begin, replace_rows
from robustbench_rad.attacks._threat import NORM_SLACK, LinfBall, Threat, stored
from robustbench_rad.attacks._units import sizes
from robustbench_rad.conditions import Batch, Level, Measurement, ModelQuery, State, Variant

SIZE_SLACK = 1e-6  # of the range: sums of float32; far below a grey level of 16 bits
MINIMAL_EPSILON = "minimal_epsilon"


@dataclass(kw_only=True, eq=False)
class Found:
    """What is known of R targets.

    Attributes:
        radii: ``(R, L)`` sizes of the levels; 0 where a level has no meaning.
        health: ``(R, L)`` lowest health of a plane inside each level.
        smallest: ``(R,)`` size of the smallest wrong change; infinite while there is none.
    """

    radii: Tensor
    health: Tensor
    smallest: Tensor

    @classmethod
    def of(cls, start: Progress, radii: Tensor) -> Found:
        """The stored originals, which belong to every level."""
        nothing = torch.full_like(start.health, torch.inf)
        smallest = torch.where(start.wrong(), 0.0, nothing)
        return cls(radii=radii, health=start.health[:, None].repeat(1, radii.shape[1]), smallest=smallest)

    def take(self, rows: Tensor, size: Tensor, health: Tensor, targets: Objective, threat: Threat) -> None:
        """Planes of ``rows`` ``(r,)`` with their sizes and healths; those that are not finite count for nothing."""
        health = torch.where(health.isfinite(), health, torch.inf)
        inside = within(size, self.radii[rows], threat)
        self.health[rows] = torch.where(inside, torch.minimum(self.health[rows], health[:, None]), self.health[rows])
        wrong = targets.wrong(health)
        self.smallest[rows] = torch.where(wrong, torch.minimum(self.smallest[rows], size), self.smallest[rows])


def within(size: Tensor, radii: Tensor, threat: Threat) -> Tensor:
    """Which levels ``(R, L)`` contain a change of this size ``(R,)``."""
    slack = SIZE_SLACK if isinstance(threat, LinfBall) else 0.0
    return (size[:, None] <= radii * (1 + NORM_SLACK) + slack + 1e-9) & (radii > 0)


@dataclass(frozen=True, kw_only=True)
class MinimalAttack(Attack):
    """Base of the attacks that look for the smallest change.

    Their ``search`` works inside the radius of the front with :func:`look`; it goes on after the flip unless it is used as
    a member of another attack.
    """

    def __post_init__(self) -> None:
        """Refuse a full search: where the smallest change is looked for, margins do not rank."""
        super().__post_init__()
        if self.full_search:
            raise ValueError(f"full_search: {self.id} looks for the smallest change and ranks nothing; leave it out")

    def passes(self, findings: int) -> float:
        """Forward-equivalents per case when nothing flips: one search for all levels."""
        return float(findings * (3 + self.passes_per_level))

    def hunt(self, climb: Hunt, start: Progress, found: Found) -> None:
        """Look for the smallest changes of a chunk of targets: one search in the largest level."""
        radius = found.radii.amax(1)
        front = climb.front(start, ~start.wrong() & (radius > 0), radius, to_flip=False)
        if not len(front):
            return
        index = front.index
        front.own |= {"radii": found.radii[index], "by_level": found.health[index], "smallest": found.smallest[index]}
        self.search(front, self.levels[-1])
        index = front.index  # a target that left had found nothing
        found.health[index], found.smallest[index] = front.own["by_level"], front.own["smallest"]
        front.compact(leave=True)

    def beside(self, batch: Batch) -> Iterator[Measurement]:
        """Measurements of the cases that belong to no finding."""
        del batch
        return iter(())

    def _variants(
        self, batch: Batch, query: ModelQuery, state: State | None, measurements: list[Measurement]
    ) -> Iterator[Variant]:
        climb = Hunt.of(self, batch, query, state)
        assert isinstance(climb, Hunt)
        climb.run()
        measurements.extend(climb.record.measurements(query.findings))
        measurements.extend(climb.minimal(query.findings))
        measurements.extend(self.beside(batch))
        yield from climb.record.variants()


@dataclass(frozen=True, kw_only=True, eq=False)
class Hunt(Climb):
    """One batch whose smallest wrong changes are looked for.

    Attributes:
        smallest: ``(N, K)`` sizes of the smallest wrong changes; NaN where none was found or the call was wrong already.
    """

    smallest: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing found."""
        object.__setattr__(self, "smallest", torch.full_like(self.record.clean, torch.nan))

    def minimal(self, findings: Sequence[str]) -> Iterator[Measurement]:
        """The smallest changes in the unit of the levels."""
        unit = in_unit(self.attack.levels[-1], self.batch)
        for k, finding in enumerate(findings):
            yield Measurement(quantity=MINIMAL_EPSILON, values=self.smallest[:, k] * unit, finding=finding)

    def front(self, progress: Progress, active: Tensor, radius: Tensor, *, to_flip: bool) -> Front:
        """The active targets ``(R,)``, each inside its own radius ``(R,)``."""
        case, attack = progress.targets.case, self.attack
        return Front.of(
            progress,
            active,
            oracle=self.oracle,
            threat=attack.threat(
                centre=progress.centre,
                radius=radius,
                bits=self.batch.stored_bits,
                allowed=None if self.allowed is None else self.allowed[case],
            ),
            to_flip=to_flip,
            compact_every=self.compact_every,
            source=partial(self._source, attack),
            batch=self.batch,
            state=self.state,
        )

    def _chunk(self, targets: Targets, capacity: Capacity) -> None:
        del capacity
        attack, record, where = self.attack, self.record, (targets.case, targets.finding)
        assert isinstance(attack, MinimalAttack)
        start = begin(self.batch.images[targets.case], self._clean_health(targets), targets, self.oracle)
        record.zero_gradient[where] = start.blind.float()
        record.flipped_by_rounding[where] = start.wrong().float()
        found = Found.of(start, self.radii[:, targets.case].T.contiguous())
        attack.hunt(self, start, found)
        for number, health in enumerate(found.health.unbind(1)):
            unsure = start.non_finite & ~targets.wrong(health)
            record.margins[number][where] = torch.where(unsure, torch.nan, health * targets.side)
        record.non_finite_margin[where] = start.non_finite.float()
        self.smallest[where] = torch.where(found.smallest.isfinite(), found.smallest, torch.nan)


def in_unit(level: Level, batch: Batch) -> Tensor:
    """Factor ``(N,)`` from a size as a share of the range (or in pixels) to the unit of the level."""
    return level.value / sizes(level, batch).clamp_min(1e-30)


def keep_account(front: Front) -> None:
    """Begin to note sizes, when the search serves a level of another attack and nobody did."""
    smallest = torch.full_like(front.live.health, torch.inf)
    account = {"radii": front.threat.radius[:, None], "by_level": front.live.health[:, None], "smallest": smallest}
    front.own = {**account, **front.own, "nearest": front.live.centre.clone()}


def look(front: Front, planes: Tensor, *, gradient: bool = True) -> tuple[Tensor, Tensor]:
    """Score planes of the threat, and note the lowest health at each level and the smallest wrong change.

    Returns:
        Health ``(L,)`` and its gradient (the slope at the original where none is asked for).
    """
    own, threat, live = front.own, front.threat, front.live
    planes = stored(threat.store(planes), threat.bits)
    if gradient:
        health, slope = front.score_and_gradient(planes)
        slope = slope.nan_to_num()
    else:
        health, slope = front.score(planes), live.centre_slope
    known = torch.where(health.isfinite(), health, torch.inf)
    size = threat.size(planes - live.centre)
    smaller = live.targets.wrong(known) & (size < own["smallest"])
    own["smallest"] = torch.where(smaller, size, own["smallest"])
    replace_rows(own["nearest"], smaller, planes)
    inside = within(size, own["radii"], threat)
    own["by_level"] = torch.where(inside, torch.minimum(own["by_level"], known[:, None]), own["by_level"])
    return health, slope


def tighten(front: Front, low: Tensor, passes: int) -> None:
    """Clip the smallest wrong change to ever smaller radii, by bisection with forward passes alone.

    Args:
        front: Its threat is an L-infinity ball; rows without a wrong change stay as they are.
        low: ``(L,)`` radii below which nothing is looked for.
        passes: How often to ask.
    """
    own, threat = front.own, front.threat
    grey_levels = float(2**threat.bits - 1)
    low = (low * grey_levels).floor()
    for _ in range(passes):
        high = (own["smallest"] * grey_levels).round()
        middle = torch.where(high.isfinite(), ((low + high) / 2).floor(), 0.0)
        radius = (middle / grey_levels).reshape(threat.radii().shape)
        change = own["nearest"] - threat.centre
        health, _ = look(front, threat.centre + torch.minimum(torch.maximum(change, -radius), radius), gradient=False)
        low = torch.where(front.live.targets.wrong(health), low, torch.maximum(low, middle))
