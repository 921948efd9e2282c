"""Steps that halve when they no longer help: the schedule of APGD, for any ball.

With health ``f``, ball ``S`` and direction ``d`` (a unit of the ball's norm down the gradient), from ``x[0]``::

    z      = P_S(x[t] + s r d[t])
    x[t+1] = P_S(x[t] + a (z - x[t]) + (1 - a) (x[t] - x[t-1]))

``r`` is the radius, ``s`` begins at 2, ``a`` = 1 in the first step and 0.75 after it. At a checkpoint ``w[j]`` a target whose
``f`` fell in less than three quarters of the steps since ``w[j-1]``, or whose step and best ``f`` are those of ``w[j-1]``,
halves ``s`` and goes back to its best plane.

References:
    Croce & Hein 2020, arXiv:2003.01690, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._path import Path
from robustbench_rad.attacks._search import Front, replace_rows
from robustbench_rad.attacks._threat import Threat

FIRST_STEP = 2.0  # radii
INERTIA = 0.75  # share of the new step
PROGRESS = 0.75  # share of the steps that must help
FIRST_CHECK, SHORTER, SHORTEST = (
    22,
    3,
    6,
)  # percent of the steps: first interval, what each next one is shorter, the least

Direction = Callable[[Tensor, Threat], Tensor]
"""From gradients ``(L, 1, ...)`` to directions of norm 1 in the unit of the threat's radius."""


@dataclass(frozen=True, kw_only=True)
class Apgd(Attack):
    """Base of the attacks with the schedule of APGD.

    Attributes:
        steps: Planes scored per start and level, after the start.
        random_starts: Starts at a random plane of the ball, after the one at the best plane known.
    """

    flips_linear: ClassVar[float] = 1.0

    steps: int = 100
    random_starts: int = 0

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name, least in (("steps", 1), ("random_starts", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")

    @property
    def passes_per_level(self) -> float:
        """A gradient with the start and every plane but the last."""
        return float((1 + self.random_starts) * (3 * self.steps + 1))


def checkpoints(steps: int) -> tuple[int, ...]:
    """Steps after which progress is judged: ``w[j] = ceil(p[j] N)``, ``p`` = 0, 0.22, then shorter intervals.

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
    """
    percent = [0, FIRST_CHECK]
    while percent[-1] <= 100:
        percent.append(percent[-1] + max(percent[-1] - percent[-2] - SHORTER, SHORTEST))
    return tuple(sorted({-(-share * steps // 100) for share in percent[1:] if share <= 100}))


@dataclass(frozen=True, kw_only=True)
class ApgdPath(Path):
    """The schedule, from the best planes known and from random ones.

    Attributes:
        steps: Planes scored after the start.
        direction: Where down is.
        random: Changes ``(L, 1, ...)`` of the original for a start, from the front and its number.
    """

    steps: int
    direction: Direction
    random: Callable[[Front, int], Tensor]

    def length(self, start: int) -> int:
        """Where it begins, and a plane for each step."""
        del start
        return 1 + self.steps

    def begin(self, front: Front, start: int) -> None:
        """Stand at the best planes known, or at random ones."""
        planes = front.live.best.clone()
        if start:
            planes = front.threat.project(front.live.centre + self.random(front, start))
        front.own = {"planes": planes, "before": planes}

    def ask(self, front: Front, start: int, number: int) -> Tensor:
        """Where it begins, or one step on."""
        own = front.own
        if number:
            own["planes"], own["before"] = _moved(front, inertia=1.0 if number == 1 else INERTIA), own["planes"]
        return own["planes"]

    def learn(self, front: Front, start: int, number: int, health: Tensor, gradient: Tensor | None) -> None:
        """Note what has helped; at a checkpoint, judge."""
        if gradient is None:
            return
        towards = _numbers(self.direction(gradient, front.threat))
        if not number:
            _stand(front.own, health, towards)
            return
        _note(front.own, health, towards)
        checks = checkpoints(self.steps)
        if number in checks:
            before = checks.index(number) - 1
            _judge(front.own, number - (checks[before] if before >= 0 else 0))


def _stand(own: dict[str, Tensor], health: Tensor, towards: Tensor) -> None:
    best = _ranked(health)
    own |= {
        "direction": towards,
        "best": own["planes"].clone(),
        "best_direction": towards.clone(),
        "health": health,
        "best_health": best,
        "best_at_check": best,
        "size": torch.full_like(health, FIRST_STEP),
        "helped": torch.zeros_like(health),
        "halved": torch.ones_like(health, dtype=torch.bool),  # the first step has no predecessor to stall against
    }


def _ranked(health: Tensor) -> Tensor:
    """A health that is no number is never the best."""
    return torch.where(health.isfinite(), health, torch.inf)


def _numbers(direction: Tensor) -> Tensor:
    """No movement where the gradient is no number: the other pixels go on, and best planes stay finite."""
    return torch.where(direction.isfinite(), direction, 0.0)


def _moved(front: Front, *, inertia: float) -> Tensor:
    own, threat = front.own, front.threat
    here, before = own["planes"], own["before"]
    reach = threat.radii() * own["size"].reshape(threat.radii().shape)
    ahead = threat.project(here - reach * own["direction"])
    return threat.project(here + (ahead - here) * inertia + (here - before) * (1 - inertia))


def _note(own: dict[str, Tensor], health: Tensor, towards: Tensor) -> None:
    better = _ranked(health) < own["best_health"]
    replace_rows(own["best"], better, own["planes"])
    replace_rows(own["best_direction"], better, towards)
    own["best_health"] = torch.where(better, health, own["best_health"])
    own["helped"] = own["helped"] + (health < own["health"])
    own |= {"direction": towards, "health": health}


def _judge(own: dict[str, Tensor], interval: int) -> None:
    """At a checkpoint: halve the step, and go back to the best plane, where the last interval did not help."""
    stalled = ~own["halved"] & (own["best_health"] >= own["best_at_check"])
    halve = stalled | (own["helped"] < PROGRESS * interval)
    replace_rows(own["planes"], halve, own["best"])
    replace_rows(own["direction"], halve, own["best_direction"])
    own["health"] = torch.where(halve, own["best_health"], own["health"])
    own["size"] = torch.where(halve, own["size"] / 2, own["size"])
    own |= {"halved": halve, "best_at_check": own["best_health"], "helped": torch.zeros_like(own["helped"])}
