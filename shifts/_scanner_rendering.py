"""Images of one scanner rendered as if from another: spectrum ratio, grey levels, noise; nothing moves.

    y = g(F⁻¹[H · F[x]]) + n,      H(f) = √((P_target - N_target) / (P_source - N_source)) within the cap

P and N spectra of images and of their noise, g the monotone curve that carries the source's grey levels to the target's, n the
noise N_target - H² N_source that is missing. H is 1 at the largest structures, and goes on as it was where noise hides the
structures. It is real and not negative, so it shifts no phase: edges stay where they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._scanner_statistics import (
    HIGHEST_PER_MM,
    LARGE_STRUCTURES,
    LOWEST_PER_MM,
    Scanner,
    bin_centres_per_mm,
    grey_edges,
    unsaturated,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

STEEPEST = 4.0  # slope of the grey-level curve; its inverse is the flattest
_FEWEST_BINS = 3
_LEAST_SHARE = 0.05  # of the target's noise power, where hardly any is missing


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer:
    """From one scanner to another.

    Attributes:
        log_gain: Logarithm of H, ``(BINS,)``, the same beyond the last frequency that both scanners have.
        curve: g at the edges of the grey-level bins; None to leave grey levels alone.
        noise_ratio: Noise of the target over noise of the source; NaN where either could not be read.
        noise_power: Power of the noise that is missing ``(BINS,)``, of any scale.
    """

    log_gain: Tensor
    curve: Tensor | None
    noise_ratio: float
    noise_power: Tensor

    @classmethod
    def between(
        cls, source: Scanner, target: Scanner, unit: Unit, *, largest_gain: float, grey_levels: bool
    ) -> Transfer:
        """What leads from one to the other."""
        gain = log_gain(source, target, largest_gain)
        theirs, ours = (_filled(scanner.log_noise_power).exp() for scanner in (target, source))
        return cls(
            log_gain=gain,
            curve=grey_curve(source.grey_levels, target.grey_levels, unit) if grey_levels else None,
            noise_ratio=target.noise_sd / source.noise_sd,
            noise_power=(theirs - (2.0 * gain).exp() * ours).clamp_min(_LEAST_SHARE * theirs),
        )

    @property
    def lowest_gain(self) -> float:
        """Of the filter."""
        return math.exp(float(self.log_gain.min()))

    @property
    def highest_gain(self) -> float:
        """Of the filter."""
        return math.exp(float(self.log_gain.max()))

    def capped(self, highest_gain: float) -> Transfer:
        """The same that amplifies by ``highest_gain`` at most, or by nothing where that is below 1."""
        return replace(self, log_gain=self.log_gain.clamp(max=math.log(max(1.0, highest_gain))))

    def filtered(self, planes: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """Multiply the spectrum of ``(D, H, W)`` by H, which is 1 at the largest structures."""
        longest = max(size * step for size, step in zip(planes.shape[-2:], spacing_mm, strict=True))
        begin = LARGE_STRUCTURES[1] / longest

        def gain(vertical: Tensor, horizontal: Tensor) -> Tensor:
            frequency = torch.hypot(vertical, horizontal)
            onset = (frequency.clamp_min(1e-9) / begin).log2().clamp(0.0, 1.0)  # over one octave
            return (onset * at(self.log_gain, frequency)).exp()

        spacing = planes.new_tensor(list(spacing_mm)).expand(len(planes), 2)
        return mirrored(planes[:, None], spacing, gain)[:, 0]

    def grey_levels(self, images: Tensor, unit: Unit) -> Tensor:
        """Carry grey levels through g; what is saturated stays as it is."""
        if self.curve is None:
            return images
        edges, curve = grey_edges(unit).to(images), self.curve.to(images)
        place = (images - edges[0]) / (edges[1] - edges[0])
        index = place.detach().long().clamp(0, len(edges) - 2)
        risen = curve[index] + (place - index) * (curve[index + 1] - curve[index])
        return torch.where(unsaturated(images, unit), risen, images)

    def noise(self, white: Tensor, spacing_mm: Sequence[float]) -> Tensor:
        """White noise ``(D, H, W)`` with the spectrum of the noise that is missing, of any scale."""
        scale = self.noise_power.max().clamp_min(1e-300)
        amplitude = (self.noise_power / scale).clamp_min(1e-6).log() / 2.0
        vertical = torch.fft.fftfreq(white.shape[-2], spacing_mm[0], device=white.device)[:, None]
        horizontal = torch.fft.rfftfreq(white.shape[-1], spacing_mm[1], device=white.device)
        shape = at(amplitude, torch.hypot(vertical, horizontal)).exp()
        shaped: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * shape, s=white.shape[-2:])
        return shaped


def at(values: Tensor, frequency_per_mm: Tensor) -> Tensor:
    """Interpolate values at the bins' centres ``(BINS,)`` linearly over the logarithm of the frequency."""
    bins = len(values)
    place = (frequency_per_mm.clamp_min(1e-9) / LOWEST_PER_MM).log() / math.log(HIGHEST_PER_MM / LOWEST_PER_MM) * bins
    place = (place - 0.5).clamp(0.0, bins - 1.0)
    low = place.floor().long().clamp(max=bins - 2)
    known = values.to(frequency_per_mm)
    return known[low] + (place - low) * (known[low + 1] - known[low])


