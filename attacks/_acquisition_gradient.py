"""Following the gradient of acquisition parameters inside their envelope, every case by itself.

From the worst combination known of a finding a case goes down the slope of its margin: at first as far as the envelope, half as
far whenever that is no worse. A gradient costs as much as three images scored, so it is used until a step succeeds or three
have failed; then the next finding has its turn, or the next of the best points of the even filling. Coordinates of shifts
without a slope stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_rad.attacks._acquisition import FIRST_STEP, GRADIENT, LAST_STEP, Search
from robustbench_rad.attacks._acquisition_axis import Axis, Point

TRIES = 3  # steps at one gradient
STARTS = 2
NUDGE = 0.05  # of the envelope, off the untouched image, where many slopes are infinite or none
FULL = 0.03  # share of the steepest slope from which a coordinate goes the whole step


def search_level(search: Search, share: float, evaluations: int, *, gradient: bool = True) -> None:
    """Spend the passes of one level.

    Args:
        search: Where the search stands; what a smaller envelope has shown is kept.
        share: Of the envelope, from the untouched image to the ends.
        evaluations: Passes of each case: an image scored is one, with its gradient three.
        gradient: Whether to follow the gradient of the shifts that have one.
    """
    rows = search.begin(share, (evaluations + 1) // 2)
    if gradient and any(axis.continuous for axis in search.axes):
        left = evaluations // 2
        held = any(not axis.continuous for axis in search.axes)
        follow(search, rows, share, evaluations - left // (2 if held else 4))
    first = {row: int(search.spent[row]) for row in rows}
    while rows := [row for row in rows if search.spent[row] < evaluations]:
        turns = [int(search.spent[row]) - first[row] for row in rows]
        ends = [max(1, evaluations - first[row] - 1) for row in rows]
        steps = [
            share * FIRST_STEP * (LAST_STEP / FIRST_STEP) ** (turn / end) for turn, end in zip(turns, ends, strict=True)
        ]
        search.try_steps(rows, turns, steps, share)


@dataclass(kw_only=True, eq=False)
class Path:
    """Where one case is going for one of its findings.

    Attributes:
        starts: Points still to be started from, best last.
        place: Where it stands; None at first, and when it has come to rest.
        health: Of the finding there.
        way: ``(A,)`` the way down, at most 1 along each coordinate; None before the gradient is known.
        followed: ``(A,)`` coordinates that have a slope.
        step: Length of the next step, as a share of the envelope.
        failed: Steps that have failed since the gradient was taken.
    """

    starts: list[Point]
    place: Point | None = None
    health: float = 0.0
    way: Tensor | None = None
    followed: Tensor | None = None
    step: float = 1.0
    failed: int = 0

    def stand(self) -> Point | None:
        """Where the next gradient is taken or the next step is made from; None when there is nowhere left."""
        if self.place is None and self.starts:
            self.place, self.way, self.step, self.failed = self.starts.pop(), None, 1.0, 0
        return self.place

    def arrived(self, point: Point, health: float) -> None:
        """Take the outcome of a step: go on from there when it was worse, else step half as far, at last give up."""
        if health < self.health:
            self.place, self.health, self.way, self.failed = point, health, None, 0
            return
        self.step, self.failed = self.step / 2.0, self.failed + 1
        if self.failed == TRIES:
            self.place = None


def follow(search: Search, rows: Sequence[int], share: float, until: int) -> None:
    """Follow gradients until each of the cases has spent ``until`` passes at this level, or has nowhere to go."""
    walks = {row: _paths(search, row) for row in rows}
    while walks:
        gradients: list[tuple[int, int, Path, Point]] = []
        steps: list[tuple[int, int, Path, Point]] = []
        for row in list(walks):
            chosen = _next(search, walks[row], row, until)
            if chosen is None:
                del walks[row]
                continue
            finding, path, place = chosen
            if path.way is None:
                gradients.append((row, finding, path, nudged(search.axes, place, share)))
            else:
                aim = [c + path.step * share * float(move) for c, move in zip(place, path.way, strict=True)]
                steps.append((row, finding, path, search.inside(aim, share)))
        _take_gradients(search, gradients, share)
        _take_steps(search, steps)


def _paths(search: Search, row: int) -> dict[int, Path]:
    """The paths of a case by finding: calls that are nearest to being wrong first."""
    health, wrong = search.health[row].tolist(), search.wrong()[row].tolist()
    known = [k for k, side in enumerate(search.side[row].tolist()) if not math.isnan(side)]
    order = sorted(known, key=lambda k: (wrong[k], abs(health[k])))
    paths = {}
    for finding in order:
        tried = sorted(search.starts, key=lambda start: float(start[1][row, finding]), reverse=True)
        best: Point = tuple(search.place[row, finding].tolist())
        paths[finding] = Path(starts=[*[point for point, _ in tried if point != best][1 - STARTS :], best])
    return paths


def _next(search: Search, paths: dict[int, Path], row: int, until: int) -> tuple[int, Path, Point] | None:
    """The finding whose turn it is, its path, and where that stands; None when no passes or no paths are left."""
    left = until - int(search.spent[row])
    under_way = [finding for finding, path in paths.items() if path.place is not None and path.way is not None]
    for finding in [*under_way, *paths]:
        path = paths.pop(finding)
        place = path.stand()
        if place is not None:
            paths[finding] = path  # last: the next gradient is that of another finding
            return (finding, path, place) if left >= (GRADIENT + 1 if path.way is None else 1) else None
    return None


def _take_gradients(search: Search, asked: Sequence[tuple[int, int, Path, Point]], share: float) -> None:
    if not asked:
        return
    rows, findings, paths, places = (list(column) for column in zip(*asked, strict=True))
    health, slopes = search.score_and_slopes(rows, places, findings)
    boxes = [(share * low, share * high) for low, high in (axis.box for axis in search.axes)]
    for path, place, there, slope in zip(paths, places, health.tolist(), slopes, strict=True):
        path.place, path.health, path.failed = place, there, 0
        path.way, path.followed = downhill(slope, place, boxes), ~slope.isnan()
        if not path.way.any() or math.isnan(there):
            path.place = None


def _take_steps(search: Search, asked: Sequence[tuple[int, int, Path, Point]]) -> None:
    if not asked:
        return
    rows, findings, paths, points = (list(column) for column in zip(*asked, strict=True))
    followed = torch.stack([path.followed for path in paths])
    health = search.score(rows, points, followed).cpu()
    for path, point, there, finding in zip(paths, points, health.tolist(), findings, strict=True):
        path.arrived(point, there[finding])


def nudged(axes: Sequence[Axis], place: Point, share: float) -> Point:
    """A little off the untouched image along the continuous coordinates that stand there."""
    sides = [(-1.0 if axis.box[0] < 0.0 else 1.0) * NUDGE * share for axis in axes]
    return tuple(
        side if axis.continuous and abs(c) < NUDGE * share else c
        for axis, c, side in zip(axes, place, sides, strict=True)
    )


def downhill(slopes: Tensor, place: Point, boxes: Sequence[tuple[float, float]]) -> Tensor:
    """The way down ``(A,)``: steep coordinates by a whole step, flat ones by less, none out of the boxes.

    >>> downhill(torch.tensor([1.0, -0.015, 5.0]), (0.0, 0.0, -1.0), [(-1.0, 1.0)] * 3).tolist()
    [-1.0, 0.5, 0.0]
    """
    largest = torch.finfo(torch.float32).max
    down = -slopes.nan_to_num(0.0, posinf=largest, neginf=-largest)
    low, high = torch.tensor(boxes, dtype=down.dtype).T
    at = torch.tensor(place, dtype=down.dtype)
    down = torch.where(((down < 0) & (at <= low)) | ((down > 0) & (at >= high)), 0.0, down)
    steepest = down.abs().max()
    if not steepest > 0:
        return torch.zeros_like(down)
    return (down / steepest / FULL).clamp(-1.0, 1.0)
