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


def descend(front: Front, direction: Direction, steps: int) -> None:
    """Search from the best planes known."""
    _run(front, front.live.best.clone(), direction, steps)


def descend_from(front: Front, planes: Tensor, direction: Direction, steps: int) -> None:
    """Search from given planes ``(L, 1, ...)``."""
    _run(front, front.threat.project(planes), direction, steps)


def _run(front: Front, planes: Tensor, direction: Direction, steps: int) -> None:
    _stand(front, planes, direction)
    front.compact()
    checks, before = checkpoints(steps), 0
    for step in range(1, steps + 1):
        if not len(front):
            return
        _move(front, direction, inertia=1.0 if step == 1 else INERTIA, last=step == steps)
        if step in checks:
            _judge(front.own, step - before)
            before = step
        if step % front.compact_every == 0:
            front.compact()
    front.compact()


def _stand(front: Front, planes: Tensor, direction: Direction) -> None:
    health, gradient = front.score_and_gradient(planes)
    towards, best = _numbers(direction(gradient, front.threat)), _ranked(health)
    front.own = {
        "planes": planes,
        "before": planes,
        "direction": towards,
        "best": planes.clone(),
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


def _move(front: Front, direction: Direction, *, inertia: float, last: bool) -> None:
    own, threat = front.own, front.threat
    here, before = own["planes"], own["before"]
    reach = threat.radii() * own["size"].reshape(threat.radii().shape)
    ahead = threat.project(here - reach * own["direction"])
    planes = threat.project(here + (ahead - here) * inertia + (here - before) * (1 - inertia))
    if last:
        front.score(planes)
        return
    health, gradient = front.score_and_gradient(planes)
    towards = _numbers(direction(gradient, threat))
    better = _ranked(health) < own["best_health"]
    replace_rows(own["best"], better, planes)
    replace_rows(own["best_direction"], better, towards)
    own["best_health"] = torch.where(better, health, own["best_health"])
    own["helped"] = own["helped"] + (health < own["health"])
    own |= {"planes": planes, "before": here, "direction": towards, "health": health}


def _judge(own: dict[str, Tensor], interval: int) -> None:
    """At a checkpoint: halve the step, and go back to the best plane, where the last interval did not help."""
    stalled = ~own["halved"] & (own["best_health"] >= own["best_at_check"])
    halve = stalled | (own["helped"] < PROGRESS * interval)
    replace_rows(own["planes"], halve, own["best"])
    replace_rows(own["direction"], halve, own["best_direction"])
    own["health"] = torch.where(halve, own["best_health"], own["health"])
    own["size"] = torch.where(halve, own["size"] / 2, own["size"])
    own |= {"halved": halve, "best_at_check": own["best_health"], "helped": torch.zeros_like(own["helped"])}
