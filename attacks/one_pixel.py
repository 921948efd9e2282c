"""A few pixels of any value, found by differential evolution; no gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import L0Ball, Threat
from robustbench_rad.attacks._windows import boxes, round_sizes
from robustbench_rad.conditions import Batch, Level, fraction
from robustbench_rad.registry import register

DIFFERENTIAL_WEIGHT = 0.5  # as published
RENEWED = 0.1  # share of the children with a new pixel, so that a population never dies of agreement


def pixel_level(value: float | str) -> Level:
    """Make a level from a number of pixels.

    >>> str(pixel_level(3))
    '3 pixels'
    """
    return Level(name=str(value), value=fraction(value), unit="pixels")


@register(
    id="attack.few-pixel-evolution",
    version=1,
    space="display",
    domain="adversarial",
    unit="pixels",
    reference="Su, Vargas, Sakurai 2019, doi:10.1109/TEVC.2019.2890858, arXiv:1710.08864",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class FewPixelEvolution(Attack):
    """Differential evolution of ``k`` pixels, place and grey value: whether the call hangs on a speck.

    An individual is ``k`` times a place and a value in [0, 1]. The child of individual ``i`` is
    ``p[a] + (p[b] - p[c]) / 2`` with three others drawn at random, no crossover; a place outside the image is drawn anew, a
    value is clipped. It takes its parent's seat if the margin is lower. One child in ten is instead its parent with one pixel
    drawn anew. New draws have a uniform place and a value of 0 or 1. The populations of all targets are scored together.

    A larger level keeps the pixels found by the smaller one in its first population.

    Attributes:
        levels: Numbers of pixels that may change, each by any amount.
        evaluations: Planes scored per level, the first population among them.
        population: Individuals.

    >>> FewPixelEvolution.from_options({"levels": [1, 3]}).passes(findings=1)
    803.0
    """

    threat: ClassVar[type[Threat]] = L0Ball
    flips_linear: ClassVar[float] = 0.5

    levels: tuple[Level, ...] = (pixel_level(1), pixel_level(3), pixel_level(5))
    evaluations: int = 400
    population: int = 20

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name, least in (("evaluations", 1), ("population", 4)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")

    def check_ladder(self) -> None:
        """Refuse what is not a number of pixels.

        Raises:
            ValueError: Says what was expected.
        """
        counts = [level.value for level in self.levels]
        if not all(count >= 1 and float(count).is_integer() for count in counts):
            raise ValueError(f"levels: expected whole numbers of pixels of at least 1, got {counts}")
        super().check_ladder()

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number of pixels."""
        return pixel_level(value)

    @property
    def passes_per_level(self) -> float:
        """One forward per evaluation."""
        return float(self.evaluations)

    @property
    def planes_at_once(self) -> int:
        """One plane per individual."""
        return min(self.population, self.evaluations)

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """The number of pixels ``(N,)``."""
        return torch.full((len(batch),), level.value, device=batch.device)

    def search(self, front: Front, level: Level) -> None:
        """A first population, then generation after generation."""
        pixels = min(int(level.value), front.live.centre[0].numel())
        generations = round_sizes(self.evaluations, self.population)
        _settle(front, generations[0], pixels)
        front.compact()
        for number, count in enumerate(generations[1:], start=1):
            if not len(front):
                return
            _evolve(front, number, count)
            if number % front.compact_every == 0:
                front.compact()
        front.compact()


def _settle(front: Front, count: int, pixels: int) -> None:
    axes = front.live.centre.ndim - 2
    people = anew(front.uniform("people", shape=(count, pixels, axes + 1)))
    first, extents = boxes(front.live.centre, front.threat.allowed)
    front.own = {"people": people, "first": first, "extents": extents}
    people[:, 0] = torch.where(_changed(front)[:, None, None], _known(front, pixels), people[:, 0])
    front.own["health"] = _health(front, people)


def _evolve(front: Front, number: int, count: int) -> None:
    people, health = front.own["people"], front.own["health"]
    many, pixels, genes = people.shape[1:]
    draws = front.uniform("generation", number, shape=(count, many + 2 + pixels * genes))
    fresh = anew(draws[..., many + 2 :].reshape(len(people), count, pixels, genes))
    children = mutated(people, draws[..., :many], fresh)
    renewed = (draws[..., many] + 1) / 2 < RENEWED
    children = torch.where(renewed[..., None, None], touched(people[:, :count], draws[..., many + 1], fresh), children)
    found = _health(front, children)
    better = found < health[:, :count]
    people[:, :count] = torch.where(better[..., None, None], children, people[:, :count])
    health[:, :count] = torch.where(better, found, health[:, :count])


