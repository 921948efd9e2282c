"""Along the decision boundary towards the original, by the calls of the model alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._minimal import Found, Hunt, MinimalAttack, keep_account, look
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._search import Front, Progress, replace_rows
from robustbench_rad.attacks._sentinel import solve
from robustbench_rad.attacks._threat import L2Ball, LinfBall, Threat, stored
from robustbench_rad.attacks._units import OF_RANGE, ladder
from robustbench_rad.attacks._windows import round_sizes
from robustbench_rad.attacks.pgd_l2 import RMS_OF_RANGE
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

START_FOUND = "start_found"
BISECTIONS = 10  # queries that bring a plane to the boundary
HALVINGS = 8  # sizes of a step tried at once
AT_ONCE = 16  # votes scored in one batch; changes no result
PROBE = 0.1  # size of the probing noise as a share of the distance to the original
COARSE = 4  # blocks along each axis of the coarse starts


@dataclass(frozen=True, kw_only=True)
class Boundary(MinimalAttack):
    """Base of the attacks that see the model's calls only, right or wrong, and no margin.

    Attributes:
        queries: Planes scored per case and finding, an upper bound.
        starts: Of them, planes drawn to find a first wrong call.
        votes: Of them, planes drawn around the first boundary point; ``sqrt(t)`` times as many around the t-th.
    """

    notes: ClassVar[tuple[str, ...]] = (START_FOUND,)
    flips_linear: ClassVar[float] = 0.5

    queries: int = 5000
    starts: int = 32
    votes: int = 100

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name, least in (("starts", 1), ("votes", 2), ("queries", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        least = self.starts + 2 * BISECTIONS + HALVINGS + 2 + self.votes
        if self.queries < least:
            raise ValueError(f"queries: expected at least {least} for these starts and votes, got {self.queries}")

    def self_test(self) -> str:
        """Solve the planted model with few enough votes for the short budget of a control."""
        return solve(replace(self, starts=min(self.starts, 32), votes=min(self.votes, 40)))

    @property
    def passes_per_level(self) -> float:
        """One forward per query."""
        return float(self.queries)

    @property
    def planes_at_once(self) -> int:
        """One plane per vote of a batch."""
        return AT_ONCE

    def hunt(self, climb: Hunt, start: Progress, found: Found) -> None:
        """Search, and give no answer where no wrong call was found to start from: that is no sign of robustness."""
        start.notes = {START_FOUND: torch.full_like(start.health, torch.nan)}
        super().hunt(climb, start, found)
        started = start.notes[START_FOUND]
        found.health[started == 0] = torch.nan
        targets = start.targets
        assert isinstance(targets, Targets)
        climb.record.note(START_FOUND, len(self.levels) - 1, (targets.case, targets.finding), started)

    def search(self, front: Front, level: Level) -> None:
        """From a wrong call to the boundary, and along it."""
        del level
        keep_account(front)
        _prepare(front)
        _start(front, self.starts)
        for number, votes in enumerate(vote_counts(self.queries, self.starts, self.votes), start=1):
            if not len(front):
                return
            direction = _direction(front, number, votes)
            _step(front, direction, number)
            if number % front.compact_every == 0:
                front.compact()
        front.compact()


@register(
    id="attack.boundary-l2",
    version=1,
    space="display",
    domain="adversarial",
    unit="RMS of display range",
    reference="Chen, Jordan, Wainwright 2020, arXiv:1904.02144",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class BoundaryL2(Boundary):
    """HopSkipJump by root mean square: the smallest change found when only the call itself can be seen.

    Begins at a wrong call among planes drawn from the largest ball and from the whole range (noise, flat grey, coarse
    blocks), goes to the boundary by bisection, and then again and again: the normal of the boundary is the mean of probing
    noise ``u`` weighted by the votes (+1 wrong, -1 right, less their mean), a step of ``distance / sqrt(t)`` along it is
    halved until the call is wrong, and a bisection towards the original ends at the boundary. The probing noise is a tenth
    of the distance, at least one grey level, since a file cannot hold less. Every level is answered by the smallest change
    found. Where no start was found there is no result: ``start_found`` is 0 and the margins are NaN.

    >>> BoundaryL2.from_options({"epsilon": "1/255"}).passes(findings=1)
    5003.0
    """

    threat: ClassVar[type[Threat]] = L2Ball

    levels: tuple[Level, ...] = tuple(
        replace(level, unit=RMS_OF_RANGE) for level in ladder("0.5/255", "1/255", "2/255")
    )

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from an RMS as a fraction of the range (``"1/255"``), in HU or in percent of the foreground."""
        level = super().level(value)
        return replace(level, unit=RMS_OF_RANGE) if level.unit == OF_RANGE else level


