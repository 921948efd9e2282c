"""How the image is shown: gamma, window and uneven brightness within what a console or a coil does."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._descend import descend, smooth_field
from robustbench_rad.attacks._envelope import EnvelopeAttack, keep_notes
from robustbench_rad.attacks._search import Front
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

GLOBAL = 3  # gamma, window centre, window width
GRID = 27  # ends and middle of each of them
DARK = 1e-6  # black has no slope under a gamma below 1


@register(
    id="attack.contrast",
    version=1,
    space="display",
    domain="adversarial",
    unit="of the envelope",
    reference="Chen et al. 2020, arXiv:2006.13322",
)
@dataclass(frozen=True, kw_only=True)
class Contrast(EnvelopeAttack):
    """The worst gamma, window and smooth bias field of each case, together, within an envelope.

    ``y = (x e^B)^g`` and ``x' = clip((y - 1/2 - c) / w + 1/2)``, with a B-spline field ``|B| <= ln(1 + bias)``, a gamma ``g``
    between ``1 / gamma`` and ``gamma``, and a window whose centre moves by ``c`` and whose width changes by the factor ``w``.
    The best of a grid of the three global parameters is where all parameters begin to go down the sign of their gradients.

    Measured of the worst plane: ``worst_gamma``, ``worst_window_centre`` (shift as a share of the display range),
    ``worst_window_width`` (factor), ``worst_bias`` (largest relative change of brightness), and ``saturated_share`` of the
    pixels that became black or white and were not.

    Attributes:
        gamma: Largest gamma; 1: none.
        window_centre: Largest shift of the window's centre, as a share of the range.
        window_width: Largest factor of the window's width, and one over it the smallest; 1: none.
        bias: Largest relative change of brightness by the field; 0: none.
        nodes: Nodes of the field along each axis.
        steps: Planes scored per level.

    >>> Contrast.from_options({"levels": ["1/2", 1]}).passes(findings=1)
    237.0
    """

    notes: ClassVar[tuple[str, ...]] = (
        "worst_gamma",
        "worst_window_centre",
        "worst_window_width",
        "worst_bias",
        "saturated_share",
    )

    gamma: float = 1.25
    window_centre: float = 0.05
    window_width: float = 1.2
    bias: float = 0.1
    nodes: int = 4
    steps: int = 30

    def __post_init__(self) -> None:
        """Refuse an envelope without meaning."""
        super().__post_init__()
        self.check_numbers(gamma=(1, 10), window_centre=(0, 1), window_width=(1, 10), bias=(0, 10))
        self.check_counts(nodes=1, steps=1)

    @property
    def passes_per_level(self) -> float:
        """The grid; a gradient at the start and at every plane but the last."""
        return float(GRID - 1 + 3 * self.steps + 1)

    @property
    def planes_at_once(self) -> int:
        """The planes of the grid, on their way through the transform."""
        return 3 * GRID

    def search(self, front: Front, level: Level) -> None:
        """Every parameter down its slope."""
        axes = front.live.centre.ndim - 2
        self._best_corner(front, GLOBAL + self.nodes**axes, level.value)
        front.compact()
        if not len(front):
            return
        descend(
            front,
            front.own["start"],
            steps=self.steps,
            render=lambda at: self.shown(front.live.centre, at * level.value),
            move=lambda at, slope, fraction: (at - fraction * slope.sign()).clamp(-1, 1),
            describe=lambda at: self._describe(front, at * level.value),
        )

    def _best_corner(self, front: Front, parameters: int, share: float) -> None:
        """Leave the best of the grid of the three global parameters, or the origin, as ``front.own["start"]``."""
        grid = torch.tensor(sorted(itertools.product((0.0, -1.0, 1.0), repeat=GLOBAL), key=any)).to(front.live.centre)
        at = torch.cat([grid, grid.new_zeros(len(grid), parameters - GLOBAL)], 1)
        before, count = front.live.health.clone(), len(front)
        images = front.live.centre.repeat_interleave(len(grid), 0)
        planes = self.shown(images, at.repeat(count, 1) * share).reshape(count, len(grid), *images.shape[1:])
        health = front.score_candidates(planes[:, 1:])
        lowest, place = torch.where(health.isfinite(), health, torch.inf).min(1)
        keep_notes(front, before, self._describe(front, at[place + 1] * share))
        front.own = {"start": torch.where((lowest < before)[:, None], at[place + 1], 0.0)}

    def shown(self, images: Tensor, at: Tensor) -> Tensor:
        """Images ``(L, 1, ...)`` at parameters ``(L, p)`` in units of the envelope; what lies outside [0, 1] stays there."""
        gamma, centre, width = (value.reshape(-1, *[1] * (images.ndim - 1)) for value in self._values(at))
        inside = images.clamp(0, 1)
        lit = inside * self._field(images, at).exp()
        curved = torch.where(lit < DARK, lit, lit.clamp_min(DARK) ** gamma)
        return ((curved - 0.5 - centre) / width + 0.5).clamp(0, 1) + (images - inside)

    def _values(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gamma, shift of the centre, factor of the width, ``(L,)`` each."""
        gamma, width = (at[:, i] * math.log(most) for i, most in ((0, self.gamma), (2, self.window_width)))
        return gamma.exp(), at[:, 1] * self.window_centre, width.exp()

    def _field(self, images: Tensor, at: Tensor) -> Tensor:
        """Logarithm of the brightness ``(L, 1, ...)``."""
        axes = images.ndim - 2
        nodes = at[:, GLOBAL:].reshape(len(at), 1, *[self.nodes] * axes)
        return smooth_field(nodes, images.shape[2:]) * math.log1p(self.bias)

    def _describe(self, front: Front, at: Tensor) -> dict[str, Tensor]:
        images = front.live.centre
        gamma, centre, width = self._values(at)
        shown, inside = self.shown(images, at), (images > 0) & (images < 1)
        lost = inside & ((shown <= 0) | (shown >= 1))
        return {
            "worst_gamma": gamma,
            "worst_window_centre": centre,
            "worst_window_width": width,
            "worst_bias": self._field(images, at).expm1().flatten(1).abs().amax(1),
            "saturated_share": lost.flatten(1).float().mean(1),
        }