def anew(draws: Tensor) -> Tensor:
    """Individuals from draws ``(..., d + 1)`` in [-1, 1]: uniform places in [0, 1], values of 0 or 1."""
    return torch.cat([(draws[..., :-1] + 1) / 2, (draws[..., -1:] > 0).to(draws.dtype)], -1)


def mutated(people: Tensor, draws: Tensor, fresh: Tensor) -> Tensor:
    """Children of the first C of P individuals: one other plus half the difference of two others.

    Args:
        people: ``(L, P, k, d + 1)`` places in [0, 1], then values.
        draws: ``(L, C, P)``: the three others with the lowest draws are taken.
        fresh: ``(L, C, k, d + 1)`` whose places are taken where a child's place lies outside of [0, 1].

    Returns:
        ``(L, C, k, d + 1)``.
    """
    count = draws.shape[1]
    if people.shape[1] < 4:
        return fresh
    own = torch.arange(count, device=draws.device)[:, None] == torch.arange(people.shape[1], device=draws.device)
    others = draws.masked_fill(own, math.inf).argsort(dim=-1)[..., :3]
    rows = torch.arange(len(people), device=draws.device)[:, None]
    one, two, three = (people[rows, others[..., which]] for which in range(3))
    child = one + DIFFERENTIAL_WEIGHT * (two - three)
    place, value = child[..., :-1], child[..., -1:]
    place = torch.where((place < 0) | (place > 1), fresh[..., :-1], place)
    return torch.cat([place, value.clamp(0, 1)], -1)


def touched(people: Tensor, draws: Tensor, fresh: Tensor) -> Tensor:
    """Individuals ``(L, C, k, d + 1)`` with one pixel of each, by draws ``(L, C)`` in [-1, 1], from ``fresh``."""
    pixels = people.shape[2]
    which = ((draws + 1) / 2 * pixels).floor().clamp(max=pixels - 1)
    return torch.where((torch.arange(pixels, device=draws.device) == which[..., None])[..., None], fresh, people)


def _changed(front: Front) -> Tensor:
    return (front.live.best != front.live.centre).flatten(1).any(1)


def _known(front: Front, pixels: int) -> Tensor:
    """The changed pixels of the best planes as individuals ``(L, k, d + 1)``, filled up with unchanged ones."""
    best, sizes = front.live.best.flatten(1), front.live.centre.shape[2:]
    change = (best - front.live.centre.flatten(1)).abs()
    index = change.argsort(dim=1, descending=True, stable=True)[:, :pixels]
    place = torch.stack(torch.unravel_index(index, sizes), -1)
    share = (place - front.own["first"][:, None] + 0.5) / front.own["extents"][:, None]
    return torch.cat([share, best.gather(1, index)[..., None]], -1)


def _health(front: Front, people: Tensor) -> Tensor:
    health = front.score_candidates(planes_of(people, front))
    return torch.where(health.isfinite(), health, math.inf)


def planes_of(people: Tensor, front: Front) -> Tensor:
    """The planes ``(L, M, 1, ...)`` of individuals ``(L, M, k, d + 1)``; of pixels at one place the last counts."""
    centre, own = front.live.centre, front.own
    extents, sizes = own["extents"][:, None, None], centre.shape[2:]
    place = torch.minimum((people[..., :-1] * extents).floor().long(), extents - 1) + own["first"][:, None, None]
    index = place[..., 0]
    for axis in range(1, len(sizes)):
        index = index * sizes[axis] + place[..., axis]
    planes = centre.flatten(1)[:, None].repeat(1, people.shape[1], 1)
    for pixel in range(people.shape[2]):  # one after the other: scattering to one place twice has no defined winner
        planes.scatter_(2, index[..., pixel, None], people[..., pixel, -1:])
    planes = planes.reshape(*people.shape[:2], *centre.shape[1:])
    return (
        planes if front.threat.allowed is None else torch.where(front.threat.allowed[:, None], planes, centre[:, None])
    )
