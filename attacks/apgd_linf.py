"""Steps that halve when they no longer help, inside an L-infinity ball."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustbench_rad.attacks._apgd import Apgd, ApgdPath
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._path import follow
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import Threat
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.apgd-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Croce & Hein 2020, arXiv:2003.01690",
)
@dataclass(frozen=True, kw_only=True)
class ApgdLinf(Apgd, LinfAttack):
    """Projected gradient descent that chooses its own steps.

    The first step is two radii; later ones carry a quarter of the step before. At checkpoints a target that does not
    get on halves its step and returns to its best plane.

    There is one loss, the margin: cross-entropy or any other increasing function of one margin has a gradient of the same
    sign and the same order of planes, and so takes the same path wherever it does not vanish.

    Attributes:
        steps: Planes scored per start and level, after the start.
        random_starts: Starts at a uniform random plane of the ball, after the one at the best plane known.

    >>> ApgdLinf.from_options({"epsilon": "1/255", "steps": 100}).passes(findings=1)
    304.0
    """

    @property
    def path(self) -> ApgdPath:
        """From the best planes known, then from random planes of the ball."""
        return ApgdPath(starts=1 + self.random_starts, steps=self.steps, direction=downhill, random=drawn)

    def search(self, front: Front, level: Level) -> None:
        """From the best planes known, then from random planes of the ball."""
        del level
        follow(front, self.path)


def drawn(front: Front, start: int) -> Tensor:
    """Random changes inside the ball."""
    return front.uniform("start", start) * front.threat.radii()


def downhill(gradient: Tensor, threat: Threat) -> Tensor:
    """The sign of each pixel: the steepest direction of largest change 1."""
    del threat
    return gradient.sign()
