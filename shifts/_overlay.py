"""Objects drawn over a radiograph in millimetres, with even edges: discs, lines, curves, rounded plates.

Everything is a signed distance to the edge of the object, turned into the share of a pixel that is covered. Objects thinner
than a pixel are drawn one pixel wide and fainter, so that what they attenuate in total stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

Point = tuple[float, float]
"""Place in mm to the right of and below the centre of the image."""

_CURVE_POINTS = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """The pixels of one case.

    Attributes:
        x: ``(1, W)`` millimetres to the right of the centre.
        y: ``(H, 1)`` millimetres below the centre.
        pixel_mm: Mean side of a pixel.
    """

    x: Tensor
    y: Tensor
    pixel_mm: float

    @classmethod
    def of(cls, image: Tensor, spacing_mm: Tensor) -> Canvas:
        """The canvas of an image ``(1, H, W)`` with spacing ``(2,)``."""
        height, width = image.shape[-2:]
        row_mm, column_mm = spacing_mm.tolist()
        y = (torch.arange(height, device=image.device, dtype=torch.float32) + 0.5 - height / 2) * row_mm
        x = (torch.arange(width, device=image.device, dtype=torch.float32) + 0.5 - width / 2) * column_mm
        return cls(x=x[None], y=y[:, None], pixel_mm=(row_mm + column_mm) / 2)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        return self.x.shape[1] * self._step(self.x), self.y.shape[0] * self._step(self.y)

    def _step(self, axis: Tensor) -> float:
        places = axis.flatten()
        return float(places[1] - places[0]) if len(places) > 1 else self.pixel_mm

    def disc(self, centre: Point, radius_mm: float) -> Tensor:
        """Covered share ``(H, W)`` of every pixel."""
        return self._covered(torch.hypot(self.x - centre[0], self.y - centre[1]), radius_mm)

    def line(self, points: Sequence[Point], width_mm: float) -> Tensor:
        """A line through points, with round ends."""
        nearest = torch.full((len(self.y), self.x.shape[1]), torch.inf, device=self.x.device)
        for start, end in pairwise(points):
            nearest = torch.minimum(nearest, self._to_segment(start, end))
        return self._covered(nearest, width_mm / 2.0)

    def curve(self, control: Sequence[Point], width_mm: float) -> Tensor:
        """A cubic Bézier curve of four control points."""
        return self.line(bezier(control), width_mm)

    def plate(self, centre: Point, length_mm: float, width_mm: float, angle_rad: float, rounding_mm: float) -> Tensor:
        """A rounded rectangle; its length lies ``angle_rad`` below the right."""
        direction = torch.tensor(angle_rad)
        cosine, sine = float(direction.cos()), float(direction.sin())
        across, down = self.x - centre[0], self.y - centre[1]
        along, beside = across * cosine + down * sine, down * cosine - across * sine
        rounding = min(rounding_mm, length_mm / 2.0, width_mm / 2.0)
        outer = (along.abs() - (length_mm / 2.0 - rounding)).clamp_min(0.0)
        side = (beside.abs() - (width_mm / 2.0 - rounding)).clamp_min(0.0)
        inner = torch.maximum(along.abs() - length_mm / 2.0, beside.abs() - width_mm / 2.0)
        distance = torch.where((outer > 0) | (side > 0), torch.hypot(outer, side) - rounding, inner)
        return (0.5 - distance / self.pixel_mm).clamp(0.0, 1.0)

    def _covered(self, distance: Tensor, radius_mm: float) -> Tensor:
        thick = max(radius_mm, self.pixel_mm / 2.0)
        return (radius_mm / thick) * (0.5 + (thick - distance) / self.pixel_mm).clamp(0.0, 1.0)

    def _to_segment(self, start: Point, end: Point) -> Tensor:
        along_x, along_y = end[0] - start[0], end[1] - start[1]
        square = along_x**2 + along_y**2
        from_x, from_y = self.x - start[0], self.y - start[1]
        share = ((from_x * along_x + from_y * along_y) / max(square, 1e-12)).clamp(0.0, 1.0)
        return torch.hypot(from_x - share * along_x, from_y - share * along_y)


def bezier(control: Sequence[Point], points: int = _CURVE_POINTS) -> list[Point]:
    """Points on a cubic Bézier curve.

    >>> bezier([(0, 0), (0, 1), (1, 1), (1, 0)], points=3)
    [(0.0, 0.0), (0.5, 0.75), (1.0, 0.0)]
    """
    found = []
    for step in range(points):
        t = step / (points - 1)
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        x = sum(weight * place[0] for weight, place in zip(weights, control, strict=True))
        y = sum(weight * place[1] for weight, place in zip(weights, control, strict=True))
        found.append((float(x), float(y)))
    return found
