"""Osteosynthesis over a radiograph: a plate with screws, along the bright structure of the image.

The plate lies at the centroid of what is brighter than the median and along its principal axis (the shaft of a long bone, the
spine of a chest). It is seen from the front, with screw heads, or from the side, with screws; drawn for each case. The exposure
behind is ``E' = E · 10^-d``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import exposed
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._lesions import seen_share
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._overlay import Canvas, Point
from robustbench_rad.shifts._percentile import percentile
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "mm"
_HOLE_PITCH_MM = 16.0
_PLATE_MM, _THICKNESS_MM = 12.0, 4.0
_HEAD_RADIUS_MM, _SHAFT_MM, _SCREW_MM = 4.0, 3.5, 28.0
_COVERED = 0.02  # decades that can be seen


@register(
    id="shift.xr.metal-hardware",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Buckley, Moran and Apivatthakakul 2018, AO Principles of Fracture Management, 3rd edition",
    unit="mm",
)
@dataclass(frozen=True, kw_only=True)
class XrMetalHardware(ExposureShift, MillimetreShift):
    """A bone plate and its screws.

    Place, direction and view of a case are the same for all levels: a longer plate covers what a shorter one does.
    Measured per level: ``screws``, ``covered_share`` of the image, and ``lesion_share``, how much of a known lesion lies
    beside the metal.

    Attributes:
        levels: Length of the plate in mm, a screw every 16 mm; 0 is the image itself.
        attenuation_decades: Of the plate; screws seen from the side have three quarters of it.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "the length of a plate in mm"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 400.0

    levels: tuple[Level, ...] = ladder(_UNIT, "40", "70", "100", "140", "180")
    attenuation_decades: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("attenuation_decades",))

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Find place and direction, and draw the view, of every case."""
        spacing, usable, reason = self.spacing_mm(batch)
        canvases = [Canvas.of(image, step) for image, step in zip(batch.images, spacing, strict=True)]
        poses = [principal_axis(image, canvas) for image, canvas in zip(_bright(batch.images), canvases, strict=True)]
        from_side = [draw < 0.5 for draw in self.uniform(batch, 1, "view")[:, 0].tolist()]

        def render(level: Level) -> Change:
            cases = [
                (side_view if side else front_view)(canvas, *pose, level.value)
                for canvas, pose, side in zip(canvases, poses, from_side, strict=True)
            ]
            decades = self.attenuation_decades * torch.stack(cases)[:, None]
            covered = (decades > _COVERED).to(decades.dtype)
            return Change(
                images=self.curve.signal(10.0**-decades, batch.images),
                measured={
                    "screws": torch.full_like(spacing[:, 0], float(len(screw_places(level.value)))),
                    "covered_share": covered.mean((1, 2, 3)),
                    "lesion_share": seen_share(batch, 1.0 - covered),
                },
                applicable=usable,
                reason=reason,
            )

        return render


def _bright(images: Tensor) -> Tensor:
    """Weights ``(N, H, W)`` of the structure: signal above the median of the pixels that are not saturated."""
    known = exposed(images)
    median = percentile(images, 0.5, known).nan_to_num(0.0)
    return (torch.where(known, images.detach() - median[:, None, None, None], 0.0).clamp_min(0.0))[:, 0]


def principal_axis(weight: Tensor, canvas: Canvas) -> tuple[Point, float]:
    """Centroid in mm and direction in radians of the second moments of ``(H, W)``; the centre and 0 for none."""
    total = weight.sum()
    if float(total) <= 0.0:
        return (0.0, 0.0), 0.0
    x, y = (float((weight * axis).sum() / total) for axis in (canvas.x, canvas.y))
    across, down = canvas.x - x, canvas.y - y
    mixed = float((weight * across * down).sum() / total)
    difference = float((weight * (across**2 - down**2)).sum() / total)
    return (x, y), 0.5 * math.atan2(2.0 * mixed, difference)


def screw_places(length_mm: float) -> list[float]:
    """Millimetres along a plate from its middle at which its screws sit.

    >>> screw_places(40.0)
    [-8.0, 8.0]
    """
    count = max(int(length_mm // _HOLE_PITCH_MM), 0)
    return [(number - (count - 1) / 2.0) * _HOLE_PITCH_MM for number in range(count)]


def front_view(canvas: Canvas, centre: Point, angle_rad: float, length_mm: float) -> Tensor:
    """Plate with screw heads, in units of the plate's attenuation, ``(H, W)``."""
    metal = canvas.plate(centre, length_mm, _PLATE_MM, angle_rad, _PLATE_MM / 2.0)
    for along in screw_places(length_mm):
        metal = metal + 0.4 * canvas.disc(_beside(centre, angle_rad, along, 0.0), _HEAD_RADIUS_MM)
    return metal


def side_view(canvas: Canvas, centre: Point, angle_rad: float, length_mm: float) -> Tensor:
    """Plate from its edge with the screws through the bone, in units of the plate's attenuation, ``(H, W)``."""
    metal = canvas.plate(centre, length_mm, _THICKNESS_MM, angle_rad, 1.0)
    for along in screw_places(length_mm):
        ends = [_beside(centre, angle_rad, along, depth) for depth in (0.0, _SCREW_MM)]
        metal = torch.maximum(metal, 0.75 * canvas.line(ends, _SHAFT_MM))
    return metal


def _beside(centre: Point, angle_rad: float, along_mm: float, depth_mm: float) -> Point:
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    return centre[0] + along_mm * cosine - depth_mm * sine, centre[1] + along_mm * sine + depth_mm * cosine
