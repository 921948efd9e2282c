"""Sizes of attacks in the units a radiologist reads: grey levels, HU, percent of the foreground's range."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from robustbench_rad.conditions import Batch, Level, Unit, fraction
from robustbench_rad.errors import PlanError

OF_RANGE = "of display range"
HU = "HU"
PERCENT_OF_FOREGROUND = "% of foreground"
FOREGROUND_SHARE = 0.1  # of the 99.5th percentile: brighter is patient, darker is air

_SIZE = re.compile(r"^\s*([0-9./eE+-]+)\s*(HU|%)\s*$")


def size_level(value: float | str) -> Level:
    """Make a level from a fraction of the range, HU or percent of the foreground's range.

    >>> size_level("1/255").value == 1 / 255
    True
    >>> (size_level("5 HU").value, size_level("5 HU").unit, size_level("2 %").unit)
    (5.0, 'HU', '% of foreground')
    """
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is None:
        return Level(name=str(value), value=fraction(value), unit=OF_RANGE)
    unit = HU if found[2] == "HU" else PERCENT_OF_FOREGROUND
    return Level(name=f"{found[1]} {found[2]}", value=fraction(found[1]), unit=unit)


def ladder(*values: float | str) -> tuple[Level, ...]:
    """Levels from sizes, mildest first.

    >>> [level.unit for level in ladder("1/255", "5 HU")]
    ['of display range', 'HU']
    """
    return tuple(size_level(value) for value in values)


def sizes(level: Level, batch: Batch) -> Tensor:
    """The level as a share of the image's range [0, 1], ``(N,)``, one per case.

    Raises:
        PlanError: HU are asked for and the images are not in HU.
    """
    every = torch.ones(len(batch), device=batch.device)
    if level.unit == HU:
        if batch.limits_unit is not Unit.HU:
            raise not_in_hu(level, batch.modality)
        low, high = batch.limits
        return every * (level.value / (high - low))
    if level.unit == PERCENT_OF_FOREGROUND:
        return foreground_range(batch.images) * (level.value / 100)
    return every * level.value


def not_in_hu(level: Level, modality: str, *, where: str = "") -> PlanError:
    """Why a level in HU is refused for images that have none; ``where`` is put before it.

    >>> print(not_in_hu(size_level("5 HU"), "DX"))
    level 5 HU: expected images in HU, got DX images
      Give the level as a fraction of the display range, e.g. "1/255".
    """
    return PlanError(
        f"{where}level {level.name}: expected images in HU, got {modality} images",
        hint='Give the level as a fraction of the display range, e.g. "1/255".',
    )


def foreground_range(images: Tensor) -> Tensor:
    """Range ``(N,)`` from the 1st to the 99th percentile of the foreground.

    The foreground is what is brighter than a tenth of the 99.5th percentile: MR has no absolute scale, and most of an MR
    image is air.

    >>> round(foreground_range(torch.linspace(0, 1, 1001).reshape(1, 1, 1, 1001)).item(), 2)
    0.88
    """
    return torch.stack([_range(image.flatten().float()) for image in images])


def _range(values: Tensor) -> Tensor:
    ordered = values.sort().values
    foreground = ordered[ordered > FOREGROUND_SHARE * _quantile(ordered, 0.995)]
    if not len(foreground):
        return values.new_zeros(())
    return _quantile(foreground, 0.99) - _quantile(foreground, 0.01)


def _quantile(ordered: Tensor, share: float) -> Tensor:
    return ordered[round(share * (len(ordered) - 1))]
