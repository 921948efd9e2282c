"""A patient who moves during the rotation: double edges and streaks.

By the central-slice theorem every view is one line of the image's spectrum, so a body that has moved by d when the view was
taken has that line multiplied by ``exp(-2πi f·d)``. The difference of the moved from the resting projections is therefore made
on the spectrum itself, without any projecting: exact in pixels, linear and differentiable. Each direction is measured twice in
a full turn, half a rotation apart, and the two are averaged:

    H(f) = ½ · [exp(-2πi f·A (τ - 1)) + exp(-2πi f·A τ)],      τ in [0, 1) the time of the view in half rotations,

A the drift during half a rotation. Edges along the motion are doubled at the distance A; views at the start and the end of the
turn do not fit each other, which makes the streak. The mean stays.

Reference:
    Barrett and Keat 2004, Artifacts in CT: recognition and avoidance, 10.1148/rg.246045065.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ct_artefact import AlterCase, CtArtefact, ErrorScan, case_uniforms
from robustbench_rad.shifts._ladder import ladder

if TYPE_CHECKING:
    from torch import Tensor

_UNIT = "mm in half a rotation"


@register(
    id="shift.ct.motion",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Barrett and Keat 2004, 10.1148/rg.246045065",
    unit="mm in half a rotation",
)
@dataclass(frozen=True, kw_only=True)
class CtMotion(CtArtefact):
    """A steady drift of the whole slice during the rotation.

    The way and the angle at which the turn starts are drawn per case and shared by levels and slices. Linear and differentiable
    in the image. Measured per level: ``drift_mm_requested``, ``drift_px`` and ``change_sd_hu`` over the body.

    Attributes:
        levels: Drift in mm during half a rotation; 0 is the image itself.
        direction_deg: Way of the drift, counter-clockwise from the right of the image; None to draw it.
        start_deg: Angle of the first view; None to draw it.
    """

    unit: ClassVar[str] = _UNIT
    highest: ClassVar[float] = 100.0

    levels: tuple[Level, ...] = ladder(_UNIT, 0.5, 1, 2, 4, 8)
    direction_deg: float | None = None
    start_deg: float | None = None

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Draw way and start."""
        drawn = case_uniforms(scan.seed, 2, self.id, self.version)
        direction = 2.0 * math.pi * drawn[0] if self.direction_deg is None else math.radians(self.direction_deg)
        start = math.pi * drawn[1] if self.start_deg is None else math.radians(self.start_deg)
        body = torch.where(scan.support, scan.hu, -1000.0)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            pixels = value / scan.spacing_mm
            change = drift_error(body, pixels=pixels, direction=direction, start=start) * scan.support
            measured = {"drift_mm_requested": value, "drift_px": pixels, "change_sd_hu": scan.sd_in_body(change)}
            return scan.with_error(change), measured

        return alter


def drift_error(slices: Tensor, *, pixels: float, direction: float, start: float) -> Tensor:
    """What a drift changes of slices ``(D, H, W)``.

    Slices are continued by reflection, so that a body cut off by the field of view has no edge there.

    Args:
        slices: ``(D, H, W)``.
        pixels: Drift during half a rotation.
        direction: Way in radians, counter-clockwise from the right.
        start: Angle of the first view in radians.
    """
    height, width = slices.shape[-2:]
    margins = [min(width // 2, width - 1)] * 2 + [min(height // 2, height - 1)] * 2
    wide = functional.pad(slices[:, None], margins, mode="reflect")[:, 0]
    size = wide.shape[-2], wide.shape[-1]
    spectrum = torch.fft.rfft2(wide)
    spectrum = spectrum * (_transfer(size, pixels, direction, start, slices.device) - 1.0)
    change: Tensor = torch.fft.irfft2(spectrum, s=size)
    return change[:, margins[2] : margins[2] + height, margins[0] : margins[0] + width]


def _transfer(size: tuple[int, int], pixels: float, direction: float, start: float, device: torch.device) -> Tensor:
    """H at the frequencies of a real transform."""
    v = torch.fft.fftfreq(size[0], device=device)[:, None]
    u = torch.fft.rfftfreq(size[1], device=device)
    time = ((torch.atan2(-v, u) - start) / math.pi).remainder(1.0)  # rows run down, angles up
    phase = -2.0 * math.pi * pixels * (u * math.cos(direction) - v * math.sin(direction))
    turns = [torch.polar(torch.ones_like(phase), phase * moment) for moment in (time - 1.0, time)]
    moved: Tensor = 0.5 * (turns[0] + turns[1])
    return moved
