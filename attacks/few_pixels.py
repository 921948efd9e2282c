"""A few pixels taken to the edge of the range, chosen by gradient and then by what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._boxed import room
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L0Ball, Threat
from robustbench_rad.attacks.one_pixel import pixel_level
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.few-pixels",
    version=1,
    space="display",
    domain="adversarial",
    unit="pixels",
    reference="Papernot et al. 2016, doi:10.1109/EuroSP.2016.36, arXiv:1511.07528",
)
@dataclass(frozen=True, kw_only=True)
class FewPixels(Attack):
    """Greedy choice of ``k`` pixels to be set to black or white: whether a handful of specks changes the call.

    Pixels are ranked by ``|g| room``, what the gradient promises when a pixel goes to the edge of the range against it. The
    new pixels of a level are taken in a few rounds, each with a fresh gradient; where a round takes fewer than
    ``candidates``, the first of the ranking are tried one by one, and those that lower the margin most are taken. Linear
    models are solved exactly. A larger level goes on from the best plane of the smaller one.

    Attributes:
        levels: Numbers of pixels that may change, each by any amount.
        rounds: Gradients per level.
        candidates: Pixels tried one by one per round; 1: the gradient decides alone.

    >>> FewPixels.from_options({"levels": [1, 5]}).passes(findings=1)
    60.0
    """

    threat: ClassVar[type[Threat]] = L0Ball
    flips_linear: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = (pixel_level(1), pixel_level(5), pixel_level(20), pixel_level(100))
    rounds: int = 4
    candidates: int = 8

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name in ("rounds", "candidates"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")

    def check_ladder(self) -> None:
        """Refuse numbers of pixels that are not whole.

        Raises:
            ValueError: Says what was expected.
        """
        super().check_ladder()
        if any(level.unit != "pixels" or level.value != int(level.value) for level in self.levels):
            raise ValueError(f"levels: expected whole numbers of pixels, got {[str(level) for level in self.levels]}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number of pixels."""
        return pixel_level(value)

    @property
    def passes_per_level(self) -> float:
        """On average over the ladder."""
        return sum(self._passes(level) for level in self.levels) / len(self.levels)

    def _passes(self, level: Level) -> float:
        rounds, trial = self._plan(level)
        return rounds * (3.0 + trial) + 1

    def _plan(self, level: Level) -> tuple[int, int]:
        """Rounds at a level, and how many pixels each tries one by one."""
        before = max((other.value for other in self.levels if other.value < level.value), default=0.0)
        new = int(level.value - before)
        rounds = min(self.rounds, new)
        return rounds, self.candidates if self.candidates > 1 and -(-new // rounds) < self.candidates else 0

    def search(self, front: Front, level: Level) -> None:
        """Add pixels to the best plane known, round by round."""
        rounds, trial = self._plan(level)
        front.own["planes"] = front.live.best.clone()
        for left in range(rounds, 0, -1):
            _add_pixels(front, left, trial)
            front.compact()
            if not len(front):
                return
        front.score(front.own["planes"])
        front.compact()


def _add_pixels(front: Front, rounds_left: int, trial: int) -> None:
    """Take the share of a round of the pixels that are still free."""
    own, threat = front.own, front.threat
    _, gradient = front.score_and_gradient(own["planes"])
    gradient = gradient.nan_to_num()
    planes = own["planes"].flatten(1)
    changed = planes != threat.centre.flatten(1)
    free = room(own["planes"], gradient, threat).flatten(1) * ~changed
    edge = planes - gradient.flatten(1).sign() * free
    gain = (gradient.flatten(1).abs() * free).masked_fill(changed, -1.0)
    left = (threat.radius - changed.sum(1)).clamp_min(0.0)
    share = torch.ceil(left / rounds_left)
    order = gain.argsort(dim=1, descending=True, stable=True)
    if trial:
        order = _tried(front, order, planes, edge, trial, share)
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    taken = (place < share[:, None]) & ~changed
    own["planes"] = torch.where(taken, edge, planes).reshape(own["planes"].shape)


def _tried(front: Front, order: Tensor, planes: Tensor, edge: Tensor, trial: int, share: Tensor) -> Tensor:
    """Score the first pixels of the order one by one, and put those that lower the health most first."""
    first = order[:, :trial]
    healths = []
    for number in range(first.shape[1]):
        pixel = first[:, number : number + 1]
        room_left = share[:, None] > 0
        tried = torch.where(room_left, edge.gather(1, pixel), planes.gather(1, pixel))
        health = front.score(planes.scatter(1, pixel, tried).reshape(front.threat.centre.shape))
        healths.append(torch.where(health.isfinite(), health, torch.inf))
    by_health = first.gather(1, torch.stack(healths, 1).argsort(dim=1, stable=True))
    enough = (share <= first.shape[1])[:, None]
    return torch.cat([torch.where(enough, by_health, first), order[:, trial:]], 1)
