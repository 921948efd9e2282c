"""Fast adaptive boundary attack: closed-form steps to the linearised decision boundary, drawn towards the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._boxed import nearest, room
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._minimal import MinimalAttack, keep_account, look, tighten
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import Threat
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

OVERSHOOT = 1.05  # η
MOST_BIAS = 0.1  # α_max
BACKWARD = 0.9  # β
TINY = 1e-12
TIGHTENING = 6  # forward passes at the end
SEARCHED = 0.1  # share of the size of the best change that they search


@register(
    id="attack.fab-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Croce, Hein 2020, arXiv:1907.02044",
)
@dataclass(frozen=True, kw_only=True)
class FabLinf(MinimalAttack, LinfAttack):
    """The smallest change of each case that flips its call, by projections on the linearised boundary.

    A finding has one boundary, margin 0. At ``x[t]`` it is replaced by the hyperplane of its gradient, and the nearest points
    on it inside the box to ``x[t]`` and to the original are found in closed form by Newton's method on a concave piecewise
    linear function: no sorting of pixels. With changes ``d`` and ``d0`` to them, ``x[t+1] = (1 - α)(x[t] + η d) + α (x[0]
    + η d0)`` and ``α = min(|d| / (|d| + |d0|), 0.1)``. Where the call is wrong, the next step begins nearer to the original:
    ``x[0] + 0.9 (x - x[0])``. One forward and one backward pass per step; free of step sizes, so it is a check on the
    attacks that have them. Planes stay inside the largest level.

    Gives ``minimal_epsilon`` for each case and finding in the unit of the levels; see ``attack.minimal-norm``.

    Attributes:
        steps: Planes scored.

    >>> FabLinf.from_options({"epsilon": "4/255", "steps": 100}).passes(findings=1)
    310.0
    """

    flips_linear: ClassVar[float] = 1.0

    steps: int = 100

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")

    @property
    def passes_per_level(self) -> float:
        """A gradient at the original and with every plane but the last, and the passes that tighten the result."""
        return float(3 * self.steps + 1 + TIGHTENING)

    def search(self, front: Front, level: Level) -> None:
        """Step to the boundary and back towards the original, then clip the change to ever smaller radii."""
        del level
        keep_account(front)
        front.own["point"] = front.threat.centre
        _step(front, *look(front, front.own["point"]))
        for number in range(1, self.steps + 1):
            if not len(front):
                return
            last = number == self.steps
            health, gradient = look(front, front.own["point"], gradient=not last)
            if not last:
                _step(front, health, gradient)
            if number % front.compact_every == 0:
                front.compact()
        tighten(front, front.own["smallest"] * (1 - SEARCHED), TIGHTENING)
        front.compact()


def _step(front: Front, health: Tensor, gradient: Tensor) -> None:
    own, threat, original = front.own, front.threat, front.threat.centre
    wrong = front.live.targets.wrong(health).reshape(threat.radii().shape)
    point = torch.where(wrong, original + BACKWARD * (own["point"] - original), own["point"])
    to_boundary = _to_boundary(threat, point, own["point"], health, gradient)
    from_original = _to_boundary(threat, original, own["point"], health, gradient)
    near, far = (threat.size(change) for change in (to_boundary, from_original))
    bias = (near / (near + far).clamp_min(TINY)).clamp(max=MOST_BIAS).reshape(threat.radii().shape)
    own["point"] = threat.project((point + OVERSHOOT * to_boundary).lerp(original + OVERSHOOT * from_original, bias))


def _to_boundary(threat: Threat, planes: Tensor, at: Tensor, health: Tensor, gradient: Tensor) -> Tensor:
    """The smallest change from ``planes`` to the hyperplane that the health at another place and its gradient define."""
    here = health + (gradient * (planes - at)).flatten(1).sum(1)
    return nearest("linf", gradient, room(planes, gradient, threat), here)
