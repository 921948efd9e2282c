"""Exact answers on a planted linear model: balls in the box, windows, frequency bands, and what chance finds.

Computed in float64 with NumPy and SciPy, by other means than the searches use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.stats import norm

Floats = NDArray[np.float64]

NODES = 401  # of a quadrature over the quantiles of one pixel's noise


def largest_drop(norm: str, radius: float, slope: Floats, room: Floats) -> float:
    """How far a linear health can fall inside a ball and the box.

    Args:
        norm: ``linf``, ``l2`` (RMS), ``l1`` (mean), ``l0`` (pixels); anything else: the whole box.
        radius: In the unit of the norm.
        slope: ``(P,)`` absolute weights.
        room: ``(P,)`` distance to the edge of the box.

    >>> slope, room = np.array([3.0, 1.0]), np.array([1.0, 1.0])
    >>> [largest_drop(norm, 0.5, slope, room) for norm in ("linf", "l2", "l1", "l0", "")]
    [2.0, 2.23606797749979, 3.0, 0.0, 4.0]
    """
    match norm:
        case "linf":
            return float((slope * np.minimum(room, radius)).sum())
        case "l2":
            return _l2_drop(radius * np.sqrt(len(slope)), slope, room)
        case "l1":
            order = np.argsort(-slope)
            before = np.concatenate([[0.0], np.cumsum(room[order])[:-1]])
            taken = np.clip(radius * len(slope) - before, 0.0, room[order])
            return float((slope[order] * taken).sum())
        case "l0":
            return float(np.sort(slope * room)[::-1][: int(radius)].sum())
        case _:
            return float((slope * room).sum())


def _l2_drop(length: float, slope: Floats, room: Floats) -> float:
    """Change ``min(t slope, room)`` of the length that is allowed, by bisection of the multiplier ``t``."""
    if np.linalg.norm(room) <= length:
        return float((slope * room).sum())
    low, high = 0.0, float(np.max(room / np.maximum(slope, 1e-12)))
    for _ in range(100):
        middle = (low + high) / 2
        too_long = np.linalg.norm(np.minimum(middle * slope, room)) > length
        low, high = (low, middle) if too_long else (middle, high)
    return float((slope * np.minimum(low * slope, room)).sum())


def largest_window(gain: Floats, sides: Sequence[int]) -> float:
    """Largest sum over a window of fixed sides: how far a linear health falls by a patch.

    Args:
        gain: ``(...)`` what each pixel can take away, absolute weight times the distance to the end of the range.
        sides: Of the window, in pixels.

    >>> largest_window(np.array([[1.0, 0, 5, 5], [0, 2, 0, 1]]), [1, 2])
    10.0
    """
    windows = np.lib.stride_tricks.sliding_window_view(gain, tuple(sides))
    return float(windows.sum(axis=tuple(range(gain.ndim, 2 * gain.ndim))).max())


def in_band(shape: Sequence[int], low: float, high: float, *, nyquist: float = 1.0) -> NDArray[np.bool_]:
    """Which frequencies of the full spectrum have ``low <= |f| < high``.

    Args:
        shape: Of a plane or volume.
        low: Least frequency.
        high: First frequency beyond.
        nyquist: Of the axes, in the unit of the limits.
    """
    axes = np.meshgrid(*(np.fft.fftfreq(size) * 2 * nyquist for size in shape), indexing="ij")
    radius = np.sqrt(sum(np.square(axis) for axis in axes))
    inside: NDArray[np.bool_] = (radius >= low) & (radius < high)
    return inside


def band_peak(weight: Floats, inside: NDArray[np.bool_]) -> float:
    """Largest ``weight . d`` over changes ``d`` of a frequency band with ``|d| <= 1``: a linear programme.

    Where the box is out of reach a linear health falls by this times the radius.

    Args:
        weight: ``(...)`` of the pixels.
        inside: ``(...)`` frequencies of the band.

    >>> round(band_peak(np.array([3.0, 1.0, -1.0, 0.0]), np.array([True, False, False, False])), 6)  # constants only
    3.0
    """
    if not inside.any():
        return 0.0
    axes = tuple(range(1, weight.ndim + 1))
    units = np.eye(weight.size).reshape(-1, *weight.shape)
    kept = np.fft.ifftn(np.fft.fftn(units, axes=axes) * inside, axes=axes).real.reshape(weight.size, -1)
    values, vectors = np.linalg.eigh((kept + kept.T) / 2)
    basis = vectors[:, values > 0.5]
    if not basis.shape[1]:
        return 0.0
    found = linprog(
        -(weight.reshape(-1) @ basis),
        A_ub=np.concatenate([basis, -basis]),
        b_ub=np.ones(2 * weight.size),
        bounds=(None, None),
    )
    return float(weight.reshape(-1) @ basis @ found.x)


def chance_beneath(
    images: Floats, push: Floats, health: Floats, radius: float, *, kinds: Sequence[str], draws: int, levels: int
) -> Floats:
    """Probability ``(N,)`` that the worst of some noisy images changes a linear score by less than ``health``.

    By the normal law of a sum of independent pixels: the score of a noisy image is normal.

    Mean and variance of one pixel's change are exact: clipped to the radius and the box, rounded to the file.

    Args:
        images: ``(N, P)`` in [0, 1].
        push: ``(N, P)`` weight of each pixel in the health.
        health: ``(N,)`` of the noisy image minus that of the original.
        radius: Of the ball.
        kinds: ``gaussian``, ``uniform``, ``corners``, ``poisson``, taken in turn.
        draws: Noisy images.
        levels: Highest grey level.
    """
    quantiles = (np.arange(NODES) + 0.5) / NODES
    survives = np.ones(len(images))
    shares = np.sqrt(images / images.max(1, keepdims=True))
    for place, kind in enumerate(kinds):
        nodes = {"uniform": 2 * quantiles - 1, "corners": np.array([-1.0, 1.0])}.get(kind, norm.ppf(quantiles) / 2)
        noise = nodes * (shares[..., None] if kind == "poisson" else 1.0)
        noisy = np.clip(images[..., None] + radius * np.clip(noise, -1, 1), 0, 1)
        change = np.round(noisy * levels) / levels - images[..., None]
        middle = (push * change.mean(2)).sum(1)
        spread = np.sqrt((push**2 * change.var(2)).sum(1))
        times = len(range(place, draws, len(kinds)))
        survives = survives * norm.cdf((middle - health) / np.maximum(spread, 1e-12)) ** times
    found: Floats = 1 - survives
    return found
