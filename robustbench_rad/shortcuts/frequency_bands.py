"""Shortcut audit A9: the image without its fine structure, and without its coarse structure.

Anatomy and most disease are larger than a few millimetres; noise, kernel and compression are finer. Smooth (Gaussian)
filters in the Fourier domain have no ringing, and an image that is continued by its mirror image has no edge at its border.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Space, Variant
from robustbench_rad.errors import DataError
from robustbench_rad.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

PASSES = ("low-pass", "high-pass")
PER_MM, PER_PX = "cycles/mm", "cycles/px"
NO_SPACING = "the spacing of the pixels is not known; the bands in cycles/px are looked at instead"
SPACED = "the spacing of the pixels is known; the bands in cycles/mm are looked at instead"
BEYOND = "the pixels hold no frequency as high as this"


def band_level(value: str) -> Level:
    """The level of a band: ``"low-pass 0.1 cycles/mm"``; the number is the frequency at which half of the amplitude is left.

    Raises:
        ValueError: Another form, or a frequency that is not above 0.
    """
    parts = str(value).split()
    if len(parts) != 3 or parts[0] not in PASSES or parts[2] not in (PER_MM, PER_PX):
        raise ValueError(
            f'expected a band such as "low-pass 0.1 cycles/mm" or "high-pass 0.1 cycles/px", got {value!r}'
        )
    cutoff = float(parts[1])
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"a band needs a frequency above 0, got {value!r}")
    return Level(name=f"{parts[0]} {cutoff:g} {parts[2]}", value=cutoff, unit="")


def _ladder(unit: str, cutoffs: tuple[float, ...]) -> tuple[Level, ...]:
    return tuple(band_level(f"{name} {cutoff:g} {unit}") for name in PASSES for cutoff in cutoffs)


# Waves of 33, 12 and 5 mm; without spacing of 20, 8 and 3 pixels, which is the same for a chest film at 224 pixels.
LADDER = (*_ladder(PER_MM, (0.03, 0.08, 0.2)), *_ladder(PER_PX, (0.05, 0.13, 0.3)))


@register(
    id="shortcut.frequency-bands",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Gichoya et al. 2022, AI recognition of patient race in medical imaging, doi:10.1016/S2589-7500(22)00063-2",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class FrequencyBands(Condition):
    """Low-pass and high-pass images, in cycles per millimetre where the spacing of the pixels is known, else per pixel.

    Levels: ``low-pass 0.05 cycles/mm`` keeps ``exp(-ln 2 (f / 0.05)²)`` of the amplitude at frequency f, ``high-pass`` the rest
    and the mean grey value of the image, clipped to [0, 1]. A case has levels of one of the two units, and no pass is spent on
    those of the other. A level beyond what the pixels hold is not applicable. Measured per level: ``clipped_share`` of pixels.
    """

    levels: tuple[Level, ...] = LADDER

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from its name."""
        return band_level(str(value))

    def passes(self, findings: int) -> float:
        """A case is asked about the levels of one unit."""
        del findings
        per_mm = sum(level.name.endswith(PER_MM) for level in self.levels)
        return float(max(per_mm, len(self.levels) - per_mm))

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Filter, once per level.

        Raises:
            DataError: Not display images.
        """
        del query, state
        if batch.space is not Space.DISPLAY:
            raise DataError(f"{self.id}: expected display images, got {batch.space} images")
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        spacing = _spacing(batch)
        known = spacing.isfinite().all(1) & (spacing > 0).all(1)
        for level in self.levels:
            kind, _, unit = level.name.split()
            pixels = torch.where(known[:, None], spacing, 1.0) if unit == PER_MM else torch.ones_like(spacing)
            wanted = known if unit == PER_MM else ~known
            applicable = wanted & (level.value < 0.5 / pixels[:, -2:].amax(1))
            reason = (NO_SPACING if unit == PER_MM else SPACED) if not bool(wanted.all()) else BEYOND
            if not bool(applicable.any()):
                margins = torch.full_like(batch.labels, torch.nan)
                yield Variant(level=level, margins=margins, applicable=applicable, reason=reason)
                continue
            images = low_pass(batch.images, pixels, level.value)
            if kind == "high-pass":
                images = batch.images - images + batch.images.flatten(1).mean(1).view(-1, *[1] * (images.ndim - 1))
            clipped = ((images < 0) | (images > 1)).flatten(1).float().mean(1).masked_fill(~applicable, torch.nan)
            measurements.append(Measurement(quantity="clipped_share", values=clipped, level=level.name))
            whole = bool(applicable.all())
            yield Variant(level=level, images=images.clamp(0, 1), applicable=applicable, reason="" if whole else reason)


def _spacing(batch: Batch) -> Tensor:
    axes = batch.images.ndim - 2
    if batch.spacing_mm is None or batch.spacing_mm.shape[1] != axes:
        return torch.full((len(batch), axes), torch.nan, device=batch.device)
    return batch.spacing_mm.to(batch.device)


def low_pass(images: Tensor, spacing: Tensor, cutoff: float) -> Tensor:
    """Gaussian low-pass, half of the amplitude at ``cutoff``: convolution with a Gaussian of the mirrored, endless image.

    Args:
        images: ``(N, 1, ...)``.
        spacing: ``(N, axes)`` distance of pixels.
        cutoff: Cycles per unit of the spacing.

    Returns:
        Of the same shape; a constant image is left as it is, and the mean is kept.

    >>> bool(low_pass(torch.full((1, 1, 8, 8), 0.3), torch.ones(1, 2), 0.1).allclose(torch.full((1, 1, 8, 8), 0.3)))
    True
    """
    for axis in range(2, images.ndim):
        length = images.shape[axis]
        line = torch.cat([images, images.flip(axis)], dim=axis)
        frequency = torch.fft.rfftfreq(2 * length, device=images.device) / spacing[:, axis - 2, None]
        transfer = torch.exp(-math.log(2) * (frequency / cutoff) ** 2)
        shape = [len(images)] + [1] * (images.ndim - 1)
        shape[axis] = transfer.shape[1]
        spectrum = torch.fft.rfft(line, dim=axis) * transfer.view(shape)
        images = torch.fft.irfft(spectrum, n=2 * length, dim=axis).narrow(axis, 0, length)
    return images
