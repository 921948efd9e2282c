"""Sparse changes: gradient steps with soft thresholds, inside a ball of the mean absolute change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._boxed import room, steepest
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L1Ball, Threat
from robustbench_rad.attacks._units import OF_RANGE, ladder
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

MEAN_OF_RANGE = f"mean {OF_RANGE}"
FIRST_STEP = 0.5  # of the range, for the pixel with the steepest gradient


@register(
    id="attack.elastic-net-l1",
    version=1,
    space="display",
    domain="adversarial",
    unit="mean of display range",
    reference="Chen et al. 2018, arXiv:1709.04114",
)
@dataclass(frozen=True, kw_only=True)
class ElasticNetL1(Attack):
    """Accelerated shrinkage-thresholding (FISTA) on the margin: strong changes of few pixels, none of the others.

    ``d[t+1] = S(y[t] - x - s[t] g / max|g|)`` with soft thresholding ``S`` at the value that meets the level, which is the
    projection on its ball of the mean absolute change, then the box; ``y[t+1] = x + d[t+1] + t / (t + 3) (d[t+1] - d[t])``.
    The published form weighs L1 and L2 against the margin and searches the weight; here the level takes its place, and the
    L2 part is the distance that the projection keeps small. The first plane is the exact worst one of a linear model in the
    box: pixels by falling gradient, each to the edge of the range, until the level is spent. A larger level goes on from
    the best plane of the smaller one.

    Attributes:
        levels: Mean absolute change per pixel as fractions of the range, in HU or in percent of the foreground's range:
            1/255 is one grey level everywhere, or 255 grey levels in one pixel of 255.
        steps: Planes scored per level, the first of each level aside.

    >>> ElasticNetL1.from_options({"epsilon": "0.5/255", "steps": 20}).passes(findings=1)
    64.0
    """

    threat: ClassVar[type[Threat]] = L1Ball
    flips_linear: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = tuple(
        replace(level, unit=MEAN_OF_RANGE) for level in ladder("0.1/255", "0.25/255", "0.5/255")
    )
    steps: int = 30

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a mean change as a fraction of the range, in HU or in percent of the foreground."""
        level = super().level(value)
        return replace(level, unit=MEAN_OF_RANGE) if level.unit == OF_RANGE else level

    @property
    def passes_per_level(self) -> float:
        """A gradient where the level begins and with every plane but the last."""
        return float(3 * self.steps + 1)

    def search(self, front: Front, level: Level) -> None:
        """Go to the worst plane of the linear model at the best plane known, and descend with momentum from there."""
        del level
        own, threat = front.own, front.threat
        _, gradient = front.score_and_gradient(front.live.best)
        gradient = gradient.nan_to_num()
        free = room(threat.centre, gradient, threat)
        look = threat.project(threat.centre + steepest("l1", gradient, free, threat.radius))
        own |= {"look": look, "gradient": gradient}
        for number in range(1, self.steps + 1):
            if not len(front):
                return
            _step(front, number, self.steps)
            if number % front.compact_every == 0:
                front.compact()
        front.compact()


def _step(front: Front, number: int, steps: int) -> None:
    """Score where the momentum has led to, and step on from there."""
    own = front.own
    if number == steps:
        front.score(own["look"], slope=own["gradient"].sign())
        return
    _, gradient = front.score_and_gradient(own["look"])
    own["gradient"] = gradient.nan_to_num()
    if number == 1:
        own["planes"] = own["look"]
    landed = front.threat.project(own["look"] - _stride(own["gradient"], number, steps))
    momentum = (number - 1) / (number + 2)
    own["look"] = front.threat.project(landed + momentum * (landed - own["planes"]))
    own["planes"] = landed


def _stride(gradient: Tensor, number: int, steps: int) -> Tensor:
    steepest_pixel = gradient.flatten(1).abs().amax(1).clamp_min(1e-30)
    size = FIRST_STEP * (1 - (number - 1) / steps)
    return gradient * (size / steepest_pixel).reshape(-1, *[1] * (gradient.ndim - 1))
