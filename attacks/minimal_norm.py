"""Fast minimum-norm attack: the radius shrinks while the call is wrong and grows while it is right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._boxed import nearest, room, steepest
from robustbench_rad.attacks._minimal import MinimalAttack, keep_account, look
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, LinfBall, Threat, whole_grey_levels
from robustbench_rad.attacks._units import OF_RANGE, ladder
from robustbench_rad.conditions import Batch, Level
from robustbench_rad.registry import register

BALLS: dict[str, type[Threat]] = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball, "l0": L0Ball}
UNITS = {"linf": OF_RANGE, "l2": f"RMS {OF_RANGE}", "l1": f"mean {OF_RANGE}", "l0": "pixels"}
LADDER = ladder("1/255", "2/255", "4/255")
PIXELS = ladder(1, 5, 20, 100)
OVERSHOOT = 1e-4  # relative: enough to cross the boundary of a linear model in float32
SHRINK = (0.05, 0.001)  # γ, first and last
STEP = (0.5, 0.01)  # α, first and last, as a share of the radius (of the range, for L1 and L0)


@register(
    id="attack.minimal-norm",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Pintor et al. 2021, arXiv:2102.12827",
)
@dataclass(frozen=True, kw_only=True)
class MinimalNorm(MinimalAttack):
    """The smallest change of each case that flips its call, in one of four norms.

    The change ``d`` of step t goes down the gradient and is brought back into the ball of radius ``ε[t]``, which follows
    the decision boundary: ``ε (1 - γ)`` where the call is wrong, ``ε (1 + γ)`` where it is right again, and the distance to
    the boundary by the gradient while it was never wrong. The first plane is the exact smallest change of a linear model in
    the box. A level is flipped exactly where the smallest change found is not larger.

    Gives ``minimal_epsilon`` for each case and finding in the unit of the levels; no value where nothing inside the largest
    level was wrong, or the call was wrong from the start.

    Attributes:
        norm: ``linf``, ``l2`` (RMS per pixel), ``l1`` (mean absolute change per pixel) or ``l0`` (pixels changed; the
            default levels are then 1, 5, 20 and 100 pixels).
        steps: Planes scored.

    >>> MinimalNorm.from_options({"epsilon": "4/255", "steps": 100}).passes(findings=1)
    304.0
    """

    flips_linear: ClassVar[float] = 1.0

    norm: str = "linf"
    levels: tuple[Level, ...] = LADDER
    steps: int = 100

    def __post_init__(self) -> None:
        """Refuse a norm that is not known; put its unit to the levels."""
        if self.norm not in BALLS:
            raise ValueError(f"norm: expected one of {list(BALLS)}, got {self.norm!r}")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")
        levels = PIXELS if self.norm == "l0" and self.levels == LADDER else self.levels
        known = {OF_RANGE, *UNITS.values()}
        own = tuple(replace(level, unit=UNITS[self.norm]) if level.unit in known else level for level in levels)
        object.__setattr__(self, "levels", own)
        object.__setattr__(self, "threat", BALLS[self.norm])
        super().__post_init__()

    def check_ladder(self) -> None:
        """Refuse sizes that the norm has no meaning for.

        Raises:
            ValueError: Says what was expected.
        """
        super().check_ladder()
        pixels = all(level.unit == UNITS["l0"] and level.value == int(level.value) for level in self.levels)
        if self.norm == "l0" and not pixels:
            raise ValueError(f"levels: expected whole numbers of pixels, got {[str(level) for level in self.levels]}")

    @property
    def passes_per_level(self) -> float:
        """A gradient at the original and with every plane but the last."""
        return float(3 * self.steps + 1)

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """Size of the level; a whole number of grey levels for ``linf``."""
        size = super().reach(level, batch)
        return whole_grey_levels(size.clamp(max=1.0), batch.stored_bits) if self.norm == "linf" else size

    def search(self, front: Front, level: Level) -> None:
        """Follow the boundary from the smallest change of the linear model."""
        del level
        keep_account(front)
        self._begin(front)
        for number in range(1, self.steps + 1):
            if not len(front):
                return
            planes = front.threat.centre + front.own["change"]
            last = number == self.steps
            health, gradient = look(front, planes, gradient=not last)
            if not last:
                self._step(front, health, gradient, number / self.steps)
            if number % front.compact_every == 0:
                front.compact()
        front.compact()

    def _begin(self, front: Front) -> None:
        threat = front.threat
        health, gradient = look(front, threat.centre)
        free = room(threat.centre, gradient, threat)
        epsilon = self._up(threat.size(nearest(self.norm, gradient, free, health)), threat)
        front.own["epsilon"] = torch.minimum(epsilon, threat.radius)
        change = steepest(self.norm, gradient, free, front.own["epsilon"])
        front.own["change"] = threat.project(threat.centre + change) - threat.centre

    def _step(self, front: Front, health: Tensor, gradient: Tensor, done: float) -> None:
        own, threat = front.own, front.threat
        planes = threat.centre + own["change"]
        wrong, ever = front.live.targets.wrong(health), own["smallest"].isfinite()
        gamma, alpha = _between(*SHRINK, done), _between(*STEP, done)
        left = threat.size(nearest(self.norm, gradient, room(planes, gradient, threat), health))
        seen = torch.where(wrong, own["smallest"] * (1 - gamma), own["epsilon"] * (1 + gamma))
        seen = torch.minimum(self._up(seen, threat), self._below(own["smallest"], threat))
        unseen = self._up(torch.maximum(threat.size(own["change"]) + left, own["epsilon"] * (1 + gamma)), threat)
        own["epsilon"] = torch.minimum(torch.where(ever, seen, unseen), threat.radius)
        ball = replace(threat, radius=own["epsilon"])
        own["change"] = ball.project(planes - self._stride(gradient, alpha, ball)) - threat.centre

    def _stride(self, gradient: Tensor, alpha: float, ball: Threat) -> Tensor:
        """A step down: along the signs (L-infinity), the gradient (L2), or with the steepest pixel as the measure."""
        if self.norm == "linf":
            return gradient.sign() * (alpha * ball.radii())
        flat = gradient.flatten(1)
        if self.norm == "l2":
            return gradient * (alpha * ball.radius / flat.square().mean(1).sqrt().clamp_min(1e-30)).reshape(
                ball.radii().shape
            )
        return gradient * (alpha / flat.abs().amax(1).clamp_min(1e-30)).reshape(ball.radii().shape)

    def _unit(self, threat: Threat) -> float:
        """The least by which two sizes differ; 0 where they vary continuously."""
        if self.norm == "linf":
            return 1 / float(2**threat.bits - 1)
        return 1.0 if self.norm == "l0" else 0.0

    def _up(self, size: Tensor, threat: Threat) -> Tensor:
        """The next size that can be had, a little beyond the boundary."""
        unit = self._unit(threat)
        return (size / unit - 1e-3).ceil().clamp_min(1.0) * unit if unit else size * (1 + OVERSHOOT)

    def _below(self, size: Tensor, threat: Threat) -> Tensor:
        """The largest size that would be new."""
        unit = self._unit(threat)
        return (size / unit - 1).round().clamp_min(0.0) * unit if unit else size * (1 - SHRINK[1] / 2)


def _between(first: float, last: float, done: float) -> float:
    """From the first to the last value along a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
