"""Noise power spectrum: how the noise is spread over spatial frequencies, and where it is strongest.

``NPS(u, v) = Δx Δy / (Nx Ny) · mean |DFT(window - plane)|²`` over windows of one size. The mean is taken of the squared
modulus: the mean of the transforms themselves goes to zero with the number of windows.

References:
    Samei et al. 2019, AAPM TG-233, 10.1002/mp.13763; Friedman et al. 2013, 10.1118/1.4800795.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustbench_rad.errors import DataError
from robustbench_rad.metrology.edges import Doubles

FLAT = 0.8  # a spectrum whose lowest ring has this share of the highest has no peak
SURE = 4.0  # standard errors between the highest and the lowest ring
FEWEST_WINDOWS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisePower:
    """Radial noise power spectrum.

    Attributes:
        frequency_per_mm: ``(F,)`` centres of the rings.
        power: ``(F,)`` in squared units of the image times mm².
        relative_error: ``(F,)`` relative standard error of the power; overlapping windows count as a quarter.
        variance: Variance of the windows, which the two-dimensional spectrum integrates to.
        windows: How many windows it is the mean of.
    """

    frequency_per_mm: Doubles
    power: Doubles
    relative_error: Doubles
    variance: float
    windows: int

    @property
    def peak_per_mm(self) -> float:
        """Frequency of the highest power, by a parabola through its neighbours; NaN where there is no peak.

        There is none in a flat (white) spectrum, nor in one that falls from its lowest frequency: there, anatomy or blur
        outweighs the noise of a reconstruction kernel.
        """
        power, frequency = self.power, self.frequency_per_mm
        top, bottom = int(power.argmax()), int(power.argmin())
        doubt = SURE * math.hypot(*(float(power[ring] * self.relative_error[ring]) for ring in (top, bottom)))
        if power[bottom] > FLAT * power[top] or power[top] - power[bottom] < doubt or top == 0:
            return math.nan
        if top == len(power) - 1:
            return float(frequency[top])
        left, middle, right = power[top - 1 : top + 2]
        shift = 0.5 * (left - right) / (left - 2.0 * middle + right)
        return float(frequency[top] + shift * (frequency[top + 1] - frequency[top]))

    @property
    def falls_from_zero(self) -> bool:
        """Whether the lowest frequency has the highest power."""
        return int(self.power.argmax()) == 0


def noise_power(windows: npt.ArrayLike, spacing_mm: float = 1.0) -> NoisePower:
    """Radial noise power spectrum of windows ``(W, n, n)`` of homogeneous ground.

    Raises:
        DataError: Not square windows of at least 8 pixels, or fewer than :data:`FEWEST_WINDOWS`.
    """
    stack = np.asarray(windows, dtype=np.float64)
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or stack.shape[1] < 8:
        raise DataError(f"noise power: expected square windows (W, n, n) of at least 8 pixels, got {stack.shape}")
    if len(stack) < FEWEST_WINDOWS:
        raise DataError(f"noise power: expected at least {FEWEST_WINDOWS} windows, got {len(stack)}")
    side = stack.shape[1]
    level = _without_plane(stack)
    power = np.mean(np.abs(np.fft.fft2(level)) ** 2, axis=0) * spacing_mm**2 / side**2
    axis = np.fft.fftfreq(side, spacing_mm)
    rings = np.rint(np.hypot(axis[:, None], axis) * side * spacing_mm).astype(np.int64)
    count = side // 2
    inside = (rings >= 1) & (rings <= count)
    total = np.bincount(rings[inside], weights=power[inside], minlength=count + 1)[1:]
    held = np.bincount(rings[inside], minlength=count + 1)[1:]
    radius = np.bincount(rings[inside], weights=np.hypot(axis[:, None], axis)[inside], minlength=count + 1)[1:] / held
    return NoisePower(
        frequency_per_mm=radius,
        power=total / held,
        relative_error=1.0 / np.sqrt(np.maximum(len(stack) / 4.0, 1.0) * held / 2.0),
        variance=float(level.var()),
        windows=len(stack),
    )


def homogeneous_windows(planes: npt.ArrayLike, side: int, *, mean_within: tuple[float, float] | None = None) -> Doubles:
    """Windows ``(W, side, side)`` of the most homogeneous ground of planes ``(D, H, W)``.

    Half-overlapping windows whose standard deviation, freed of a plane, is at most 1.3 times the tenth percentile of all that
    qualify: texture and edges lift it above that of noise alone.

    Args:
        planes: Any unit.
        side: In pixels.
        mean_within: Range of the mean of a window; None for the foreground, brighter than a tenth of the bright end.
    """
    stack = np.asarray(planes, dtype=np.float64)
    if min(stack.shape[-2:]) < side:
        return np.empty((0, side, side))
    view = np.lib.stride_tricks.sliding_window_view(stack, (side, side), axis=(1, 2))
    windows: Doubles = view[:, :: side // 2, :: side // 2].reshape(-1, side, side)
    low, high = mean_within or (0.1 * float(np.quantile(stack, 0.995)), math.inf)
    means = windows.mean((1, 2))
    windows = windows[(means >= low) & (means <= high)]
    if not len(windows):
        return windows
    deviation = _without_plane(windows).std((1, 2))
    noisy = deviation > 0
    if not noisy.any():
        return windows[:0]
    usual = float(np.quantile(deviation[noisy], 0.1))
    return np.asarray(windows[noisy & (deviation <= 1.3 * usual)])


def _without_plane(windows: Doubles) -> Doubles:
    """Take the plane of least squares from every window."""
    side = windows.shape[-1]
    ramp = np.arange(side) - (side - 1) / 2.0
    norm = side * float((ramp**2).sum())
    level = windows - windows.mean((1, 2), keepdims=True)
    down = np.einsum("nij,i->n", level, ramp) / norm
    across = np.einsum("nij,j->n", level, ramp) / norm
    return np.asarray(level - down[:, None, None] * ramp[:, None] - across[:, None, None] * ramp)
