"""What shifts of any modality ask of their input, and where black and white lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical, require_signal_range
from robustbench_rad.shifts._ladder import LadderShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

PADDING_BELOW_HU = -1024.0
AIR_HU = -1000.0


def require_image(batch: Batch, *, shift: str, ndim: Sequence[int] = (4, 5)) -> None:
    """Refuse what is not a finite grey image as the scanner made it, of whatever modality.

    Raises:
        DataError: Another space or shape, or no unit.
        ImageError: NaN pixels, HU scaled to [0, 1], or presentation signal outside of it; names the cases.
    """
    require_physical(batch, shift=shift, unit=batch.unit or Unit.SIGNAL, ndim=ndim)
    if batch.unit is Unit.HU:
        require_hounsfield(batch, shift=shift)
    elif batch.unit is Unit.SIGNAL:
        require_signal_range(batch, shift=shift)


@dataclass(frozen=True, kw_only=True)
class AnyImageShift(LadderShift):
    """Base of the shifts that have meaning for every modality, images ``(N, 1, H, W)`` and volumes ``(N, 1, D, H, W)``."""

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not a finite grey image in physical space."""
        require_image(batch, shift=self.id)


@dataclass(frozen=True, kw_only=True)
class ShownShift(AnyImageShift):
    """Base of the shifts that need to know what is shown black and white.

    Attributes:
        limits: Values shown black and white, in the unit of the images; None: those the plan declares for the model.
            Presentation signal has 0 and 1 and needs none.
    """

    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.limits is not None and not (len(self.limits) == 2 and self.limits[0] < self.limits[1]):
            raise ValueError(f"limits: expected two numbers, black below white, got {self.limits!r}")

    def bound(self, plan: Plan) -> Self:
        """The shift with the window or range of the model."""
        declared = plan.model.input.window_hu or plan.model.input.range
        return self if self.limits is not None else replace(self, limits=declared)

    def black_and_white(self, batch: Batch) -> tuple[float, float]:
        """Values shown black and white.

        Raises:
            DataError: They are not known.
        """
        if batch.unit is Unit.SIGNAL:
            return 0.0, 1.0
        if self.limits is None:
            raise DataError(
                f"{self.id}: expected the values shown black and white, in {batch.unit}, got none",
                hint="Give the option limits = [black, white], or declare window_hu or range in [model.input].",
            )
        return self.limits


def padding(batch: Batch) -> Tensor:
    """Pixels outside of the reconstruction, boolean in the shape of the images: CT below -1024 HU."""
    if batch.unit is not Unit.HU:
        return torch.zeros_like(batch.images, dtype=torch.bool)
    return batch.images < PADDING_BELOW_HU


def without_padding(batch: Batch) -> Tensor:
    """The images with air in place of padding, so that interpolation does not smear it."""
    return torch.where(padding(batch), AIR_HU, batch.images) if batch.unit is Unit.HU else batch.images


def within_range(images: Tensor, source: Tensor) -> Tensor:
    """Limit the overshoot of an interpolation to the lowest and highest value of each case's own source."""
    flat, shape = source.detach().flatten(1), (-1, *[1] * (source.ndim - 1))
    return torch.minimum(torch.maximum(images, flat.amin(1).reshape(shape)), flat.amax(1).reshape(shape))
