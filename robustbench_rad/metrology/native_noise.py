"""The noise an image already has, with its spread over the image, and the signal-to-noise ratio that follows.

CT is read in windows of homogeneous soft tissue (global noise level), everything else by the median of the finest diagonal
wavelet coefficients; see :mod:`robustbench_rad.shifts._native_noise` and :mod:`robustbench_rad.noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from robustbench_rad.noise import noise_sd
from robustbench_rad.shifts._native_noise import NoiseProbe

TILES = 4  # per axis
FOREGROUND_SHARE = 0.1  # of the 99.5th percentile


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation of the noise, in the unit of the image.

    Attributes:
        sd: NaN where it cannot be read.
        lower, upper: Quartiles over the places where it was read.
        places: How many: windows of soft tissue, or tiles of the image.
    """

    sd: float
    lower: float
    upper: float
    places: int


_NONE = Noise(sd=math.nan, lower=math.nan, upper=math.nan, places=0)


def noise_hu(planes_hu: npt.ArrayLike, spacing_mm: float) -> Noise:
    """Global noise level of CT slices ``(D, H, W)`` in HU; NaN with fewer than 200 windows of homogeneous soft tissue."""
    planes = torch.from_numpy(np.array(planes_hu, dtype=np.float32))
    probe = NoiseProbe.placed(planes, spacing_mm)
    if not probe.soft_tissue:
        return _NONE
    deviations = probe.deviations(planes).double().numpy()
    lower, upper = (float(value) for value in np.quantile(deviations, (0.25, 0.75)))
    return Noise(sd=probe.level(planes), lower=lower, upper=upper, places=len(deviations))


def noise_of_foreground(planes: npt.ArrayLike) -> Noise:
    """Noise of planes ``(D, H, W)`` from the wavelet coefficients of the foreground; reads low where it is correlated.

    >>> noisy = 100 + 3 * np.random.default_rng(0).standard_normal((1, 256, 256))
    >>> round(noise_of_foreground(noisy).sd, 1)
    3.0
    """
    values = torch.from_numpy(np.array(planes, dtype=np.float64))
    sd = float(noise_sd(values[None, None])[0])
    if math.isnan(sd):
        return _NONE
    tiles = [part for row in values.chunk(TILES, 1) for part in row.chunk(TILES, 2)]
    known = [read for tile in tiles if math.isfinite(read := float(noise_sd(tile[None, None])[0]))]
    lower, upper = (float(value) for value in np.quantile(known or [sd], (0.25, 0.75)))
    return Noise(sd=sd, lower=lower, upper=upper, places=len(known))


def signal_to_noise(planes: npt.ArrayLike, noise_sd: float) -> float:
    """Mean of the foreground over the standard deviation of the noise; NaN where there is none."""
    values = np.asarray(planes, dtype=np.float64)
    inside = values > FOREGROUND_SHARE * float(np.quantile(values, 0.995))
    return float(values[inside].mean()) / noise_sd if inside.any() and noise_sd > 0 else math.nan
