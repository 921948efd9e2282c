"""Corruptions of photographs by their ImageNet-C names, on one float plane in [0, 1]: to compare with published tables.

No scanner makes them: their noise is 11 to 54 times that of a radiograph at a twentieth of its exposure, and white.
They are shown and never judged. The constants of the five severities are those of ImageNet-C; arithmetic is in float32, without
its steps through 8 bits and three channels, and random draws belong to the case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.shifts._display import DisplayShift
from robustbench_rad.shifts._ladder import Alter, Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from robustbench_rad.conditions import Batch

UNIT = "severity"


def severity(value: float | str) -> Level:
    """Make a level from a severity, 0 (the image itself) to 5.

    Raises:
        ValueError: Not one of these.
    """
    number = float(value)
    if number not in range(6):
        raise ValueError(f"expected a severity from 0 to 5, got {value}")
    return Level(name=f"{number:g}", value=number, unit=UNIT)


@dataclass(frozen=True, kw_only=True)
class GenericShift(DisplayShift):
    """Base of the corruptions.

    Attributes:
        levels: Severities.
    """

    unit: ClassVar[str] = UNIT
    neutral: ClassVar[float | None] = 0.0
    parameter: ClassVar[str] = ""
    constants: ClassVar[tuple[Any, ...]] = ()

    levels: tuple[Level, ...] = tuple(severity(number) for number in range(1, 6))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a severity."""
        return severity(value)

    def prepare(self, batch: Batch) -> Alter:
        """Draw once what the severities share; measured: the first constant, by its name."""
        corrupt = self.corruption(batch)

        def alter(number: float) -> Change:
            constant = self.constants[int(number) - 1]
            first = constant[0] if isinstance(constant, tuple) else constant
            value = batch.images.detach().new_full((len(batch),), float(first))
            return Change(images=corrupt(constant).clamp(0.0, 1.0), measured={self.parameter: value})

        return alter

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        """What a constant makes of the images."""
        raise NotImplementedError


def planes(images: Tensor) -> Tensor:
    """Every slice as an image of its own, ``(N D, 1, H, W)``."""
    return images.reshape(-1, 1, *images.shape[-2:])


def gaussian_blurred(images: Tensor, sd_px: float, *, truncate: float = 4.0) -> Tensor:
    """Each slice blurred by a Gaussian, its border pixels continued outward."""
    radius = max(1, round(truncate * sd_px))
    place = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (place / sd_px) ** 2)
    weights = weights / weights.sum()
    wide = functional.pad(planes(images), (radius,) * 4, mode="replicate")
    across = functional.conv2d(wide, weights[None, None, None, :])
    return functional.conv2d(across, weights[None, None, :, None]).reshape(images.shape)
