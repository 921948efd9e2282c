"""JPEG on the way to the viewer: stated by the compression ratio that is reached, or by the encoder's quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, fraction
from robustbench_rad.registry import register
from robustbench_rad.shifts._albumentations import albumentations
from robustbench_rad.shifts._display import DisplayShift, Grey, from_grey, grey_planes
from robustbench_rad.shifts._ladder import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robustbench_rad.conditions import Batch

RATIO, QUALITY = ": 1", "quality"
BEST, WORST = 100, 1


def _jpeg_level(value: float | str) -> Level:
    text = str(value).strip().lower()
    if text.startswith("q"):
        quality = float(text[1:])
        if quality != int(quality) or not WORST <= quality <= BEST:
            raise ValueError(f"expected a quality from q{WORST} to q{BEST}, got {value}")
        return Level(name=text, value=quality, unit=QUALITY)
    ratio = fraction(text.removesuffix(":1").strip())
    if not 1.0 <= ratio <= 1000.0:
        raise ValueError(f"expected a compression ratio from 1 to 1000 or a quality such as q50, got {value}")
    return Level(name=text.removesuffix(":1").strip(), value=ratio, unit=RATIO)


@register(
    id="shift.export.jpeg",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="emulated",
    reference="European Society of Radiology 2011, 10.1007/s13244-011-0071-x (10:1 to 15:1 for radiographs)",
    unit=": 1",
)
@dataclass(frozen=True, kw_only=True)
class ExportJpeg(DisplayShift):
    """Lossy JPEG of what is shown, by libjpeg through albumentations.

    A ratio is that of the bytes of the 8-bit picture to those of the file; for each image the best quality is taken that
    reaches it. Emulated, because the picture has the model's input size: an export compresses the native grid. A ratio that
    the lowest quality does not reach (a small picture, whose tables alone are larger) is not applicable. The ratio 1 is the
    image itself. Measured: ``compression_ratio_requested`` (for a ratio), ``compression_ratio`` and ``jpeg_quality``.
    Gradients pass straight through.

    Attributes:
        levels: Compression ratios (``10`` or ``10:1``), or qualities (``q50``), mildest first.
    """

    unit: ClassVar[str] = RATIO
    neutral: ClassVar[float | None] = 1.0

    levels: tuple[Level, ...] = tuple(_jpeg_level(ratio) for ratio in (5, 10, 15, 25, 50))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a compression ratio or a quality."""
        return _jpeg_level(value)

    def is_neutral(self, level: Level) -> bool:
        """Whether nothing is compressed: the ratio 1, not the quality 1."""
        return level.unit == RATIO and level.value == 1.0

    def prepare_levels(self, batch: Batch) -> Callable[[Level], Change]:
        """Round to 256 grey levels once."""
        pictures = [grey_planes(image) for image in batch.images]

        def alter(level: Level) -> Change:
            chosen = [int(level.value) if level.unit == QUALITY else best_quality(p, level.value) for p in pictures]
            done = [compressed(planes, quality or WORST) for planes, quality in zip(pictures, chosen, strict=True)]
            ratios = [_ratio(planes, quality or WORST) for planes, quality in zip(pictures, chosen, strict=True)]
            reached = torch.tensor([quality is not None for quality in chosen], device=batch.device)
            new = batch.images.detach().new_tensor
            measured = {"compression_ratio": new(ratios), "jpeg_quality": new([float(q or WORST) for q in chosen])}
            if level.unit == RATIO:
                measured["compression_ratio_requested"] = torch.full_like(measured["compression_ratio"], level.value)
            return Change(
                images=torch.stack([from_grey(p, image) for p, image in zip(done, batch.images, strict=True)]),
                measured=measured,
                applicable=reached,
                reason="" if all(chosen) else "the ratio is not reached at the lowest quality",
            )

        return alter


def compressed(planes: Sequence[Grey], quality: int) -> list[Grey]:
    """Pictures as a JPEG of that quality shows them."""
    transform = albumentations().ImageCompression(compression_type="jpeg", quality_range=(quality, quality), p=1.0)
    return [transform(image=plane)["image"] for plane in planes]


def best_quality(planes: Sequence[Grey], ratio: float) -> int | None:
    """Highest quality at which the pictures are at least ``ratio`` times smaller than their pixels; None without one."""
    if _ratio(planes, WORST) < ratio:
        return None
    low, high = WORST, BEST + 1  # low reaches the ratio, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _ratio(planes, middle) >= ratio else (low, middle)
    return low


def _ratio(planes: Sequence[Grey], quality: int) -> float:
    """Bytes of the pixels over bytes of the files, by the encoder that albumentations uses."""
    import cv2

    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    files = sum(len(cv2.imencode(".jpg", plane, settings)[1]) for plane in planes)
    return sum(plane.size for plane in planes) / files
