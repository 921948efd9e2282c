"""A detour through fewer pixels: an archive, a viewer or a preprocessor shrank the image and somebody enlarged it again.

Worked on the native grid in physical space, where the pixels are that are lost; the model's own resizing comes after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._any_image import AnyImageShift, padding, within_range, without_padding
from robustbench_rad.shifts._ladder import Alter, Change, ladder
from robustbench_rad.shifts._levels import require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "× fewer pixels per side"
METHODS = ("nearest", "bilinear", "area", "cubic")


@register(
    id="shift.export.resample",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="× fewer pixels per side",
)
@dataclass(frozen=True, kw_only=True)
class ExportResample(AnyImageShift):
    """An image shrunk and enlarged again to its own size; each slice of a volume for itself.

    Padding of CT counts as air and is put back. Measured: ``factor_requested`` and ``factor`` along the rows as whole pixels
    allow it, and ``resampling_rms`` in the unit of the image. An image too small to lose a pixel is not applicable.

    Attributes:
        levels: Factor between the sides; 1 is the image itself.
        method: ``nearest``, ``bilinear`` (without antialiasing, as many pipelines do it), ``area`` (mean, then bilinear) or
            ``cubic`` (without antialiasing).
    """

    unit: ClassVar[str] = _UNIT
    neutral: ClassVar[float | None] = 1.0
    lowest: ClassVar[float] = 1.0
    highest: ClassVar[float] = 64.0

    levels: tuple[Level, ...] = ladder(_UNIT, 1.5, 2, 3, 4, 6)
    method: str = "bilinear"

    def __post_init__(self) -> None:
        require_one_of(self, "method", METHODS)

    def prepare(self, batch: Batch) -> Alter:
        """Put air in place of padding."""
        outside, source = padding(batch), without_padding(batch)
        height, width = batch.images.shape[-2:]
        ones = torch.ones(len(batch), device=batch.device)

        def alter(factor: float) -> Change:
            small = max(1, round(height / factor)), max(1, round(width / factor))
            images = torch.where(outside, batch.images, within_range(detour(source, small, self.method), source))
            fewer = small != (height, width)
            error = (images - batch.images).detach().flatten(1).square().mean(1).sqrt()
            return Change(
                images=images,
                measured={
                    "factor_requested": ones * factor,
                    "factor": ones * height / small[0],
                    "resampling_rms": error,
                },
                applicable=ones > 0.0 if fewer else ones < 0.0,
                reason="" if fewer else "too few pixels to lose one",
            )

        return alter


def detour(images: Tensor, small: tuple[int, int], method: str) -> Tensor:
    """Shrink every slice to ``small`` and enlarge it again.

    >>> detour(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), (1, 1), "area").flatten().tolist()
    [3.0, 3.0, 3.0, 3.0]
    """
    planes = images.reshape(images.shape[0], -1, *images.shape[-2:])
    down = {"nearest": "nearest-exact", "bilinear": "bilinear", "area": "area", "cubic": "bicubic"}[method]
    up = "bilinear" if method == "area" else down
    aligned = {"align_corners": False}
    shrunk = functional.interpolate(
        planes, size=small, mode=down, **({} if down in ("nearest-exact", "area") else aligned)
    )
    grown = functional.interpolate(
        shrunk, size=planes.shape[-2:], mode=up, **({} if up == "nearest-exact" else aligned)
    )
    return grown.reshape(images.shape)
