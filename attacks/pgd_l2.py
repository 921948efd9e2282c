"""Many small steps down the margin's gradient, inside a ball of the root mean square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._boxed import room, steepest
from robustbench_rad.attacks._path import Path, follow
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L2Ball, Threat
from robustbench_rad.attacks._units import OF_RANGE, ladder
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

RMS_OF_RANGE = f"RMS {OF_RANGE}"


@register(
    id="attack.pgd-l2",
    version=1,
    space="display",
    domain="adversarial",
    unit="RMS of display range",
    reference="Madry et al. 2018, arXiv:1706.06083",
)
@dataclass(frozen=True, kw_only=True)
class PgdL2(Attack):
    """Projected gradient descent on the margin, limited by the root mean square of the change.

    ``x[t+1] = P(x[t] - s[t] ε g / rms(g))`` with ``g`` the gradient of the margin (of its negative, to create a finding)
    and ``P`` the way back into the ball of radius ``ε``, the box [0, 1] and the pixels that may be touched. The first plane
    is the exact worst one of a linear model in the box, so linear models are solved exactly. A larger level goes on from
    the best plane of the smaller one.

    The radius is per pixel, so that it means the same at any image size: ``‖d‖₂ / sqrt(pixels)``; in a CT plan, HU.
    A file holds whole grey levels only: with 8 bits, changes under half a grey level are rounded away, so radii well below
    0.5/255 mostly test the rounding (only the few pixels with the steepest gradients move at all). With 12 bits or more
    that is negligible.

    Attributes:
        steps: Planes scored per start and level, the first of each level aside.
        random_starts: Starts at a normally distributed random plane of the ball's surface.
        step_rule: ``decaying`` (down to nothing) or ``constant`` (a quarter of the radius).

    >>> PgdL2.from_options({"epsilon": "1/255", "steps": 20, "random_starts": 0}).passes(findings=1)
    64.0
    """

    threat: ClassVar[type[Threat]] = L2Ball
    flips_linear: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = tuple(
        replace(level, unit=RMS_OF_RANGE) for level in ladder("0.5/255", "1/255", "2/255")
    )
    steps: int = 20
    random_starts: int = 1
    step_rule: StepRule = StepRule.DECAYING

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name, least in (("steps", 1), ("random_starts", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        if self.step_rule not in list(StepRule):
            raise ValueError(f"step_rule: expected one of {[str(rule) for rule in StepRule]}, got {self.step_rule!r}")
        object.__setattr__(self, "step_rule", StepRule(self.step_rule))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from an RMS as a fraction of the range (``"1/255"``), in HU or in percent of the foreground."""
        level = super().level(value)
        return replace(level, unit=RMS_OF_RANGE) if level.unit == OF_RANGE else level

    @property
    def passes_per_level(self) -> float:
        """A gradient where each start begins and with every plane but its last."""
        return float((1 + self.random_starts) * (3 * self.steps + 1))

    @property
    def path(self) -> L2Walk:
        """Walks from the best planes known, then from random planes of the ball."""
        return L2Walk(starts=1 + self.random_starts, fractions=step_fractions(self.steps, self.step_rule))

    def search(self, front: Front, level: Level) -> None:
        """Descend from the best planes known, then from random planes of the ball."""
        del level
        follow(front, self.path)


@dataclass(frozen=True, kw_only=True)
class L2Walk(Path):
    """Steps down the gradient; from the best plane known, the first goes to the worst plane of the linear model.

    Attributes:
        fractions: Sizes of the steps as fractions of the radius.
    """

    fractions: Sequence[float]

    def length(self, start: int) -> int:
        """Where it begins, and a plane for each step."""
        del start
        return 1 + len(self.fractions)

    def begin(self, front: Front, start: int) -> None:
        """Stand at the best planes known, or at random ones of the surface."""
        planes = front.live.best
        if start:
            draws = front.normal("start", start)
            planes = front.threat.project(front.live.centre + draws * (front.threat.radii() / rms(draws)))
        front.own |= {"planes": planes.clone(), "gradient": torch.zeros_like(planes)}

    def ask(self, front: Front, start: int, number: int) -> Tensor:
        """One step down, or the leap."""
        if number:
            leap = not start and number == 1
            front.own["planes"] = _leapt(front) if leap else _stepped(front, self.fractions[number - 1])
        return front.own["planes"]

    def slope(self, front: Front) -> Tensor:
        """That of the plane before."""
        return front.own["gradient"].sign()

    def learn(self, front: Front, start: int, number: int, health: Tensor, gradient: Tensor | None) -> None:
        """Go on down the new gradient."""
        del start, number, health
        if gradient is not None:
            front.own["gradient"] = gradient


def _leapt(front: Front) -> Tensor:
    threat, gradient = front.threat, front.own["gradient"].nan_to_num()
    free = room(threat.centre, gradient, threat)
    return threat.project(threat.centre + steepest("l2", gradient, free, threat.radius))


def _stepped(front: Front, fraction: float) -> Tensor:
    gradient = front.own["gradient"].nan_to_num()
    step = gradient * (fraction * front.threat.radii() / rms(gradient))
    return front.threat.project(front.own["planes"] - step)


def rms(planes: Tensor) -> Tensor:
    """Root mean square of each row, shaped to be multiplied with planes; never 0."""
    return planes.flatten(1).square().mean(1).sqrt().clamp_min(1e-30).reshape(-1, *[1] * (planes.ndim - 1))
