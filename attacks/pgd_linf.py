"""Many small steps down the sign of the margin's gradient, inside an L-infinity ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._path import follow
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._walk import LinfWalk
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.pgd-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Madry et al. 2018, arXiv:1706.06083",
)
@dataclass(frozen=True, kw_only=True)
class PgdLinf(LinfAttack):
    """Projected gradient descent on the margin.

    ``x[t+1] = clip(x[t] - s[t] ε d sign(∂m/∂x))`` with ``d`` = 1 to hide a finding and -1 to create it, clipped to the
    ball of radius ``ε`` around the original and to [0, 1]; the model is asked about the plane rounded to the stored bit
    depth. The best plane of the whole path counts, not the last. A larger level goes on from the best plane of the
    smaller one.

    Attributes:
        steps: Planes scored per start and level.
        random_starts: Starts at a uniform random plane of the ball, after the one at the original.
        step_rule: ``decaying`` (one whole radius, then a quarter of it down to nothing) or ``constant`` (a quarter).

    >>> PgdLinf.from_options({"epsilon": "1/255", "steps": 20, "random_starts": 0}).passes(findings=1)
    61.0
    """

    flips_linear: ClassVar[float] = 1.0

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

    @property
    def passes_per_level(self) -> float:
        """A gradient with every plane but the last of a start."""
        return float((1 + self.random_starts) * (3 * (self.steps - 1) + 1))

    @property
    def path(self) -> LinfWalk:
        """Walks from the originals, then from random planes of the ball."""
        return LinfWalk(
            starts=1 + self.random_starts,
            fractions=step_fractions(self.steps, self.step_rule),
            leap=self.step_rule is StepRule.DECAYING,
        )

    def search(self, front: Front, level: Level) -> None:
        """Walk from the originals, then from random planes of the ball."""
        del level
        follow(front, self.path)
