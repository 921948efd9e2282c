"""Ghosts of MR: signal that breathing, pulsation or the sign of the gradient changes from line to line of k-space.

Lines k along the phase-encoding axis are weighted with a period of n lines,

    m(k) = 1 + 2 r e^(iψ) sin(2π k / n)  for n > 2,      m(k) = (1 + i r (-1)ᵏ) / (1 + i r)  for n = 2,

which puts copies of r times the brightness at ± FOV / n and leaves the centre of k-space, and so the sum of the complex
image, as it is. ψ is drawn for each case: the ghost adds to the image, subtracts from it, or stands at a right angle to it.

Reference:
    Wood and Henkelman 1985, MR image artifacts from periodic motion, Med Phys 12:143.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, case_by_case, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_continuous import ContinuousMrShift
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, foreground, phase_axes
from robustbench_rad.shifts._mr_kspace import line_numbers, weighted_lines

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue

_FEWEST_PIXELS = 64


@register(
    id="shift.mr.ghosting",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("MR",),
    reference="Wood and Henkelman 1985, Med Phys 12:143",
    unit="% of the signal",
)
@dataclass(frozen=True, kw_only=True)
class MrGhosting(ContinuousMrShift):
    """Copies of the image along the phase-encoding axis.

    Emulated: the whole image is copied, as if all of it pulsated. Measurements per level:
    ``ghost_percent_requested`` and ``ghost_percent``, the brightness of the ghost over that of its parent where the ghost
    lies in air (NaN where it nowhere does).

    Attributes:
        levels: Brightness of a ghost in % of the signal, mildest first; 0 is the image itself.
        period_lines: Lines n after which the modulation repeats: ghosts lie at ± FOV / n, for 2 at FOV / 2.
        phase_encoding: Axis of phase encoding: ``auto`` (from the header, else ``column``), ``column`` (phase changes from
            row to row) or ``row``.
    """

    unit = "% of the signal"
    highest = 100.0

    levels: tuple[Level, ...] = ladder("% of the signal", 2.5, 5, 10, 20, 30)
    period_lines: int = 4
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)
        if isinstance(self.period_lines, bool) or not isinstance(self.period_lines, int) or self.period_lines < 2:
            raise ValueError(f"period_lines: expected a whole number from 2, got {self.period_lines!r}")

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw the phase of the ghosts, and find where they can be measured."""
        axes = phase_axes(self.phase_encoding, batch)
        phases = (2.0 * math.pi * uniforms(batch, 1, self.id, self.version, "phase"))[:, 0]
        inside = foreground(batch.images)
        enough = torch.tensor([batch.images.shape[axis] > self.period_lines for axis in axes], device=batch.device)

        def alter(percent: Value) -> Change:
            shares = case_by_case(per_case_factor(percent / 100.0, phases), len(batch))
            ghosted = [
                with_ghosts(image, axis, phase, ratio=own, period=self.period_lines)
                for image, axis, phase, own in zip(batch.images, axes, phases, shares, strict=True)
            ]
            images = torch.stack(ghosted)
            ratios = [
                ghost_ratio(*case, self.period_lines) for case in zip(batch.images, images, inside, axes, strict=True)
            ]
            requested = filled(percent, batch.images)
            return Change(
                images=images,
                measured={"ghost_percent_requested": requested, "ghost_percent": 100.0 * torch.stack(ratios)},
                applicable=enough,
                reason="fewer lines than one period",
            )

        return alter


def with_ghosts(image: Tensor, axis: int, phase: Tensor, *, ratio: Value, period: int) -> Tensor:
    """Put ghosts of ``ratio`` times its brightness into a magnitude image ``(…, H, W)`` along ``axis``."""
    lines = line_numbers(image.shape[axis], image.device)
    if period == 2:
        weights = torch.complex(torch.ones_like(phase), ratio * (1.0 - 2.0 * (lines % 2)))
        weights = weights / torch.complex(torch.ones_like(phase), ratio * torch.ones_like(phase))
    else:
        swing = 2.0 * ratio * torch.sin(2.0 * math.pi * lines / period)
        weights = 1.0 + swing * torch.polar(torch.ones_like(phase), phase)
    return weighted_lines(image, weights, axis).abs()


def ghost_ratio(image: Tensor, ghosted: Tensor, inside: Tensor, axis: int, period: int) -> Tensor:
    """Brightness of the ghost over that of its parent P, read where one ghost lies in air; NaN where none does.

    In air of magnitude x the square grows by ``r² P² + 2 r cos ψ x P``; r² is the coefficient of P² in the least squares.
    """
    image, ghosted = image.detach(), ghosted.detach()
    distance = round(image.shape[axis] / period)
    parent, source = image.roll(distance, axis), inside.roll(distance, axis)
    alone = source & ~inside & (~inside.roll(-distance, axis) if period > 2 else source)
    cross, square = image * parent * alone, parent.square() * alone
    growth = ghosted.square() - image.square()
    mixed = (cross * square).sum()
    determinant = cross.square().sum() * square.square().sum() - mixed.square()
    joint = (cross.square().sum() * (square * growth).sum() - mixed * (cross * growth).sum()) / determinant
    plain = (square * growth).sum() / square.square().sum()
    in_noise = determinant > 1e-6 * square.square().sum().square()
    ratio = torch.where(in_noise, joint, plain).clamp_min(0.0).sqrt()
    return torch.where(alone.sum() >= _FEWEST_PIXELS, ratio, torch.nan)
