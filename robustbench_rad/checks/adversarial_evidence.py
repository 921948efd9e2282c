"""What the rows about honesty are made of: correct calls, what was measured of them, and which attacks compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.registry import find

DIAGNOSTICS = "attack.diagnostics"
OTHER_GOALS = ("attack.clinical-goals", DIAGNOSTICS)  # their margins are no plain flips, or there are none

ADDS = 0.01  # one point
REPEATABLE = 1e-4
WHOLE_PLANE = ("display", "image")  # space and mask of an attack that may touch all that the model is shown
SAME = 1e-6  # relative: sizes are kept in float32

Mask = NDArray[np.bool_]


class State(StrEnum):
    """What a row says."""

    OK = "ok"
    INFO = "info"
    TRIPS = "trips"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one row found, for some findings and directions."""

    state: State
    measured: str


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What rows look at: one finding, in one direction or both.

    Attributes:
        context: The scores.
        finding: Which finding.
        side: Label whose correct calls are looked at; None: both.
    """

    context: JudgeContext
    finding: str
    side: float | None = None

    @property
    def right(self) -> Mask:
        """Cases whose clean call is right."""
        label, clean = self.context.label(self.finding), self.context.clean(self.finding)
        right = ((label == 1) & (clean >= 0)) | ((label == 0) & (clean < 0))
        kept: Mask = right if self.side is None else right & (label == self.side)
        return kept

    def sample(self, name: str) -> Floats:
        """A measurement of the diagnostics on the cases looked at, without those not measured."""
        values = self.context.measured(DIAGNOSTICS, name, finding=self.finding)[self.right]
        return values[~np.isnan(values)]

    def fact(self, name: str) -> float:
        """What the diagnostics say of the model; NaN where they did not run."""
        values = self.context.measured(DIAGNOSTICS, name)
        return float(np.nanmax(values)) if not np.isnan(values).all() else float("nan")

    def flipped(self, attack: str, level: Level) -> Mask:
        """Correct calls that an attack flipped."""
        margins, label = self.context.margins(attack, level.name, self.finding), self.context.label(self.finding)
        beyond = np.abs(margins) > self.noise
        flipped: Mask = self.right & np.isfinite(margins) & beyond & np.where(label == 1, margins < 0, margins >= 0)
        return flipped

    def survived(self, attack: str, level: Level) -> Mask:
        """Correct calls that an attack left standing."""
        margins, label = self.context.margins(attack, level.name, self.finding), self.context.label(self.finding)
        survived: Mask = self.right & np.isfinite(margins) & np.where(label == 1, margins >= 0, margins < 0)
        return survived

    @property
    def noise(self) -> float:
        """Largest numeric noise of a margin; 0 where it was not measured, or the model does not repeat itself."""
        noise = self.context.measured(DIAGNOSTICS, "numeric_noise", finding=self.finding)
        repeats = self.context.measured(DIAGNOSTICS, "repeat_difference", finding=self.finding)
        if np.isnan(noise).all() or np.nanmax(repeats) > REPEATABLE:
            return 0.0
        return float(np.nanmax(noise))


def follows_gradient(check: str) -> bool:
    """Whether an attack follows the gradient of each case, as the catalogue says; one it does not know is held to."""
    known = find(check)
    return check != DIAGNOSTICS and (known is None or known.gradient)


def attacks_run(context: JudgeContext) -> list[str]:
    """Attacks that were run, with levels; those of other libraries too."""
    return [id for id, levels in context.levels.items() if levels and id not in OTHER_GOALS and _is_attack(id)]


def _is_attack(check: str) -> bool:
    known = find(check)
    return check.startswith("attack.") if known is None else known.domain == "adversarial"


def kind_of(level: Level) -> str:
    """Levels of one kind can be compared; physical units are written behind those of the range."""
    return "linf" if level.unit.startswith(("of display range", "of range")) else level.unit


def pairs(
    context: JudgeContext, stronger: Sequence[str], weaker: Sequence[str]
) -> Iterator[tuple[str, Level, str, Level]]:
    """Attacks with a level each, where the first may do all that the second may."""
    for strong, weak in product(stronger, weaker):
        if not may_touch(context, strong, weak):
            continue
        for large, small in product(context.levels[strong], context.levels[weak]):
            if kind_of(large) == kind_of(small) and small.value <= large.value * (1 + SAME):
                yield strong, large, weak, small


def may_touch(context: JudgeContext, strong: str, weak: str = "") -> bool:
    """Whether an attack may touch every pixel that another may, on the same grid; without another: the display plane."""
    space, mask = context.reach.get(strong, WHOLE_PLANE)
    other_space, other_mask = context.reach.get(weak, WHOLE_PLANE)
    return space == other_space and mask in (WHOLE_PLANE[1], other_mask)


def percent(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.3g} %"


def nothing(values: Floats) -> Found | None:
    """The row of a sample that holds nothing; None where it holds something."""
    return None if len(values) else Found(state=State.NOT_MEASURED, measured="")


def trips(condition: bool, measured: str) -> Found:
    """A row that trips, or is well."""
    return Found(state=State.TRIPS if condition else State.OK, measured=measured)


def adds(extra: int, of: int) -> bool:
    """More than one point, and more than one case: a single call on the boundary is no finding."""
    return extra > 1 and extra > ADDS * of
