"""Intensity non-uniformity of MR: the smooth brightness field of coils and of the field strength.

``INU = (max - min) / mean`` of the field over the foreground. The field is a polynomial of second degree in the logarithm of
the intensity, fitted to the most frequent tissue only and by turns: what lies near the mode of the image divided by the
field is that tissue.

References:
    Van Leemput et al. 1999, 10.1109/42.811268; simulated at 20 and 40 % by BrainWeb (Collins et al. 1998, 10.1109/42.712135).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from robustbench_rad.metrology.edges import Doubles

ROUNDS = 12
NEAR = 0.25  # relative distance from the mode within which a voxel counts as the tissue
FEWEST = 500
LARGEST_SIDE = 64  # finer than that tells nothing of a smooth field
FOREGROUND_SHARE = 0.1


def intensity_non_uniformity(image: npt.ArrayLike) -> float:
    """(max - min) / mean of the brightness field of an image ``(H, W)`` or volume ``(D, H, W)``; NaN without enough tissue.

    >>> ramp = np.linspace(0.9, 1.1, 64) * np.ones((64, 1))
    >>> round(intensity_non_uniformity(100 * ramp), 3)
    0.2
    """
    field, inside = brightness_field(image)
    if not inside.any():
        return math.nan
    values = field[inside]
    return float((values.max() - values.min()) / values.mean())


def brightness_field(image: npt.ArrayLike) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """The field on a grid of at most 64 samples per axis, 1 in the mean, and where the foreground is on that grid."""
    values = np.asarray(image, dtype=np.float64)
    values = values[tuple(slice(None, None, max(1, math.ceil(n / LARGEST_SIDE))) for n in values.shape)]
    inside = values > FOREGROUND_SHARE * float(np.quantile(values, 0.995))
    if inside.sum() < FEWEST:
        return np.ones_like(values), np.zeros_like(inside)
    terms = _terms(values.shape)[:, inside]
    logs = np.log(values[inside])
    coefficients = np.zeros(len(terms))
    for _ in range(ROUNDS):
        flattened = logs - coefficients @ terms
        tissue = np.abs(flattened - _mode(flattened)) < math.log1p(NEAR)
        # the constant is free in the fit: it absorbs the brightness of the tissue, not that of the field
        design = np.vstack([np.ones(int(tissue.sum())), terms[:, tissue]])
        coefficients = np.linalg.lstsq(design.T, logs[tissue], rcond=None)[0][1:]
    field = np.ones_like(values)
    field[inside] = np.exp(coefficients @ terms)
    field[inside] /= field[inside].mean()
    return field, inside


def _terms(shape: tuple[int, ...]) -> Doubles:
    """Monomials of first and second degree over the grid ``(T, *shape)``, axes from -1 to 1."""
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    used = [axis for axis in axes if axis.size and axis.max() > axis.min()]
    pairs = itertools.combinations_with_replacement(used, 2)
    return np.stack([*used, *(one * other for one, other in pairs)])


def _mode(values: Doubles) -> float:
    """Most frequent value: the highest bin of a smoothed histogram."""
    if values.max() - values.min() < 1e-9:
        return float(values.mean())
    counts, edges = np.histogram(values, bins=128)
    smooth = np.convolve(counts, np.hanning(9), mode="same")
    top = int(smooth.argmax())
    return float((edges[top] + edges[top + 1]) / 2.0)
