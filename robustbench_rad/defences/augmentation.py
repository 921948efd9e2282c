"""Test-time augmentation: what the model says of an image, its mirror images and small rotations, averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.defences.averaging import Average

AXES = {"horizontal": -1, "vertical": -2, "depth": -3}


def rotated(display: Tensor, degrees: float) -> Tensor:
    """Rotate about the centre, counter-clockwise, bilinear, black outside; the pixels are square.

    Args:
        display: ``(N, C, H, W)``.
        degrees: Angle.

    >>> corner = torch.zeros(1, 1, 3, 3); corner[..., 0, 2] = 1.0
    >>> rotated(corner, 90.0)[0, 0].round().abs().tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    height, width = display.shape[-2:]
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turn = display.new_tensor([[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]])
    grid = functional.affine_grid(turn.expand(len(display), 2, 3), list(display.shape), align_corners=False)
    return functional.grid_sample(display, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The image, each of its flips and each of its rotations; flips are not rotated.

    The image as it is comes last, so that what hooks see last (features, Grad-CAM) belongs to it.

    Attributes:
        flips: Along ``horizontal``, ``vertical`` or ``depth`` axes.
        rotations_degrees: Angles; planes only.
        average: Mean of probabilities or of log-odds.
    """

    version: ClassVar[int] = 1
    flips: tuple[str, ...]
    rotations_degrees: tuple[float, ...]
    average: Average

    def views(self, display: Tensor) -> Iterator[Tensor]:
        for flip in self.flips:
            yield torch.flip(display, (AXES[flip],))
        for degrees in self.rotations_degrees:
            yield rotated(display, degrees)
        yield display
