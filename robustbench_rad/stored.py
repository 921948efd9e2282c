"""Stored space: what a file can hold, on its own grid of pixels and grey levels.

A stored image has value 0 at the lowest and 1 at the highest grey level of its ``bits``. CT is stored with one grey level
per HU from -1024 HU, the convention of scanners (rescale slope 1, intercept -1024); a file with another slope holds fewer
values than that. Radiographs and MR are stored with the declared range spread over the grey levels, as the readers of
raster images take it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from robustbench_rad.conditions import Unit

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import Batch

Limits = tuple[float, float]
LOWEST_HU = -1024.0
LEAST_CT_BITS = 12
SNAP = 0.01  # of a grey level; float32 in [0, 1] is within 0.002 of a level of 16 bits


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Grey levels of a file.

    Attributes:
        limits: Physical values of the lowest and the highest grey level, which are 0 and 1 of a stored image.
        bits: Bit depth.
    """

    limits: Limits
    bits: int

    @classmethod
    def of(cls, unit: Unit, bits: int, *, declared: Limits) -> Self:
        """The grid of a file.

        Args:
            unit: Unit of its physical image.
            bits: Its bit depth; CT has at least 12.
            declared: The model's range, which a radiograph's or MR's grey levels are mapped to.

        >>> Grid.of(Unit.HU, 12, declared=(-1000.0, 400.0)).limits
        (-1024.0, 3071.0)
        """
        if unit is not Unit.HU:
            return cls(limits=declared, bits=bits)
        bits = max(bits, LEAST_CT_BITS)
        return cls(limits=(LOWEST_HU, LOWEST_HU + 2**bits - 1), bits=bits)

    @property
    def highest(self) -> int:
        """Number of the highest grey level; the lowest is 0."""
        return int(2**self.bits - 1)

    def stored(self, physical: Tensor) -> Tensor:
        """Physical values to stored ones, float32; beyond the limits they are beyond [0, 1]."""
        low, high = self.limits
        return ((physical.double() - low) / (high - low)).float()

    def physical(self, stored: Tensor) -> Tensor:
        """Stored values to physical ones, float32; differentiable.

        A value within 0.01 grey levels of one is taken for it, so that an image of whole grey levels gives, bit for bit,
        what the readers make of the file that holds them. The computation is theirs, in float64.
        """
        low, high = self.limits
        level: Tensor = _Snapped.apply(stored.double() * self.highest)  # type: ignore[no-untyped-call]
        highest = level.new_tensor(self.highest)  # on the device, where dividing by a number multiplies by its inverse
        return (low + level / highest * (high - low)).float()

    def rounded(self, stored: Tensor) -> Tensor:
        """What the file holds of a stored image: the nearest grey levels, as float32 in [0, 1].

        >>> Grid(limits=(0.0, 1.0), bits=1).rounded(torch.tensor([-0.2, 0.4, 0.6])).tolist()
        [0.0, 0.0, 1.0]
        """
        return (self.levels(stored).double() / self.highest).float()

    def levels(self, stored: Tensor) -> Tensor:
        """Numbers of the nearest grey levels, int64 in [0, 2^bits - 1]: what is written to a file."""
        return (stored.double() * self.highest).round().clamp(0, self.highest).long()

    def holds(self, stored: Tensor) -> Tensor:
        """Whether images ``(N, ...)`` consist of grey levels, ``(N,)`` boolean; beyond the range only the step counts."""
        level = stored.double() * self.highest
        return ((level - level.round()).abs() < SNAP).flatten(1).all(1)


def stored_view(batch: Batch, classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """How the model sees the stored images of a batch: grey levels to physical values, then window and size.

    Returns:
        A differentiable function of stored images ``(n, 1, ...)`` of the batch's native shape, which gives display images
        ``(n, 1, *size)``; rows do not depend on each other.
    """
    grid = Grid(limits=batch.limits, bits=batch.stored_bits)
    return lambda images: classifier.display(grid.physical(images))


class _Snapped(torch.autograd.Function):
    """Grey levels that are whole but for rounding, whole; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, level: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        del ctx
        whole = level.round()
        return torch.where((level - whole).abs() < SNAP, whole, level)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        del ctx
        return gradient