@register(
    id="attack.boundary-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Chen, Jordan, Wainwright 2020, arXiv:1904.02144",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class BoundaryLinf(Boundary, LinfAttack):
    """HopSkipJump by largest change: the smallest radius found when only the call itself can be seen.

    As :class:`BoundaryL2`, with steps along the sign of the estimated normal, uniform probing noise, and bisection of the
    radius that the change is clipped to.

    >>> BoundaryLinf.from_options({"epsilon": "1/255"}).passes(findings=1)
    5003.0
    """

    threat: ClassVar[type[Threat]] = LinfBall


def vote_counts(queries: int, starts: int, votes: int) -> tuple[int, ...]:
    """Votes of each round that a budget pays for; the last round takes what is left.

    >>> vote_counts(1000, 32, 100)
    (100, 141, 173, 200, 248)
    """
    left, counts = queries - starts - BISECTIONS - 1, list[int]()
    while True:
        count = round(votes * math.sqrt(len(counts) + 1))
        cost = count + HALVINGS + BISECTIONS + 1
        if cost > left:
            break
        counts.append(count)
        left -= cost
    return (*counts[:-1], counts[-1] + left) if counts else ()


def wrong_calls(front: Front, planes: Tensor) -> Tensor:
    """Whether the calls ``(L, M)`` of planes ``(L, M, 1, ...)`` are wrong: all that these attacks see of the model."""
    count, many = planes.shape[:2]
    targets = front.live.targets.select(torch.arange(count, device=planes.device).repeat_interleave(many))
    health = front.oracle.health(planes.flatten(0, 1), targets)
    front.live.non_finite = front.live.non_finite | ~health.isfinite().reshape(count, many).all(1)
    return targets.wrong(health).reshape(count, many)


def _prepare(front: Front) -> None:
    centre, allowed = front.threat.centre, front.threat.allowed
    low, high = centre.clamp(max=0.0), centre.clamp(min=1.0)
    if allowed is not None:
        low, high = torch.where(allowed, low, centre), torch.where(allowed, high, centre)
    front.own |= {"low": low, "high": high, "planes": centre.clone()}


def _clip(front: Front, planes: Tensor) -> Tensor:
    """Planes ``(L, M, 1, ...)`` clipped to the box and to the pixels that may be touched, as a file holds them."""
    low, high = front.own["low"][:, None], front.own["high"][:, None]
    return stored(torch.minimum(torch.maximum(planes, low), high), front.threat.bits)


def _start(front: Front, starts: int) -> None:
    """Stand at the first wrong call of the draws, brought to the boundary; targets without one leave."""
    found, planes = torch.zeros_like(front.done), front.own["planes"]
    for first in range(0, starts, AT_ONCE):
        drawn = torch.stack([_drawn(front, number) for number in range(first, min(first + AT_ONCE, starts))], 1)
        drawn = _clip(front, drawn)
        wrong = wrong_calls(front, drawn)
        here = drawn[torch.arange(len(drawn), device=drawn.device), wrong.int().argmax(1)]
        replace_rows(planes, ~found & wrong.any(1), here)
        found |= wrong.any(1)
    if START_FOUND in front.live.notes:
        front.live.notes[START_FOUND] = found.to(front.live.health.dtype)
    front.done = front.done | ~found
    front.compact()
    if len(front):
        _approach(front, front.own["planes"])


def _drawn(front: Front, number: int) -> Tensor:
    """A plane to start from: in the largest ball, over the whole range, flat, or in coarse blocks, in turn."""
    centre, axes = front.live.centre, front.live.centre.ndim - 2
    match number % 4:
        case 0:
            return centre + front.uniform("start", number) * front.threat.radii()
        case 1:
            return (front.uniform("start", number) + 1) / 2
        case 2:
            return (front.uniform("start", number, shape=(1,) * (axes + 1)) + 1) / 2 + torch.zeros_like(centre)
    blocks = (front.uniform("start", number, shape=(1, *[COARSE] * axes)) + 1) / 2
    return torch.nn.functional.interpolate(blocks, size=centre.shape[2:], mode="nearest")


def _approach(front: Front, planes: Tensor) -> None:
    """From wrong calls towards the originals as far as the calls stay wrong; stand there if that is nearer than before."""
    low, high = torch.zeros_like(front.live.health), torch.ones_like(front.live.health)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        wrong = wrong_calls(front, _between(front, planes, middle)[:, None])[:, 0]
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    reached = stored(torch.where(_as_rows(high == 1, planes), planes, _between(front, planes, high)), front.threat.bits)
    standing, threat = front.own["planes"], front.threat
    nearer = threat.size(reached - threat.centre) < threat.size(standing - threat.centre)
    front.own["planes"] = torch.where(_as_rows(nearer, planes), reached, standing)
    look(front, threat.project(front.own["planes"]), gradient=False)


def _between(front: Front, planes: Tensor, share: Tensor) -> Tensor:
    """Planes at a share ``(L,)`` of the distance: on the line (L2), clipped to that share of the radius (L-infinity)."""
    change = planes - front.threat.centre
    if isinstance(front.threat, LinfBall):
        radius = _as_rows(share * front.threat.size(change), planes)
        return front.threat.centre + torch.minimum(torch.maximum(change, -radius), radius)
    return front.threat.centre + change * _as_rows(share, planes)


def _direction(front: Front, number: int, votes: int) -> Tensor:
    """Direction ``(L, 1, ...)`` into the wrong calls, of size 1, by votes of probing noise around the boundary points."""
    own, threat = front.own, front.threat
    grey_level = 1 / float(2**threat.bits - 1)
    size = (PROBE * threat.size(own["planes"] - threat.centre)).clamp(min=grey_level)
    weighted, plain = torch.zeros_like(own["planes"]), torch.zeros_like(own["planes"])
    total = torch.zeros_like(size)
    for part, count in enumerate(round_sizes(votes, AT_ONCE)):
        shape = (count, *own["planes"].shape[1:])
        draw = front.uniform if isinstance(threat, LinfBall) else front.normal
        noise = draw("votes", number, part, shape=shape)
        planes = _clip(front, own["planes"][:, None] + noise * _as_rows(size, noise))
        said = wrong_calls(front, planes).to(size.dtype) * 2 - 1
        noise = planes - own["planes"][:, None]  # what the model was shown
        weighted += (noise * _as_rows(said, noise)).sum(1)
        plain += noise.sum(1)
        total += said.sum(1)
    mean = total / votes
    normal = torch.where(_as_rows(mean.abs() == 1, plain), weighted, weighted - plain * _as_rows(mean, plain))
    if isinstance(threat, LinfBall):
        return normal.sign()
    return normal / _as_rows(threat.size(normal).clamp_min(1e-30), normal)


def _step(front: Front, direction: Tensor, number: int) -> None:
    """The largest of several halved steps whose call is wrong, then back to the boundary."""
    planes, threat = front.own["planes"], front.threat
    size = threat.size(planes - threat.centre) / math.sqrt(number)
    halved = size[:, None] * 0.5 ** torch.arange(HALVINGS, device=size.device)
    ahead = _clip(front, planes[:, None] + direction[:, None] * _as_rows(halved, direction[:, None]))
    wrong = wrong_calls(front, ahead)
    chosen = ahead[torch.arange(len(ahead), device=ahead.device), wrong.int().argmax(1)]
    _approach(front, torch.where(_as_rows(wrong.any(1), planes), chosen, planes))


def _as_rows(values: Tensor, planes: Tensor) -> Tensor:
    """Values ``(L,)`` or ``(L, M)`` shaped to be multiplied with planes."""
    return values.reshape(*values.shape, *[1] * (planes.ndim - values.ndim))
