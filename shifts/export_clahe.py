"""Contrast-limited adaptive histogram equalisation, as viewers and export scripts apply it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._albumentations import albumentations
from robustbench_rad.shifts._display import DisplayShift, each_plane
from robustbench_rad.shifts._ladder import Alter, Change, ladder

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_UNIT = "clip limit"


@register(
    id="shift.export.clahe",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="emulated",
    reference="Pizer et al. 1987, 10.1016/S0734-189X(87)80186-X; Zuiderveld 1994, Graphics Gems IV, 474",
    unit="clip limit",
)
@dataclass(frozen=True, kw_only=True)
class ExportClahe(DisplayShift):
    """CLAHE of what is shown, in 256 grey levels, by OpenCV through albumentations.

    Measured: ``contrast_ratio``, the standard deviation of the picture after over before (NaN for a flat one). Gradients pass
    straight through. 0 is the image itself.

    Attributes:
        levels: Clip limits: how far a grey level may be more frequent in a tile than all are on average.
        tiles: Tiles along each side.
    """

    unit: ClassVar[str] = _UNIT
    highest: ClassVar[float] = 100.0

    levels: tuple[Level, ...] = ladder(_UNIT, 1, 2, 3, 4, 8)
    tiles: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.tiles, int) or isinstance(self.tiles, bool) or not 1 <= self.tiles <= 64:
            raise ValueError(f"tiles: expected a whole number from 1 to 64, got {self.tiles!r}")

    def prepare(self, batch: Batch) -> Alter:
        """Nothing is shared but the contrast of the images."""
        before = batch.images.detach().flatten(1).std(1, correction=0)
        smallest = min(batch.images.shape[-2:])
        applicable = torch.full((len(batch),), smallest >= self.tiles, device=batch.device)
        reason = "" if smallest >= self.tiles else f"fewer than {self.tiles} pixels for {self.tiles} tiles"

        def alter(limit: float) -> Change:
            if reason:
                return Change(images=batch.images.clone(), applicable=applicable, reason=reason)
            grid, limits = (self.tiles, self.tiles), (limit, limit)
            transform = albumentations().CLAHE(clip_limit=limits, tile_grid_size=grid, p=1.0)
            images = torch.stack(
                [each_plane(case, lambda plane: transform(image=plane)["image"]) for case in batch.images]
            )
            after = images.detach().flatten(1).std(1, correction=0)
            return Change(
                images=images, measured={"contrast_ratio": torch.where(before > 0, after / before, torch.nan)}
            )

        return alter
