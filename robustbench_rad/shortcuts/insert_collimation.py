"""Shortcut audit A4: edges of collimator shutters, dark outside, and what the score does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts.xr_collimation import open_field
from robustbench_rad.shortcuts._insertion import Drawn, Insertion, paired_levels, vignette

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

BORDER = {"2 % per side": 0.02, "4 % per side": 0.04, "8 % per side": 0.08, "12 % per side": 0.12}


@register(
    id="shortcut.insert-collimation",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    modalities=("CR", "DX", "MG"),
    reference="DICOM PS3.3 C.7.6.11 display shutter, C.8.7.3 X-ray collimator",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class InsertCollimation(Insertion):
    """Darken the border up to the straight edges of shutters; the placebo is a shade that fades inwards, without an edge.

    The field is a rectangle turned by a degree or two. The shade is as strong in all as the shutters, but spread over the outer
    40 % of the image. At the border itself it is half (4 % per side) to three quarters (8 %) as strong, so a model that reads
    nothing but the mean grey of the border has its effect found at half to a third of its size.

    Attributes:
        levels: Border on each side, ``2 % per side``, ``4 % per side``, ``8 % per side``, ``12 % per side``.
        largest_turn_deg: The field is turned by up to this many degrees either way, drawn for each case.
        penumbra: Width of the edge as a share of the shorter side.
        shutter_value: Signal outside of the field.
    """

    names: ClassVar[tuple[str, ...]] = tuple(BORDER)

    levels: tuple[Level, ...] = paired_levels("4 % per side", "8 % per side")
    largest_turn_deg: float = 1.5
    penumbra: float = 0.008
    shutter_value: float = 0.02

    def __post_init__(self) -> None:
        """Refuse options without meaning.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        for name, most in (("largest_turn_deg", 10.0), ("penumbra", 0.1), ("shutter_value", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected 0 to {most:g}, got {getattr(self, name)}")

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """How much of every pixel the shutters cover, and the shade."""
        shape = batch.images.shape[-2:]
        turns = (2.0 * self.draws(batch, 1, "turn")[:, 0] - 1.0) * math.radians(self.largest_turn_deg)
        shutter = 1.0 - open_field(torch.empty(len(batch), 1, *shape), turns, BORDER[name], self.penumbra)
        return Drawn(real=shutter, placebos=(vignette(shape).expand(shutter.shape),))

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """Dark behind the shutters; nothing that is darker already becomes brighter."""
        del name
        return images - drawn * (images - self.shutter_value).clamp_min(0.0)
