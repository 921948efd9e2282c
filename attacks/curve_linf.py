"""The smallest radius at which PGD flips each call, from one search for a whole ladder: robustness curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._minimal import Found, Hunt, MinimalAttack, in_unit
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front, Progress
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks._walk import walk
from robustbench_rad.conditions import Batch, Level, Measurement
from robustbench_rad.noise import noise_sd
from robustbench_rad.registry import register

LADDER = ladder("0.25/255", "0.5/255", "1/255", "2/255", "4/255", "8/255", "16/255", "32/255")
MOST_REFINEMENTS = 12  # rounds; a bracket of 5 % or one grey level is reached before
REFINING_STEPS = (
    0.4  # of the steps: a refining search begins at the boundary; see benchmarks/RESULTS.md for what it misses
)


@register(
    id="attack.curve-linf",
    version=2,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Madry et al. 2018, arXiv:1706.06083",
)
@dataclass(frozen=True, kw_only=True)
class CurveLinf(MinimalAttack, LinfAttack):
    """The smallest radius at which PGD flips each call: the whole robustness curve from one search.

    A flip at one level answers all larger ones, a failed search all smaller ones. The largest level at which one step down
    the gradient fails is looked for by bisection with forward passes alone; from there PGD, which leaves at its flip, goes
    down the ladder from the clipped plane of the level above until it fails for the first time. One failed search is all
    that is paid for a case, where a full ladder pays one for every level it withstands. The bracket between the failed and the
    flipped level is then halved to ``refine`` of the radius, clipping the known plane before searching anew, and never
    below one grey level of the file. These searches begin where the call has just flipped and have two fifths of the steps.

    Gives ``minimal_epsilon`` for each case and finding in the unit of the levels (a verified flip; no value where the
    largest level was withstood or the call was wrong from the start) and ``noise_sd`` for each case, the noise the image
    already has, in the same unit.

    Attributes:
        steps: Planes scored per search.
        refine: Largest relative width of the bracket; 0: the levels are enough.

    >>> CurveLinf.from_options({"levels": ["1/255", "2/255"], "steps": 20, "refine": 0}).passes(findings=1)
    64.0
    """

    flips_linear: ClassVar[float] = 1.0

    levels: tuple[Level, ...] = LADDER
    steps: int = 20
    refine: float = 0.05

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")
        if isinstance(self.refine, bool) or not isinstance(self.refine, int | float) or not 0 <= self.refine < 1:
            raise ValueError(f"refine: expected a share from 0 to below 1, got {self.refine!r}")

    @property
    def passes_per_level(self) -> float:
        """Of a case that withstands everything: the bisection by single steps and one search; then the refinement.

        The refinement is priced as if every search in a bracket of two failed; a case that withstands everything has none.
        """
        halvings = math.ceil(math.log2(math.log(2) / math.log1p(self.refine))) if self.refine else 0
        refinement = max(halvings, 0) * _search_passes(self.refining_steps)
        return _rounds(len(self.levels)) + _search_passes(self.steps) + refinement

    @property
    def refining_steps(self) -> int:
        """Planes scored per search that narrows the bracket."""
        return math.ceil(REFINING_STEPS * self.steps)

    def beside(self, batch: Batch) -> Iterator[Measurement]:
        """The noise of each image in the unit of the levels."""
        yield Measurement(quantity="noise_sd", values=noise_sd(batch.images) * in_unit(self.levels[-1], batch))

    def hunt(self, climb: Hunt, start: Progress, found: Found) -> None:
        """Bracket the flip of every target between two levels, then narrow the bracket."""
        bracket = Bracket.of(self, climb, start, found)
        bracket.by_single_steps()
        bracket.down_the_ladder()
        if self.refine:
            bracket.narrow()


@dataclass(kw_only=True, eq=False)
class Bracket:
    """Where the flip of each of R targets lies.

    Attributes:
        attack: Steps and accuracy.
        climb: The batch.
        right: The best planes of the largest radius that was searched in vain.
        found: What is known at the levels.
        low: ``(R,)`` that radius, in grey levels; 0: none.
        high: ``(R,)`` the smallest radius with a wrong plane, in grey levels; infinite: none.
        flipped: ``(R, 1, ...)`` that plane; the original where there is none.
        flipped_slope: Sign of the gradient there.
        open: ``(R,)`` targets that can be attacked at all.
    """

    attack: CurveLinf
    climb: Hunt
    right: Progress
    found: Found
    low: Tensor
    high: Tensor
    flipped: Tensor
    flipped_slope: Tensor
    open: Tensor

    @classmethod
    def of(cls, attack: CurveLinf, climb: Hunt, start: Progress, found: Found) -> Bracket:
        """Nothing known but the stored originals."""
        return cls(
            attack=attack,
            climb=climb,
            right=start,
            found=found,
            low=torch.zeros_like(start.health),
            high=torch.full_like(start.health, torch.inf),
            flipped=start.centre.clone(),
            flipped_slope=start.centre_slope.clone(),
            open=~start.wrong() & (found.radii > 0).any(1),
        )

    @property
    def grey_levels(self) -> float:
        """Grey levels of the file."""
        return float(2**self.climb.batch.stored_bits - 1)

    @property
    def ladder(self) -> Tensor:
        """``(R, L)`` levels in grey levels; those without meaning are 0."""
        return (self.found.radii * self.grey_levels).round()

    def by_single_steps(self) -> None:
        """Bisect the ladder with the plane of one whole step: forward passes alone; failures prove nothing."""
        ladder = self.ladder
        low = (ladder == 0).sum(1) - 1  # levels without meaning are the smallest
        high = torch.full_like(low, ladder.shape[1])
        for _ in range(_rounds(ladder.shape[1])):
            middle = (low + high).div(2, rounding_mode="floor")
            active = self.open & (high - low > 1)
            radius = ladder.gather(1, middle.clamp(0, ladder.shape[1] - 1)[:, None])[:, 0]
            flips = self._try(active, radius, _single_step)
            high = torch.where(active & flips, middle, high)
            low = torch.where(active & ~flips, middle, low)

    def down_the_ladder(self) -> None:
        """Search just below the smallest level that is flipped, until a search fails."""
        ladder = self.ladder
        for _ in range(ladder.shape[1]):
            below = torch.where(ladder < self.high[:, None], ladder, 0.0).amax(1)
            self._try(self.open & (below > self.low), below, partial(_search, steps=self.attack.steps), proves=True)

    def narrow(self) -> None:
        """Halve the bracket until it is narrow enough or one grey level wide."""
        search = partial(_search, steps=self.attack.refining_steps)
        for _ in range(MOST_REFINEMENTS):
            wide = (self.high - self.low > 1) & (self.high > self.low * (1 + self.attack.refine))
            middle = ((self.low + self.high) / 2).floor()
            self._try(self.open & wide & self.high.isfinite(), middle, search, proves=True)

    def _try(self, active: Tensor, radius: Tensor, search: Callable[[Front], None], *, proves: bool = False) -> Tensor:
        """Search the active targets at a radius in grey levels, ``(R,)`` each; returns which flip.

        ``proves``: a failure counts, and the planes it leaves are where later searches at larger radii go on.
        """
        rows, flips = active.nonzero()[:, 0], torch.zeros_like(active)
        if not len(rows):
            return flips
        size = radius[rows] / self.grey_levels
        progress = self.right.select(rows)
        front = self.climb.front(progress, torch.ones_like(rows, dtype=torch.bool), size, to_flip=True)
        front.own |= {"flipped": self.flipped[rows], "flipped_slope": self.flipped_slope[rows]}
        search(front)
        front.compact(leave=True)
        self.found.take(rows, size, progress.health, progress.targets, front.threat)
        self.right.non_finite[rows] |= progress.non_finite
        wrong = progress.wrong()
        self._note_flips(rows[wrong], radius, progress.select(wrong.nonzero()[:, 0]))
        if proves:
            failed = rows[~wrong]
            self.low[failed] = radius[failed]
            self.right.merge(failed, progress.select((~wrong).nonzero()[:, 0]))
        flips[rows] = wrong
        return flips

    def _note_flips(self, rows: Tensor, radius: Tensor, progress: Progress) -> None:
        self.high[rows] = radius[rows]
        self.flipped[rows], self.flipped_slope[rows] = progress.best, progress.best_slope


def _single_step(front: Front) -> None:
    slope = front.live.centre_slope
    front.score(front.threat.project(front.live.centre - slope * front.threat.radii()), slope=slope)


def _search(front: Front, *, steps: int) -> None:
    """PGD from the better of one whole step and the smallest wrong plane known, clipped."""
    _clipped(front)
    front.compact()
    if len(front):
        walk(front, step_fractions(steps, StepRule.DECAYING), leap=True)


def _search_passes(steps: int) -> float:
    """Price of a search that finds nothing: the clipped plane, a gradient with every other one but the last."""
    return 3.0 * (steps - 1) + 2


def _clipped(front: Front) -> None:
    """The smallest wrong plane, clipped to the radius; the original, where there is none."""
    front.score(front.threat.project(front.own["flipped"]), slope=front.own["flipped_slope"])


def _rounds(levels: int) -> int:
    """Halvings that tell ``levels + 1`` outcomes apart.

    >>> [_rounds(levels) for levels in (1, 2, 7, 8)]
    [1, 2, 3, 4]
    """
    return levels.bit_length()
