"""A small square in which anything may stand, where it hurts most, beside the lesion and not on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._envelope import keep_notes
from robustbench_rad.attacks._mask import beside_lesions
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import Anything, Threat
from robustbench_rad.attacks._windows import window_sides
from robustbench_rad.conditions import Batch, Level, fraction
from robustbench_rad.glyphs import glyphs
from robustbench_rad.registry import register

OF_PIXELS = "% of the pixels"
_PERCENT = re.compile(r"^\s*([0-9./eE+-]+)\s*%?\s*$")
MARKER = "R"
AXES = {2: ("row", "column"), 3: ("slice", "row", "column")}


def percents(*values: float | str) -> tuple[Level, ...]:
    """Levels in percent of the pixels, from numbers or texts such as ``"2 %"``.

    >>> [str(level) for level in percents(1, "2 %")]
    ['1 % of the pixels', '2 % of the pixels']
    """
    levels = []
    for value in values:
        found = _PERCENT.match(str(value))
        if found is None:
            raise ValueError(f'levels: expected percent of the pixels such as "2 %", got {value!r}')
        levels.append(Level(name=found[1], value=fraction(found[1]), unit=OF_PIXELS))
    return tuple(levels)


@register(
    id="attack.patch",
    version=1,
    space="display",
    domain="adversarial",
    unit="% of the pixels",
    reference="Brown et al. 2017, arXiv:1712.09665; Karmon, Zoran, Goldberg 2018, arXiv:1801.02608",
)
@dataclass(frozen=True, kw_only=True)
class Patch(Attack):
    """A square of the image (a cube of a volume) with learned pixels, at the place where it hurts most.

    With the gradient ``g`` at the original and ``room`` the distance of a pixel to the end of the range that ``g`` points
    away from, the best places are the windows of largest ``sum |g| room`` that do not overlap. Each is filled with the ends
    of the range; at the place where that is worst, the pixels then go down the sign of the gradient. On a linear model the
    first place and filling are the worst of all windows. Pixels of a known lesion and its rim are never covered, so that
    the patch cannot erase the disease itself; other masks narrow it further.

    Two controls were not searched for: ``control_margin`` and ``control_flip`` are of noise of the same size at the best
    place by the gradient; ``marker_margin`` and ``marker_flip`` of a plain white letter R of the same size (in a volume, in
    every slice of the cube) at the worst of the same places. A model that the letter turns as well reads markers, and the
    patch shows nothing of its own.
    ``patch_row_px``, ``patch_column_px`` (and ``patch_slice_px``) are of the first pixel of the worst patch, ``patch_share``
    is the share of the pixels that it may change.

    Attributes:
        levels: Size in percent of the pixels.
        places: Places tried.
        steps: Planes scored at the best place.

    >>> Patch.from_options({"levels": ["1 %", "5 %"]}).passes(findings=1)
    1235.0
    """

    threat: ClassVar[type[Threat]] = Anything
    flips_linear: ClassVar[float] = 1.0
    notes: ClassVar[tuple[str, ...]] = ("patch_slice_px", "patch_row_px", "patch_column_px", "patch_share")
    controls: ClassVar[tuple[str, ...]] = ("control_margin", "control_flip", "marker_margin", "marker_flip")

    levels: tuple[Level, ...] = percents(1, 2, 5)
    places: int = 4
    steps: int = 200

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name in ("places", "steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from percent of the pixels."""
        return percents(value)[0]

    def check_ladder(self) -> None:
        """Refuse sizes beyond half of the image.

        Raises:
            ValueError: Says what was expected.
        """
        values = [level.value for level in self.levels]
        if not all(0 < value <= 50 for value in values):
            raise ValueError(f"levels: expected percent of the pixels above 0 and up to 50, got {values}")
        super().check_ladder()

    @property
    def passes_per_level(self) -> float:
        """Gradient, noise and a letter at each place for the controls; gradient, places, gradient there, and the steps."""
        return float(4 + self.places + 3 + self.places + 3 + 3 * (self.steps - 1) + 1)

    @property
    def planes_at_once(self) -> int:
        """The places."""
        return 2 * self.places + 2

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """Share of the pixels, ``(N,)``; 0 where it is less than one pixel."""
        share = level.value / 100
        enough = share * batch.images[0].numel() >= 1 if len(batch) else True
        return torch.full((len(batch),), share if enough else 0.0, device=batch.device)

    def why_none(self, level: Level, batch: Batch) -> str:
        """A patch needs a pixel."""
        return f"{level} is less than one of {batch.images[0].numel()} pixels"

    def touchable(self, batch: Batch) -> tuple[Tensor | None, str]:
        """What the mask allows, without known lesions and their rim."""
        return beside_lesions(self.mask, batch)

    def control(self, front: Front, level: Level) -> Mapping[str, Tensor]:
        """Uniform noise at the best place by the gradient; a letter at the worst of the places."""
        del level
        windows, starts, _ = self._windows(front, self.places)
        noise, centre = (front.uniform("control") + 1) / 2, front.live.centre
        by_noise = front.score(torch.where(windows[:, 0], noise, centre))
        opacity = letters(windows, starts, self._sides(front))
        lettered = front.score_candidates(centre[:, None] + opacity * (1 - centre[:, None]))
        by_letter = torch.where(lettered.isfinite(), lettered, torch.inf).amin(1)
        targets = front.live.targets
        assert isinstance(targets, Targets)
        return {
            f"{name}_{what}": value
            for name, health in (("control", by_noise), ("marker", by_letter))
            for what, value in (
                ("margin", health * targets.side),
                ("flip", targets.wrong(health).to(health.dtype)),
            )
        }

    def search(self, front: Front, level: Level) -> None:
        """Fill the best places, then learn the pixels of the best of them."""
        del level
        windows, starts, ends = self._windows(front, self.places)
        before = front.live.health.clone()
        health = front.score_candidates(torch.where(windows, ends[:, None], front.live.centre[:, None]))
        place = torch.where(health.isfinite(), health, torch.inf).argmin(1)
        at = (torch.arange(len(front), device=place.device), place)
        window = windows[at]
        front.own = {"window": window, "ends": ends, "start": starts[at].float()}
        front.own["planes"] = torch.where(window, ends, front.live.centre)
        keep_notes(front, before, _describe(front))
        front.compact()
        self._learn(front)

    def _learn(self, front: Front) -> None:
        """Down the sign of the gradient, inside the windows."""
        fractions = step_fractions(self.steps + 1, StepRule.DECAYING)[1:]
        for number, size in enumerate(fractions, start=1):
            if not len(front):
                return
            before = front.live.health.clone()
            _, gradient = front.score_and_gradient(front.own["planes"])
            keep_notes(front, before, _describe(front))
            own = front.own
            ahead = (own["planes"] - size * gradient.sign().nan_to_num(nan=0.0)).clamp(0, 1)
            own["planes"] = torch.where(own["window"], ahead, own["planes"])
            if number % front.compact_every == 0:
                front.compact()
        if len(front):
            before = front.live.health.clone()
            front.score(front.own["planes"])
            keep_notes(front, before, _describe(front))
        front.compact()

    def _windows(self, front: Front, many: int) -> tuple[Tensor, Tensor, Tensor]:
        """Best windows ``(L, M, 1, ...)``, their first pixels ``(L, M, d)``, and the ends of the range ``(L, 1, ...)``."""
        _, gradient = front.score_and_gradient(front.live.centre)
        gradient, centre = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), front.live.centre
        ends = torch.where(gradient > 0, 0.0, torch.where(gradient < 0, 1.0, centre))
        allowed = front.threat.allowed
        gain = gradient.abs() * (ends - centre).abs() * (1.0 if allowed is None else allowed)
        sides = self._sides(front)
        starts = best_windows(gain, sides, many)
        inside = inside_windows(starts, sides, gain.shape[2:])
        return inside if allowed is None else inside & allowed[:, None], starts, ends

    def _sides(self, front: Front) -> list[int]:
        """Sides of the windows in pixels."""
        sides = window_sides(float(front.threat.radius.amax()), torch.tensor([front.live.centre.shape[2:]]))
        return [int(side) for side in sides[0]]


