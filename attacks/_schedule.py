"""How far the steps of a search go."""

from __future__ import annotations

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
