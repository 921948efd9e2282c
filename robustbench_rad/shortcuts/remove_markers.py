"""Shortcut audit A4, the other way round: markers and frames that the image has are taken out.

What is inserted is drawn by us; what is removed is what the data set really has. The hole is continued from its surroundings,
so a model may answer the smooth patch instead of what is gone: the placebo is a patch of the same shape elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.registry import register
from robustbench_rad.shortcuts import anatomy
from robustbench_rad.shortcuts._beside import Search, frame_masks, frame_widths, marker_masks
from robustbench_rad.shortcuts._insertion import Paired, paired_levels

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Applied, Batch, ModelQuery, State

NAMES = ("markers", "frame")
NOTHING = {"markers": "no marker or text found near the border", "frame": "no uniform frame found"}
_GLOW = 0.012  # a found letter is grown by this share of the shorter side, for its blurred rim
_MOST_FRAME = 0.25


@register(
    id="shortcut.remove-markers",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    modalities=("CR", "DX", "MG"),
    reference="Gortler et al. 1996, doi:10.1145/237170.237200 (continuing the surroundings); Serra 1982 (top-hat)",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class RemoveMarkers(Paired):
    """Take out bright letters and markers near the border, or a uniform frame, and continue the image into the hole.

    The placebo continues the image into a hole of the same shape where nothing was found: for markers their mirror image (left
    to right, top to bottom or both, whichever meets least), for a frame a band as wide, just inside of it. Where nothing is
    found the level is not applicable. Measured besides: ``found``, 1 where something was found, per level.

    Attributes:
        levels: ``markers``, ``frame``.
        contrast: Of a marker, above its surroundings, in shares of the display range.
        steepness: Of its rim, from pixel to pixel, likewise; bones are less steep.
        brightness: Least of a marker, likewise.
        stroke_share: Widest stroke of a letter, as a share of the shorter side.
        border_share: A marker's centre lies within this share of a border.
    """

    names: ClassVar[tuple[str, ...]] = NAMES

    levels: tuple[Level, ...] = field(default_factory=lambda: paired_levels(*NAMES))
    contrast: float = 0.2
    steepness: float = 0.3
    brightness: float = 0.45
    stroke_share: float = 0.035
    border_share: float = 0.2

    def __post_init__(self) -> None:
        """Refuse shares without meaning.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        for name in (f.name for f in fields(self) if f.name != "levels"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected a share in (0, 1], got {getattr(self, name)}")

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Take out what is found, and measure in which cases something was."""
        del state
        self.refuse(batch)
        names = dict.fromkeys(level.name for level in self.levels if level.name in self.names)
        found = {name: self._found(batch, name) for name in names}
        applied = super().apply(batch, query, found)
        applied.measurements.extend(
            Measurement(quantity="found", values=mask.flatten(1).any(1).float(), level=name)
            for name, mask in found.items()
        )
        return applied

    def pair(self, batch: Batch, state: State | None, name: str) -> tuple[Tensor, Tensor, Tensor, str]:
        """The image without what was found, and with a patch of the same shape elsewhere."""
        found = self._found(batch, name) if state is None else state[name]
        elsewhere = _inside(found) if name == "frame" else _mirrored(found, batch.anatomy)
        applicable = found.flatten(1).any(1) & elsewhere.flatten(1).any(1)
        reason = "" if bool(applicable.all()) else NOTHING[name]
        return without(batch.images, found), without(batch.images, elsewhere), applicable, reason

    def _found(self, batch: Batch, name: str) -> Tensor:
        if name == "frame":
            return frame_masks(frame_widths(batch.images, _MOST_FRAME), batch.images.shape[-2:])
        search = Search(
            contrast=self.contrast,
            steepness=self.steepness,
            brightness=self.brightness,
            stroke=self.stroke_share,
            border=self.border_share,
        )
        return anatomy.dilated(
            marker_masks(batch.images, batch.anatomy, search), max(round(_GLOW * min(batch.images.shape[-2:])), 1)
        )


def without(images: Tensor, holes: Tensor) -> Tensor:
    """Images continued into the holes ``(N, 1, H, W)``; bit for bit the same elsewhere."""
    filled = images.clamp(0.0, 1.0)
    cases = holes.flatten(1).any(1).nonzero()[:, 0]  # most have none
    if len(cases):
        continued = anatomy.continued(images[cases], 1.0 - holes[cases].to(images))
        filled[cases] = torch.where(holes[cases], continued.clamp(0.0, 1.0), filled[cases])
    return filled


def _mirrored(found: Tensor, organs: Tensor | None) -> Tensor:
    """For each case the mirror image of what was found that meets least of it and of the anatomy, without what it meets."""
    avoided = found if organs is None else found | organs.bool()
    candidates = torch.stack([found.flip(axes) for axes in ((3,), (2,), (2, 3))])
    met = (candidates & avoided).flatten(2).sum(2)
    chosen = candidates[met.argmin(0), torch.arange(len(found), device=found.device)]
    return chosen & ~found


def _inside(frames: Tensor) -> Tensor:
    """A band of as many lines as the frame has on each side, just inside of it."""
    height, width = frames.shape[-2:]
    rows, columns = frames.all(3)[:, 0], frames.all(2)[:, 0]
    widths = torch.stack([line.long().cumprod(1).sum(1) for line in (rows, rows.flip(1), columns, columns.flip(1))], 1)
    return frame_masks(2 * widths, torch.Size([height, width])) & ~frames
