"""Shortcut audit A8: the image is cut into patches, and the patches change places.

Organs, and most disease, are gone with the layout; what is the same everywhere stays: noise, the reconstruction kernel,
brightness. What a model still tells on such images, it tells from within a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Space, Variant
from robustbench_rad.errors import DataError
from robustbench_rad.registry import register
from robustbench_rad.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

TOO_FEW = "the image is no larger than a few patches, so nothing can change places"
LEAST = 4  # patches


def patch_level(value: float | str) -> Level:
    """The level of a patch of this share of the shorter side: ``"1/28"`` is 8 pixels of 224, ``"1/28 draw 2"`` other draws.

    Raises:
        ValueError: A share outside of (0, 1/2].
    """
    text, _, draw = str(value).partition(" draw ")
    share = Fraction(text).limit_denominator(10_000)
    if not 0 < share <= Fraction(1, 2):
        raise ValueError(f"a patch takes a share in (0, 1/2] of the shorter side, got {value}")
    name = f"{share}" if not draw else f"{share} draw {int(draw)}"
    return Level(name=name, value=float(share), unit="of the side")


@register(
    id="shortcut.patch-shuffle",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Brendel and Bethge 2019, Approximating CNNs with Bag-of-local-Features models, arXiv:1904.00760",
    unit="of the side",
)
@dataclass(frozen=True, kw_only=True)
class PatchShuffle(Condition):
    """Let square patches change places, each case by a permutation of its own.

    Levels: side of a patch as a share of the shorter side of the image, ``1/28`` and ``1/14`` (8 and 16 pixels of 224);
    ``"1/28 draw 2"`` is another permutation of the same patches. What does not fill a patch stays where it is, at the rim.
    In volumes the patches are cubes, thinner where there are fewer slices. Measured: ``patch_px``.
    """

    levels: tuple[Level, ...] = (patch_level("1/28"), patch_level("1/14"))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a share."""
        return patch_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Shuffle, once per level.

        Raises:
            DataError: Not display images.
        """
        del query, state
        if batch.space is not Space.DISPLAY:
            raise DataError(f"{self.id}: expected display images, got {batch.space} images")
        sides = {level.name: patch_sides(batch.images.shape[2:], level.value) for level in self.levels}
        measurements = [
            Measurement(
                quantity="patch_px",
                values=torch.full((len(batch),), float(size[-1]), device=batch.device),
                level=name,
            )
            for name, size in sides.items()
        ]
        return Applied(
            variants=(self._variant(batch, level, sides[level.name]) for level in self.levels),
            measurements=measurements,
        )

    def _variant(self, batch: Batch, level: Level, size: tuple[int, ...]) -> Variant:
        count = 1
        for length, side in zip(batch.images.shape[2:], size, strict=True):
            count *= length // side
        if count < LEAST:
            none = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
            margins = torch.full_like(batch.labels, torch.nan)
            return Variant(level=level, margins=margins, applicable=none, reason=TOO_FEW)
        draws = [
            torch.rand(
                count, generator=generator(batch.device, seed, self.id, self.version, level.name), device=batch.device
            )
            for seed in batch.seeds
        ]
        return Variant(level=level, images=shuffled(batch.images, size, torch.stack(draws).argsort(1)))


def patch_sides(shape: torch.Size, share: float) -> tuple[int, ...]:
    """Side of a patch in pixels along each axis of images of this shape.

    >>> patch_sides(torch.Size([5, 224, 256]), 1 / 28)
    (5, 8, 8)
    """
    side = max(1, round(share * min(shape[-2:])))
    return tuple(min(side, length) for length in shape)


def shuffled(images: Tensor, size: tuple[int, ...], order: Tensor) -> Tensor:
    """Images ``(N, 1, ...)`` whose patches change places; the middle is cut into patches, the rim stays.

    Args:
        images: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)``.
        size: Of a patch, one number per axis.
        order: ``(N, P)`` int64, a permutation of the P patches of each image: place p shows patch ``order[p]``.

    >>> row = torch.arange(6.0).view(1, 1, 1, 6)
    >>> shuffled(row, (1, 2), torch.tensor([[2, 0, 1]])).flatten().tolist()
    [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]
    """
    counts = [length // side for length, side in zip(images.shape[2:], size, strict=True)]
    starts = [(length - many * side) // 2 for length, many, side in zip(images.shape[2:], counts, size, strict=True)]
    middle: tuple[Any, ...] = (
        ...,
        *(slice(s, s + many * side) for s, many, side in zip(starts, counts, size, strict=True)),
    )
    axes = len(size)
    split = [number for pair in zip(counts, size, strict=True) for number in pair]
    cut = images[middle].reshape(len(images), *split)
    places, inner = list(range(1, 2 * axes, 2)), list(range(2, 2 * axes + 1, 2))
    patches = cut.permute(0, *places, *inner).reshape(len(images), order.shape[1], -1)
    moved = patches.gather(1, order[..., None].expand_as(patches)).reshape(len(images), *counts, *size)
    together = [
        0,
        *(axis for pair in zip(range(1, axes + 1), range(axes + 1, 2 * axes + 1), strict=True) for axis in pair),
    ]
    result = images.clone()
    result[middle] = moved.permute(*together).reshape(images[middle].shape)
    return result
