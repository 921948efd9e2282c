"""Random windows pushed to the edge of an L-infinity ball, kept when they help; no gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._search import Front, replace_rows
from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.attacks._windows import boxes, round_sizes, window_sides, windows
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

PUBLISHED_QUERIES = 10_000
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the published queries


@register(
    id="attack.square-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Andriushchenko, Croce, Flammarion, Hein 2020, arXiv:1912.00049",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class SquareLinf(LinfAttack):
    """Random search without gradients: windows of the image go to one edge of the ball, and stay if the margin falls.

    Begins at stripes of ``x ± ε`` along the last axis. Each query sets all pixels of one window to ``x + ε`` or to
    ``x - ε`` (clipped to [0, 1]), whichever is drawn, or the other where the drawn one would change nothing. Windows are
    squares, cubes in a volume; a side that the image is too short for goes to the other axes, so that the window keeps its
    share ``p`` of the pixels. ``p`` is halved after 0.1, 0.5, 2, 5, 10, 20, 40, 60 and 80 % of the queries. Windows lie
    anywhere inside the image, its last row and column included, or inside the box around the pixels that may be touched.

    Several windows are tried per round, all on the same plane, and the best of them is kept: as many model queries, in
    fewer and fuller batches. A larger level begins at the better of new stripes and the best change of the smaller one,
    stretched to the new radius.

    Attributes:
        queries: Planes scored per level, the stripes among them (5000 in the literature).
        candidates: Windows tried per round; 1 is the published search.
        share: ``p`` at the beginning.

    >>> SquareLinf.from_options({"epsilon": "1/255", "queries": 500}).passes(findings=1)
    503.0
    """

    flips_linear: ClassVar[float] = 0.5

    queries: int = 500
    candidates: int = 4
    share: float = 0.8

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name in ("queries", "candidates"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise ValueError(f"share: expected a part of the image above 0 and up to 1, got {self.share!r}")

    @property
    def passes_per_level(self) -> float:
        """One forward per query."""
        return float(self.queries)

    @property
    def planes_at_once(self) -> int:
        """One plane per candidate."""
        return self.candidates

    def search(self, front: Front, level: Level) -> None:
        """Stripes, then windows of falling size."""
        del level
        rounds = round_sizes(self.queries, self.candidates)
        begin_at_stripes(front, rounds[0])
        dimensions = front.live.centre.ndim - 2
        front.own["draws"] = front.uniform("windows", shape=(len(rounds), self.candidates, dimensions + 1))
        for number, (count, asked) in enumerate(zip(rounds[1:], accumulate(rounds), strict=False), start=1):
            if number % front.compact_every == 0:
                front.compact()
            if not len(front):
                return
            share = window_share(self.share, asked, self.queries)
            try_windows(front, front.own["draws"][:, number, :count], share)
        front.compact()


def window_share(first: float, asked: int, queries: int) -> float:
    """Share of the pixels a window has after ``asked`` of ``queries`` queries.

    >>> [window_share(0.8, asked, 500) for asked in (0, 3, 499)]
    [0.8, 0.2, 0.0015625]
    """
    published = asked * PUBLISHED_QUERIES / queries
    return float(first / 2 ** sum(published > limit for limit in HALVED_AFTER))


def begin_at_stripes(front: Front, count: int) -> None:
    """Stand at the best of ``count`` striped planes, or of the best change known stretched to the radius."""
    assert isinstance(front.threat, LinfBall)
    low, high = front.threat.bounds()
    centre, axes = front.live.centre, front.live.centre.ndim - 2
    stripes = front.uniform("stripes", shape=(count, 1, *[1] * (axes - 1), centre.shape[-1]))
    planes = torch.where(stripes > 0, high[:, None], low[:, None])
    change = front.live.best - centre
    known = (change != 0).flatten(1).any(1)
    stretched = torch.where(change > 0, high, torch.where(change < 0, low, centre))
    replace_rows(planes[:, 0], known, stretched)
    first, extents = boxes(centre, front.threat.allowed)
    front.own = {"low": low, "high": high, "planes": centre.clone(), "first": first, "extents": extents}
    front.own["health"] = torch.full_like(front.live.health, torch.inf)
    _keep_best(front, planes)


def try_windows(front: Front, draws: Tensor, share: float) -> None:
    """Set one window per draw to an edge of the ball, and keep the best plane if it is better than the present one.

    Args:
        front: The targets; its ``own`` is made by :func:`begin_at_stripes`.
        draws: ``(L, M, d + 1)`` in [-1, 1]: place along each axis, and which edge.
        share: Of the pixels, for the size of the windows.
    """
    own = front.own
    planes, low, high = (own[name][:, None] for name in ("planes", "low", "high"))
    window = windows(
        draws[..., :-1], window_sides(share, own["extents"]), own["first"], own["extents"], planes.shape[3:]
    )
    rises, falls = ((window & side).flatten(2).any(2) for side in (planes < high, planes > low))
    up = torch.where(draws[..., -1] > 0, rises, ~falls)
    edge = torch.where(up.reshape(*up.shape, *[1] * (planes.ndim - 2)), high, low)
    _keep_best(front, torch.where(window, edge, planes))


def _keep_best(front: Front, candidates: Tensor) -> None:
    health = front.score_candidates(candidates)
    lowest, place = torch.where(health.isfinite(), health, math.inf).min(1)
    better = lowest < front.own["health"]
    chosen = candidates[torch.arange(len(candidates), device=place.device), place]
    replace_rows(front.own["planes"], better, chosen)
    front.own["health"] = torch.where(better, lowest, front.own["health"])
