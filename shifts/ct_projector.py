"""Line integrals of a CT slice: parallel beam, Joseph's method, at a quarter of the resolution.

Everything is in pixel units: the detector pitch is a fixed fraction of the pixel, so that one operator per image size
serves every pixel spacing. The result only weights noise, for which a quarter of the resolution is enough: the map of
image noise differs by 1 % from that of the full resolution.

Reference:
    Joseph 1982, An improved algorithm for reprojecting rays through pixel images, IEEE Trans Med Imaging 1:192.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from robustbench_rad.shifts._gather import Gather

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

COARSENING = 4


@dataclass(frozen=True, kw_only=True)
class ScanGeometry:
    """Parallel-beam sampling of a square image over half a turn.

    Attributes:
        pixels: Side of the image, a multiple of 4.
        views: Equally spaced angles in [0, π), a multiple of 4.
        channels: Detector samples per view, enough to cover the corners; a multiple of 4.
        pitch_px: Detector sampling in pixels (0.6 mm at a pixel of 0.7 mm).
    """

    pixels: int
    views: int
    channels: int
    pitch_px: float = 0.6 / 0.7

    @classmethod
    def covering(cls, height: int, width: int) -> ScanGeometry:
        """The sampling for an image of this size, padded to a square.

        720 views for 512 pixels, in proportion for other sizes. Sizes above 128 are rounded up to a multiple of 32, so
        that images of slightly different size share one operator.

        >>> ScanGeometry.covering(512, 480)
        ScanGeometry(pixels=512, views=720, channels=848, pitch_px=0.8571428571428572)
        """
        longer = max(height, width, 16)
        pixels = _round_up(longer, 32 if longer > 128 else COARSENING)
        channels = math.sqrt(2.0) * pixels / cls.pitch_px
        return cls(pixels=pixels, views=_round_up(pixels * 720 / 512), channels=_round_up(channels))

    @property
    def angles(self) -> NDArray[np.float64]:
        """Angles of the views in radians."""
        return np.arange(self.views, dtype=np.float64) * (math.pi / self.views)

    @property
    def positions_px(self) -> NDArray[np.float64]:
        """Distance of every detector sample from the centre of rotation."""
        return (np.arange(self.channels, dtype=np.float64) - (self.channels - 1) / 2) * self.pitch_px


def _round_up(value: float, step: int = COARSENING) -> int:
    return step * math.ceil(value / step - 1e-9)


def line_integrals(images: Tensor, geometry: ScanGeometry) -> Tensor:
    """Integrate images along every ray.

    Args:
        images: ``(B, pixels, pixels)`` attenuation per pixel length.
        geometry: The sampling.

    Returns:
        ``(B, views, channels)``, dimensionless; computed at a quarter of the resolution and interpolated.
    """
    return refined(coarse_line_integrals(images, geometry), geometry)


def coarse_line_integrals(images: Tensor, geometry: ScanGeometry) -> Tensor:
    """The same at a quarter of the resolution: ``(B, 1, views / 4, channels / 4)``."""
    batch = images.shape[0]
    coarse = functional.avg_pool2d(images[:, None], COARSENING)
    sums = _operator(geometry, images.device)(coarse.reshape(batch, -1).T.contiguous())
    return sums.T.reshape(batch, 1, geometry.views // COARSENING, geometry.channels // COARSENING)


def refined(coarse: Tensor, geometry: ScanGeometry) -> Tensor:
    """Interpolate coarse line integrals to every ray, ``(B, views, channels)``."""
    size = (geometry.views, geometry.channels)
    return functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0]


@lru_cache(maxsize=4)
def _operator(geometry: ScanGeometry, device: torch.device) -> Gather:
    return joseph(geometry).to(device)


def joseph(geometry: ScanGeometry) -> Gather:
    """Build the coarse projector: rows are rays ``(view, channel)``, columns coarse pixels.

    A ray marches along the axis it is closer to, pixel by pixel, and interpolates linearly across it.
    """
    size = geometry.pixels // COARSENING
    angles = geometry.angles.reshape(-1, COARSENING).mean(1)[:, None, None]
    positions = geometry.positions_px.reshape(-1, COARSENING).mean(1)[None, :, None] / COARSENING
    march = np.arange(size)[None, None, :]
    cosine, sine = np.cos(angles), np.sin(angles)
    steep = np.abs(cosine) >= np.abs(sine)  # marches along rows, solves x cos + y sin = s for x
    major, minor = np.where(steep, cosine, sine), np.where(steep, sine, cosine)
    across = (positions - (march - (size - 1) / 2) * minor) / major + (size - 1) / 2
    step_px = np.broadcast_to(COARSENING / np.abs(major), across.shape)
    rays = np.broadcast_to(np.arange(across.shape[0] * across.shape[1]).reshape(*across.shape[:2], 1), across.shape)
    march, steep = np.broadcast_to(march, across.shape), np.broadcast_to(steep, across.shape)
    entries = []
    lower = np.floor(across).astype(np.int64)
    for index, share in ((lower, lower + 1 - across), (lower + 1, across - lower)):
        hit = (index >= 0) & (index < size)
        pixels = np.where(steep, march * size + index, index * size + march)
        entries.append((rays[hit], pixels[hit], (share * step_px)[hit]))
    rows, columns, weights = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return Gather.from_entries(rows, columns, weights, shape=(angles.size * positions.size, size * size))
