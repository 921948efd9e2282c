"""Steps that halve when they no longer help, inside a ball of root-mean-squared change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._apgd import Apgd, ApgdPath
from robustbench_rad.attacks._path import follow
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L2Ball, Threat
from robustbench_rad.attacks._units import OF_RANGE, ladder
from robustbench_rad.attacks.pgd_l2 import RMS_OF_RANGE
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.apgd-l2",
    version=1,
    space="display",
    domain="adversarial",
    unit="RMS of display range",
    reference="Croce & Hein 2020, arXiv:2003.01690",
)
@dataclass(frozen=True, kw_only=True)
class ApgdL2(Apgd):
    """Projected gradient descent on the root-mean-squared change per pixel, that chooses its own steps.

    The size of the threat is ``sqrt(mean((x' - x)^2))``, free of the number of pixels. Planes are projected on the ball
    and then clipped to the box. What rounding to the stored bit depth pushes out of the ball is rounded towards the
    original, so levels well below one grey level leave only the strongest pixels changed.

    Attributes:
        levels: RMS change as a fraction of the display range, in HU or in percent of the foreground's range.
        steps: Planes scored per start and level, after the start.
        random_starts: Starts at a random plane on the ball, after the one at the best plane known.

    >>> ApgdL2.from_options({"epsilon": "1/255", "steps": 100}).passes(findings=1)
    304.0
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

    @property
    def path(self) -> ApgdPath:
        """From the best planes known, then from random planes on the ball."""
        return ApgdPath(starts=1 + self.random_starts, steps=self.steps, direction=downhill, random=drawn)

    def search(self, front: Front, level: Level) -> None:
        """From the best planes known, then from random planes on the ball."""
        del level
        follow(front, self.path)


def drawn(front: Front, start: int) -> Tensor:
    """Random changes of the size of the ball."""
    return unit(front.normal("start", start), front.threat.allowed) * front.threat.radii()


def downhill(gradient: Tensor, threat: Threat) -> Tensor:
    """The steepest direction of RMS 1."""
    return unit(gradient, threat.allowed)


def unit(planes: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Planes ``(L, 1, ...)`` scaled to RMS 1, zero where not ``allowed``; a plane of zeros stays.

    >>> unit(torch.tensor([[[[3e-30, 4e-30]]]])).square().mean().item()
    1.0
    """
    planes = planes if allowed is None else planes * allowed
    axes = tuple(range(1, planes.ndim))
    largest = planes.abs().amax(axes, keepdim=True)  # first of all: squares of small gradients would vanish
    planes = planes / torch.where(largest > 0, largest, 1.0)
    size = planes.square().mean(axes, keepdim=True).sqrt()
    return planes / torch.where(size > 0, size, 1.0)