def _describe(front: Front) -> dict[str, Tensor]:
    start, window = front.own["start"], front.own["window"]
    notes = {f"patch_{axis}_px": start[:, i] for i, axis in enumerate(AXES[start.shape[1]])}
    return {**notes, "patch_share": window.flatten(1).float().mean(1)}


def best_windows(gain: Tensor, sides: list[int], many: int) -> Tensor:
    """First pixels ``(L, M, d)`` int64 of windows of largest sum that do not overlap, the best first.

    Where fewer fit, the last are repetitions of the first window.

    Args:
        gain: ``(L, 1, ...)``, not negative.
        sides: Of the windows, in pixels.
        many: M.

    >>> best_windows(torch.tensor([[[[1.0, 0, 5, 5]]]]), [1, 2], 2).tolist()
    [[[0, 2], [0, 0]]]
    """
    pool = functional.avg_pool3d if gain.ndim == 5 else functional.avg_pool2d
    sums = pool(gain.double(), sides, stride=1)[:, 0]
    places = torch.stack(
        torch.meshgrid(*(torch.arange(n, device=gain.device) for n in sums.shape[1:]), indexing="ij"), -1
    )
    flat, reach = places.flatten(0, -2), torch.tensor(sides, device=gain.device)
    scores = sums.flatten(1).clone()
    starts: list[Tensor] = []
    for _ in range(many):
        start = flat[scores.argmax(1)]
        free = scores.isfinite().any(1, keepdim=True)
        starts.append(torch.where(free, start, starts[0]) if starts else start)
        near = ((flat - start[:, None]).abs() < reach).all(-1)
        scores = scores.masked_fill(near, -torch.inf)
    return torch.stack(starts, 1)