def log_gain(source: Scanner, target: Scanner, largest_gain: float) -> Tensor:
    """Half the difference of the log spectra without noise, smoothed over neighbouring bins and capped.

    Structures count where they are as strong as the noise in both; beyond, the last such value holds.
    """
    spectra = [scanner.log_spectrum.double() for scanner in (source, target)]
    noise = [scanner.log_noise_power.double() for scanner in (source, target)]
    signal = [(power.exp() - own.exp().nan_to_num()) for power, own in zip(spectra, noise, strict=True)]
    seen = [values > 0.5 * power.exp() for values, power in zip(signal, spectra, strict=True)]
    ratio = (signal[1].clamp_min(1e-300) / signal[0].clamp_min(1e-300)).log() / 2.0
    ratio = _filled(torch.where(seen[0] & seen[1], ratio, torch.nan))
    wide = torch.nn.functional.pad(ratio[None, None], (1, 1), mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(wide, 3, stride=1)[0, 0]
    return smooth.clamp(-math.log(largest_gain), math.log(largest_gain))


def _filled(values: Tensor) -> Tensor:
    """Fill bins that hold nothing from their neighbours; zeros when too few are known."""
    known = values.isfinite().nonzero().flatten()
    if len(known) < _FEWEST_BINS:
        return torch.zeros_like(values)
    places = torch.arange(len(values), device=values.device)
    after = torch.searchsorted(known, places).clamp(max=len(known) - 1)
    before = (after - 1).clamp_min(0)
    left, right = known[before], known[after]
    share = ((places - left) / (right - left).clamp_min(1)).clamp(0.0, 1.0)
    return values[left] + share * (values[right] - values[left])


def grey_curve(source: Tensor, target: Tensor, unit: Unit) -> Tensor:
    """Monotone curve ``(GREY_BINS + 1,)`` that carries one histogram to another, its slope between 1/4 and 4.

    It passes through the medians, so that the slope's limits bend only its ends.

    >>> histogram = torch.zeros(512); histogram[100:200] = 0.01
    >>> curve = grey_curve(histogram, histogram.roll(50), Unit.SIGNAL)
    >>> round(float(curve[150] - grey_edges(Unit.SIGNAL)[150]), 3)
    0.098
    """
    edges = grey_edges(unit)
    if not (float(source.sum()) > 0.0 and float(target.sum()) > 0.0):
        return edges
    ours, theirs = (_cumulative(histogram) for histogram in (source, target))
    wanted = _interpolated(ours, theirs, edges)
    width = edges[1] - edges[0]
    steps = wanted.diff().clamp(float(width) / STEEPEST, float(width) * STEEPEST)
    curve = torch.cat([wanted.new_zeros(1), steps.cumsum(0)])
    middle = int((ours >= 0.5).nonzero()[0])
    return (curve + (wanted[middle] - curve[middle])).clamp(float(edges[0]), float(edges[-1]))


def _cumulative(histogram: Tensor) -> Tensor:
    """Distribution function at the edges, strictly rising."""
    counts = histogram.detach().cpu().double() + 1e-9
    return torch.cat([counts.new_zeros(1), counts.cumsum(0) / counts.sum()])


def _interpolated(x: Tensor, known_x: Tensor, known_y: Tensor) -> Tensor:
    after = torch.searchsorted(known_x, x).clamp(1, len(known_x) - 1)
    low, high = known_x[after - 1], known_x[after]
    share = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return known_y[after - 1] + share * (known_y[after] - known_y[after - 1])


def spectrum_distance_db(log_power: Tensor, target: Tensor) -> float:
    """Root mean square distance of two log spectra over the frequencies that both have, in dB."""
    gap = (log_power.cpu() - target.cpu())[bin_centres_per_mm() > 0]
    known = gap[gap.isfinite()]
    return 10.0 / math.log(10.0) * float(known.square().mean().sqrt()) if len(known) else math.nan
