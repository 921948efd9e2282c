"""Heart, thorax and lungs read from masks of the lungs or of the heart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor

_LUNG_SHARE = 0.3  # of its largest width that a lung has in every row beside the heart
_UPPER_SHARE = 0.4  # of the height of the lungs that lies above the heart
_ABOVE_DOME = 0.1  # of that height, by which the largest width of the heart lies above the diaphragm
_LEAST_RATIO = 0.3  # a narrower gap is the mediastinum of a mask that has the lung behind the heart in it


@dataclass(frozen=True, kw_only=True)
class Thorax:
    """Where the heart and the thorax of one case are, in pixels; NaN where it cannot be read.

    Attributes:
        row: Row of the heart's largest width.
        left: First column of the heart in that row.
        right: Column after its last.
        thorax_left: First column of the lungs.
        thorax_right: Column after their last.
    """

    row: float
    left: float
    right: float
    thorax_left: float
    thorax_right: float

    @property
    def known(self) -> bool:
        """Whether the heart was found."""
        return math.isfinite(self.left)

    @property
    def heart_px(self) -> float:
        """Largest width of the heart."""
        return self.right - self.left

    @property
    def ratio(self) -> float:
        """Cardiothoracic ratio."""
        return self.heart_px / (self.thorax_right - self.thorax_left)

    @classmethod
    def unknown(cls) -> Self:
        """Nothing to be read."""
        return cls(row=math.nan, left=math.nan, right=math.nan, thorax_left=math.nan, thorax_right=math.nan)

    @classmethod
    def of_lungs(cls, mask: Tensor) -> Self:
        """Read a mask ``(H, W)`` of both lungs: the heart is the widest gap between them, above the diaphragm."""
        columns = torch.arange(mask.shape[1], device=mask.device)
        if not bool(mask.any()):
            return cls.unknown()
        middle = (mask * columns).sum() / mask.sum()
        sides = mask & (columns < middle), mask & (columns >= middle)
        widths = [side.sum(1) for side in sides]
        wide = torch.stack([w >= (_LUNG_SHARE * w.max()).clamp_min(1.0) for w in widths]).all(0)
        first_row, last_row = extent(mask)
        rows = torch.arange(mask.shape[0], device=mask.device)
        upper, lower = (share * (last_row - first_row) for share in (_UPPER_SHARE, _ABOVE_DOME))
        dome = min(_dome(side) for side in sides)
        beside = wide & (rows >= first_row + upper) & (rows <= dome - lower)
        first = torch.where(sides[0], columns, -1).amax(1) + 1
        last = torch.where(sides[1], columns, mask.shape[1]).amin(1)
        gap = torch.where(beside, last - first, 0)
        row = _middle_of_largest(gap)
        anywhere = mask.any(0).nonzero()
        if int(gap[row]) < _LEAST_RATIO * (float(anywhere[-1] - anywhere[0]) + 1.0):
            return cls.unknown()
        return cls(
            row=float(row),
            left=float(first[row]),
            right=float(last[row]),
            thorax_left=float(anywhere[0]),
            thorax_right=float(anywhere[-1]) + 1.0,
        )

    @classmethod
    def of_heart(cls, mask: Tensor) -> Self:
        """Read a mask ``(H, W)`` of the heart; the thorax is taken for the image."""
        width = mask.sum(1)
        if not bool(mask.any()):
            return cls.unknown()
        row = _middle_of_largest(width)
        inside = mask[row].nonzero()
        return cls(
            row=float(row),
            left=float(inside[0]),
            right=float(inside[-1]) + 1.0,
            thorax_left=0.0,
            thorax_right=float(mask.shape[1]),
        )


def _middle_of_largest(widths: Tensor) -> int:
    """Row in the middle of those that have the largest width."""
    rows = (widths == widths.max()).nonzero().flatten()
    return int(rows[len(rows) // 2])


def _dome(lung: Tensor) -> float:
    """Row of the diaphragm below the middle of a lung ``(H, W)``; -1 for an empty mask."""
    if not bool(lung.any()):
        return -1.0
    middle = int(lung.nonzero()[:, 1].float().mean().round())
    rows = lung[:, middle].nonzero()
    return float(rows[-1]) if len(rows) else -1.0


def width_in_row(mask: Tensor, thorax: Thorax, *, lungs: bool) -> float:
    """Width of the heart in the row where ``thorax`` found it: the gap between the lungs about its middle, or the heart."""
    if not thorax.known:
        return math.nan
    line = mask[int(thorax.row)]
    if not lungs:
        return float(line.sum())
    middle = round((thorax.left + thorax.right) / 2.0)
    before, after = line[:middle].nonzero(), line[middle:].nonzero()
    if not len(before) or not len(after):
        return math.nan
    return middle + float(after[0]) - float(before[-1]) - 1.0


def lungs_width(mask: Tensor) -> float:
    """Width of the thorax, from the outer border of one lung to that of the other; NaN for an empty mask."""
    columns = mask.any(0).nonzero()
    return float(columns[-1] - columns[0]) + 1.0 if len(columns) else math.nan


def extent(mask: Tensor) -> tuple[float, float]:
    """First row of a mask ``(H, W)`` and the row after its last; NaN for an empty one."""
    rows = mask.any(1).nonzero().flatten()
    return (float(rows[0]), float(rows[-1]) + 1.0) if len(rows) else (math.nan, math.nan)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """One number per case as ``(N, 1, 1)``."""
    return like.new_tensor(values)[:, None, None]
