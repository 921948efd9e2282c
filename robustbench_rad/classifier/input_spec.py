"""How an image becomes what the model was trained on: window, size, channels, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional


class Resize(StrEnum):
    """How an image is brought to the model's size."""

    STRETCH = "stretch"
    PAD = "pad"
    CROP = "crop"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What the model was trained on.

    Attributes:
        size: Height and width (or depth, height, width) of the model's input.
        channels: Channels of the network; the one grey plane is replicated to them.
        range: Physical values mapped to 0 and 1 of display space (radiograph, MR).
        window_hu: Lower and upper end of the CT window mapped to 0 and 1; excludes ``range``.
        mean: Per-channel mean subtracted in network space.
        std: Per-channel divisor in network space.
        resize: How the aspect ratio is treated.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
        antialias: Low-pass before shrinking.
    """

    size: tuple[int, ...]
    channels: int = 1
    range: tuple[float, float] = (0.0, 1.0)
    window_hu: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize = Resize.STRETCH
    interpolation: str = "bilinear"
    antialias: bool = True

    @property
    def limits(self) -> tuple[float, float]:
        """Physical values of display 0 and display 1."""
        return self.window_hu or self.range

    def display(self, physical: Tensor) -> Tensor:
        """Bring physical images to display space; differentiable.

        Args:
            physical: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` in the unit of :attr:`limits`.

        Returns:
            ``(N, 1, *size)`` float32 in [0, 1]; outside the window the value is clipped as the viewer clips it.
        """
        low, high = self.limits
        windowed = ((physical.float() - low) / (high - low)).clamp(0.0, 1.0)
        return self.resized(windowed).clamp(0.0, 1.0)

    def resized(self, images: Tensor) -> Tensor:
        """Bring images of any size to :attr:`size`, without touching the value range (bicubic may overshoot)."""
        size = self.size
        if tuple(images.shape[2:]) == size:
            return images
        if self.resize is not Resize.STRETCH:
            size = _fit_aspect(images.shape[2:], self.size, self.resize)
        return _centre(_interpolate(images, size, self), self.size)

    def display_spacing(self, spacing_mm: Sequence[float], native: Sequence[int]) -> tuple[float, ...]:
        """Millimetres per display pixel, of an image of ``native`` pixels whose own spacing is given.

        >>> InputSpec(size=(224, 224)).display_spacing((0.2, 0.2), (2240, 1120))
        (2.0, 1.0)
        >>> InputSpec(size=(224, 224), resize=Resize.PAD).display_spacing((0.2, 0.2), (2240, 1120))
        (2.0, 2.0)
        """
        scales = [given / target for given, target in zip(native, self.size, strict=True)]
        if self.resize is not Resize.STRETCH and tuple(native) != self.size:
            scales = [max(scales) if self.resize is Resize.PAD else min(scales)] * len(scales)
        return tuple(spacing * scale for spacing, scale in zip(spacing_mm, scales, strict=True))

    def display_places(self, native: Sequence[int]) -> tuple[Tensor, ...]:
        """Row and column (slice, row, column) of the display that the centres of an image's rows and columns fall on.

        Args:
            native: Spatial size of the image.

        Returns:
            Per axis ``(native,)`` int64; below 0, or :attr:`size` and above, where :meth:`resized` crops.

        >>> [axis.tolist() for axis in InputSpec(size=(2, 2), resize=Resize.PAD).display_places((4, 1))]
        [[0, 0, 1, 1], [0]]
        >>> [axis.tolist() for axis in InputSpec(size=(2, 2), resize=Resize.CROP).display_places((4, 2))]
        [[-1, 0, 1, 2], [0, 1]]
        """
        size = self.size
        if tuple(native) != size and self.resize is not Resize.STRETCH:
            size = _fit_aspect(native, self.size, self.resize)
        return tuple(
            ((torch.arange(given, dtype=torch.float64) + 0.5) * target / given).long() + (own - target) // 2
            for given, target, own in zip(native, size, self.size, strict=True)
        )

    def network(self, display: Tensor) -> Tensor:
        """Replicate the grey plane to the network's channels and normalise."""
        shape = (1, self.channels, *[1] * (display.ndim - 2))
        mean = display.new_tensor(self.mean).expand(self.channels).reshape(shape)
        std = display.new_tensor(self.std).expand(self.channels).reshape(shape)
        return (display - mean) / std


def _fit_aspect(native: Sequence[int], size: tuple[int, ...], resize: Resize) -> tuple[int, ...]:
    scales = [target / given for target, given in zip(size, native, strict=True)]
    scale = min(scales) if resize is Resize.PAD else max(scales)
    return tuple(max(1, round(given * scale)) for given in native)


def _interpolate(images: Tensor, size: tuple[int, ...], spec: InputSpec) -> Tensor:
    if images.ndim == 5:
        return _interpolate_volume(images, size, spec)
    if spec.interpolation == "nearest":
        return functional.interpolate(images, size=size, mode="nearest")
    return functional.interpolate(
        images, size=size, mode=spec.interpolation, align_corners=False, antialias=spec.antialias
    )


def _interpolate_volume(images: Tensor, size: tuple[int, ...], spec: InputSpec) -> Tensor:
    """Within slices first, then across them: torch has no antialiased or cubic interpolation of volumes."""
    n, channels, depth = images.shape[:3]
    planes = _interpolate(images.flatten(0, 1).flatten(0, 1)[:, None], size[1:], spec)
    columns = planes.reshape(n * channels, 1, depth, size[1] * size[2])
    return _interpolate(columns, (size[0], size[1] * size[2]), spec).reshape(n, channels, *size)


def _centre(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pad with 0 or crop, symmetrically, to ``size``."""
    pads: list[int] = []
    for given, target in zip(reversed(images.shape[2:]), reversed(size), strict=True):
        missing = target - given
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(images, pads) if any(pads) else images
