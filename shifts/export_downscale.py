"""A smaller picture on the way: shown smaller, stored, and brought back to size (thumbnails, slides, screen captures)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._albumentations import albumentations
from robustbench_rad.shifts._display import DisplayShift, each_plane
from robustbench_rad.shifts._ladder import Alter, Change, ladder
from robustbench_rad.shifts._levels import require_one_of

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_UNIT = "× smaller"
METHODS = ("area", "bilinear", "nearest")


@register(
    id="shift.export.downscale",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="emulated",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261 (pixelate)",
    unit="× smaller",
)
@dataclass(frozen=True, kw_only=True)
class ExportDownscale(DisplayShift):
    """The picture shrunk and enlarged again, in 256 grey levels, by OpenCV through albumentations.

    At the model's input size. Measured: ``scale_requested`` and ``scale``, the smaller side over the original one in whole
    pixels. An image that would be left without two pixels a side is not applicable. Gradients pass straight through. 1 is
    the image itself.

    Attributes:
        levels: How many times smaller each side is.
        shrink: ``area`` (each pixel the mean of those it covers), ``bilinear`` or ``nearest``, which alias.
        enlarge: ``bilinear``, ``nearest`` (visible pixels) or ``area``.
    """

    unit: ClassVar[str] = _UNIT
    neutral: ClassVar[float | None] = 1.0
    lowest: ClassVar[float] = 1.0
    highest: ClassVar[float] = 64.0

    levels: tuple[Level, ...] = ladder(_UNIT, 1.5, 2, 3, 4, 6)
    shrink: str = "area"
    enlarge: str = "bilinear"

    def __post_init__(self) -> None:
        require_one_of(self, "shrink", METHODS)
        require_one_of(self, "enlarge", METHODS)

    def prepare(self, batch: Batch) -> Alter:
        """Nothing is shared."""
        import cv2

        codes = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}
        pair = {"downscale": codes[self.shrink], "upscale": codes[self.enlarge]}
        side = min(batch.images.shape[-2:])

        def alter(factor: float) -> Change:
            left = int(side / factor)
            asked = batch.images.detach().new_full((len(batch),), 1.0 / factor)
            measured = {"scale_requested": asked, "scale": torch.full_like(asked, left / side)}
            if left < 2:
                nowhere = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
                reason = f"{side} pixels a side leave {left}"
                return Change(images=batch.images.clone(), measured=measured, applicable=nowhere, reason=reason)
            transform = albumentations().Downscale(scale_range=(1 / factor, 1 / factor), interpolation_pair=pair, p=1.0)
            images = torch.stack(
                [each_plane(case, lambda plane: transform(image=plane)["image"]) for case in batch.images]
            )
            return Change(images=images, measured=measured)

        return alter