def inside_windows(starts: Tensor, sides: list[int], size: torch.Size) -> Tensor:
    """Boolean windows ``(L, M, 1, ...)`` with first pixels ``(L, M, d)``."""
    inside = torch.ones((*starts.shape[:2], 1, *size), dtype=torch.bool, device=starts.device)
    for axis, (side, pixels) in enumerate(zip(sides, size, strict=True)):
        place = torch.arange(pixels, device=starts.device) - starts[..., axis, None]
        shape = [*starts.shape[:2], 1, *[1] * len(sides)]
        shape[3 + axis] = pixels
        inside = inside & ((place >= 0) & (place < side)).reshape(shape)
    return inside


def letters(windows: Tensor, starts: Tensor, sides: list[int]) -> Tensor:
    """Opacity ``(L, M, 1, ...)`` of a letter R that fills windows; in a volume, of every slice of the cube.

    Args:
        windows: ``(L, M, 1, ...)`` pixels of each that may be covered.
        starts: ``(L, M, d)`` their first pixels.
        sides: Of the windows, in pixels.
    """
    picture = glyphs()[MARKER].picture.to(windows.device)
    picture = functional.interpolate(picture[None, None], sides[-2:], mode="bilinear", antialias=True)[0, 0]
    row, column = (
        (torch.arange(windows.shape[axis], device=windows.device) - starts[..., axis, None]).clamp(0, sides[axis] - 1)
        for axis in (-2, -1)
    )
    drawn = picture[row[..., :, None], column[..., None, :]]  # (L, M, H, W)
    return drawn.reshape(*drawn.shape[:2], *[1] * (windows.ndim - 4), *drawn.shape[2:]) * windows
