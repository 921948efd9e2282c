"""Fewer phase-encoding steps in MR: k-space ends earlier, edges ring.

The outer lines of k-space along the phase-encoding axis are set to zero (zero filling), so an edge is overshot by 9 % of its
height at every fraction, and the smaller the fraction the wider the rings. A Hamming window trades rings for blur.

Reference:
    Czervionke et al. 1988, Characteristic features of MR truncation artifacts, AJR 151:1219.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, phase_axes
from robustbench_rad.shifts._mr_kspace import central_lines, half_width, outer_energy, weighted_lines

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_EMPTY = 1e-9  # of the energy of k-space: rounding


@register(
    id="shift.mr.gibbs",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Czervionke et al. 1988, AJR 151:1219",
    unit="of the matrix",
)
@dataclass(frozen=True, kw_only=True)
class MrGibbs(MrShift):
    """A k-space cut to its central lines along the phase-encoding axis.

    A case whose k-space is empty beyond the fraction (it was cut there already, or shows nothing) is not applicable.
    Measurements per level: ``kept_fraction_requested``, ``kept_fraction`` (whole lines) and ``outer_energy_share`` that was
    cut off.

    Attributes:
        levels: Fractions of the lines that stay, mildest first; 1 is the image itself.
        window: ``none`` or ``hamming`` over the lines that stay.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "of the matrix"
    neutral = 1.0
    lowest = 0.01
    highest = 1.0

    levels: tuple[Level, ...] = ladder("of the matrix", 0.9, 0.75, 0.6, 0.5, 0.4)
    window: str = "none"
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "window", ("none", "hamming"))
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)

    def prepare(self, batch: Batch) -> Alter:
        """Find the phase-encoding axes."""
        axes = phase_axes(self.phase_encoding, batch)
        cases = list(zip(batch.images, axes, strict=True))

        def alter(fraction: float) -> Change:
            halves = [half_width(image.shape[axis], fraction) for image, axis in cases]
            pairs = list(zip(cases, halves, strict=True))
            cut = [truncated(*case, half, hamming=self.window == "hamming") for case, half in pairs]
            outer = torch.stack([outer_energy(*case, half) for case, half in pairs])
            kept = [(2 * half + 1) / image.shape[axis] for (image, axis), half in pairs]
            measured = {
                "kept_fraction_requested": torch.full_like(outer, fraction),
                "kept_fraction": outer.new_tensor(kept).clamp_max(1.0),
                "outer_energy_share": outer,
            }
            reason = "k-space is empty beyond the fraction"
            return Change(images=torch.stack(cut), measured=measured, applicable=outer > _EMPTY, reason=reason)

        return alter


def truncated(image: Tensor, axis: int, half: int, *, hamming: bool = False) -> Tensor:
    """Magnitude of an image ``(…, H, W)`` whose k-space along ``axis`` ends at line ``half``."""
    weights = central_lines(image.shape[axis], half, image.device, hamming=hamming)
    return weighted_lines(image, weights, axis).abs()
