"""Shortcut audit A4: a black or white frame around the image, and what the score does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shortcuts._insertion import Drawn, Insertion, paired_levels, vignette

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

GREY = {"black frame": 0.0, "white frame": 1.0}


@register(
    id="shortcut.insert-border",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    reference="Maguolo & Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class InsertBorder(Insertion):
    """Lay a black or white frame over the border; the placebo is a shade that fades inwards, without an edge.

    The shade is black or white as the frame, and as strong in all, but spread over the outer 40 % of the image. At the border
    itself it is about half as strong as a frame of 3 %, so a model that reads nothing but the mean grey of the border has its
    effect found at half its size. In a volume every slice has the frame.

    Attributes:
        levels: ``black frame``, ``white frame``.
        width_share: Width of the frame as a share of the shorter side.
    """

    names: ClassVar[tuple[str, ...]] = tuple(GREY)
    volumes: ClassVar[bool] = True
    only_projections: ClassVar[bool] = False

    levels: tuple[Level, ...] = paired_levels(*GREY)
    width_share: float = 0.03

    def __post_init__(self) -> None:
        """Refuse a width without meaning.

        Raises:
            ValueError: Not in (0, 0.2].
        """
        super().__post_init__()
        if not 0.0 < self.width_share <= 0.2:
            raise ValueError(f"width_share: expected a share in (0, 0.2], got {self.width_share}")

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """The frame, and the shade."""
        del name  # the black and the white one have the same shape
        shape = batch.images.shape[-2:]
        frame = framed(shape, max(round(self.width_share * min(shape)), 1))
        shape_of_all = (len(batch), 1, *shape)
        return Drawn(real=frame.expand(shape_of_all), placebos=(vignette(shape).expand(shape_of_all),))

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """The grey of the frame where it is."""
        return images + drawn * (GREY[name] - images)


def framed(shape: torch.Size, width_px: int) -> Tensor:
    """Frame ``(H, W)``: 1 on it, 0 inside.

    >>> framed(torch.Size([3, 4]), 1).sum().item()
    10.0
    """
    frame = torch.ones(shape)
    frame[width_px : shape[0] - width_px, width_px : shape[1] - width_px] = 0.0
    return frame
