"""How hard a search looks: number of planes, starts, and sizes of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REACH = 2.5  # steps after the first add up to this many radii: enough to cross the ball and come back


class StepRule(StrEnum):
    """Which steps are taken.

    DECAYING: first the whole radius from the original (the FGSM plane, so that one step never beats many), then from
    the better of that and the best plane known, with steps from a quarter of the radius down to nothing.
    CONSTANT: a quarter of the radius each time, from the original: the textbook form, to compare with other libraries.
    """

    DECAYING = "decaying"
    CONSTANT = "constant"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How hard to search, and in what portions.

    Attributes:
        steps: Planes scored per start and level.
        random_starts: Starts at a random plane of the ball, after the one at the original.
        step_rule: How far the steps go.
        max_rows: Most targets in the batch at once; changes no result.
        compact_every: Steps between two compactions of the batch; changes no result.
    """

    steps: int = 1
    random_starts: int = 0
    step_rule: StepRule = StepRule.DECAYING
    max_rows: int = 256
    compact_every: int = 1

    @property
    def fractions(self) -> tuple[float, ...]:
        """Sizes of the steps as fractions of the radius."""
        return step_fractions(self.steps, self.step_rule)

    @property
    def passes_per_level(self) -> int:
        """Forward-equivalents per target and level when nothing flips; the last plane of a start needs no gradient."""
        return (1 + self.random_starts) * (3 * (self.steps - 1) + 1)


def step_fractions(steps: int, rule: StepRule) -> tuple[float, ...]:
    """Sizes of the steps as fractions of the radius.

    With few steps a quarter of the radius would not reach the edge, so they begin larger.

    >>> step_fractions(4, StepRule.CONSTANT)
    (0.25, 0.25, 0.25, 0.25)
    >>> [round(f, 3) for f in step_fractions(20, StepRule.DECAYING)][:4]
    [1.0, 0.25, 0.237, 0.224]
    """
    if rule is StepRule.CONSTANT:
        return (0.25,) * steps
    later = steps - 1
    largest = max(0.25, min(2.0, 2 * REACH / steps))
    return (1.0, *(largest * (later - step) / later for step in range(later)))
