"""What the images of one scanner have in common: mean spectrum, noise, grey levels; added up case by case in bounded memory.

Spectra are compared by shape: each, and that of its noise, is divided by the image's own power at the largest structures (2 to
6 cycles per image), so that contrast is left to the grey levels. Means are geometric, over images of equal weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.conditions import Unit
from robustbench_rad.noise import noise_sd
from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._scanner_names import by_count

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

LOWEST_PER_MM, HIGHEST_PER_MM, BINS = 0.002, 8.0, 72
GREY_BINS = 512
LARGE_STRUCTURES = (2.0, 6.0)  # cycles per longer side
_WINDOW = 32
_QUIET = 0.25  # share of the windows that hold least structure
_GREY_RANGE = {Unit.SIGNAL: (0.0, 1.0), Unit.MAGNITUDE: (0.0, 3.0), Unit.HU: (-1024.0, 3072.0)}
_AIR_HU = -1024.0


def bin_centres_per_mm() -> Tensor:
    """Centres ``(BINS,)`` of the logarithmic frequency bins, cycles per mm."""
    step = math.log(HIGHEST_PER_MM / LOWEST_PER_MM) / BINS
    return LOWEST_PER_MM * torch.exp(step * (torch.arange(BINS, dtype=torch.float64) + 0.5))


def grey_edges(unit: Unit) -> Tensor:
    """Edges ``(GREY_BINS + 1,)`` of the grey-level bins."""
    low, high = _GREY_RANGE[unit]
    return torch.linspace(low, high, GREY_BINS + 1, dtype=torch.float64)


def unsaturated(images: Tensor, unit: Unit) -> Tensor:
    """Pixels whose value says how much signal there was: not shutters, padding, direct beam or air of exactly zero."""
    low, high = _GREY_RANGE[unit]
    return (images > low) & (images < high)


def spacing_or_assumed_mm(batch: Batch, field_of_view_mm: float) -> tuple[Tensor, Tensor]:
    """Spacing ``(N, 2)``, and ``(N,)`` the assumed one where the case has none (else NaN)."""
    known = in_plane_spacing_mm(batch)
    assumed = field_of_view_mm / max(batch.images.shape[-2:])
    missing = known.isnan().any(1)
    return torch.where(missing[:, None], assumed, known), torch.where(missing, assumed, torch.nan)


@dataclass(kw_only=True, eq=False)
class Tally:
    """Sums over the images of one scanner.

    Attributes:
        cases: Images that named the scanner, and of them ``measured`` ones.
        log_spectrum: Sum of the logarithm of the normalised power, ``(BINS,)``, and in how many images a bin was there.
        log_noise_power: The same of the quietest windows, over the same power.
        grey_levels: Sum of normalised histograms ``(GREY_BINS,)``.
        log_noise_sd: Sum of the logarithm of the noise, and of how many images.
    """

    cases: int = 0
    measured: int = 0
    log_spectrum: Tensor = field(default_factory=lambda: torch.zeros(2, BINS, dtype=torch.float64))
    log_noise_power: Tensor = field(default_factory=lambda: torch.zeros(2, BINS, dtype=torch.float64))
    grey_levels: Tensor = field(default_factory=lambda: torch.zeros(GREY_BINS, dtype=torch.float64))
    log_noise_sd: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))

    @torch.no_grad()
    def add(self, planes: Tensor, spacing_mm: Sequence[float], unit: Unit) -> None:
        """Add one image, the slices ``(D, H, W)`` of a case."""
        self.measured += 1
        log_power, reference = log_spectrum(planes, spacing_mm)
        log_noise = log_noise_power(planes, spacing_mm, unit) - reference
        for total, values in ((self.log_spectrum, log_power), (self.log_noise_power, log_noise)):
            total += torch.stack([values.nan_to_num(), values.isfinite().double()])
        kept = planes[unsaturated(planes, unit)].double().cpu()
        low, high = _GREY_RANGE[unit]
        if kept.numel():
            self.grey_levels += torch.histc(kept, GREY_BINS, low, high) / kept.numel()
        noise = float(read_noise(planes[None], unit))
        if noise > 0.0:
            self.log_noise_sd += torch.tensor([math.log(noise), 1.0], dtype=torch.float64)


def read_noise(images: Tensor, unit: Unit) -> Tensor:
    """Noise ``(N,)`` in the images' own unit; NaN where it cannot be read."""
    return noise_sd(images - _AIR_HU if unit is Unit.HU else images)


def log_spectrum(planes: Tensor, spacing_mm: Sequence[float]) -> tuple[Tensor, float]:
    """Logarithm of the radial power ``(BINS,)`` over that of the largest structures, and the logarithm of the latter.

    Power is that of white noise of variance 1 per pixel; NaN where there is no frequency.

    Args:
        planes: ``(D, H, W)``; the mean over D is taken.
        spacing_mm: Row and column spacing.
    """
    centred = planes.double() - planes.double().mean((1, 2), keepdim=True)
    power, _ = _radial(centred, spacing_mm)
    longest = max(size * step for size, step in zip(planes.shape[-2:], spacing_mm, strict=True))
    low, high = (cycles / longest for cycles in LARGE_STRUCTURES)
    centres = bin_centres_per_mm()
    log_power = power.clamp_min(1e-300).log()
    reference = log_power[(centres >= low) & (centres <= high) & (power > 0)]
    return torch.where(power > 0, log_power - reference.mean(), torch.nan), float(reference.mean())


def log_noise_power(planes: Tensor, spacing_mm: Sequence[float], unit: Unit) -> Tensor:
    """Logarithm of the power ``(BINS,)`` in the windows that hold least structure; NaN where there is none."""
    side = min(_WINDOW, *planes.shape[-2:])
    windows = planes.double().unfold(1, side, side).unfold(2, side, side).reshape(-1, side, side)
    usable = unsaturated(windows, unit).all(2).all(1) & (windows.flatten(1).std(1, correction=0) > 0)
    windows = windows[usable]
    if not len(windows):
        return torch.full((BINS,), torch.nan, dtype=torch.float64)
    deviation = windows.flatten(1).std(1, correction=0)
    quiet = windows[deviation <= deviation.quantile(_QUIET)]
    power, _ = _radial(quiet - quiet.mean((1, 2), keepdim=True), spacing_mm)
    return torch.where(power > 0, power.clamp_min(1e-300).log(), torch.nan)


def _radial(planes: Tensor, spacing_mm: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean power per bin over rings up to the Nyquist frequency, and how many frequencies each bin holds."""
    height, width = planes.shape[-2:]
    taper = torch.outer(*(torch.hann_window(size, periodic=False, dtype=torch.float64) for size in (height, width)))
    spectrum = torch.fft.rfft2(planes * taper.to(planes.device)).abs().square().mean(0).cpu()
    rows = torch.fft.fftfreq(height, spacing_mm[0], dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, spacing_mm[1], dtype=torch.float64)
    frequency = torch.hypot(rows, columns)
    inside = (frequency > 0) & (frequency <= 0.5 / max(spacing_mm))
    place = (frequency[inside] / LOWEST_PER_MM).log() / math.log(HIGHEST_PER_MM / LOWEST_PER_MM) * BINS
    index = place.long().clamp(0, BINS - 1)
    count = torch.zeros(BINS, dtype=torch.float64).index_add_(0, index, torch.ones_like(place))
    total = torch.zeros(BINS, dtype=torch.float64).index_add_(0, index, spectrum[inside])
    return total / count.clamp_min(1.0) / taper.square().sum(), count


@dataclass(frozen=True, kw_only=True, eq=False)
class Scanner:
    """What was learned of one scanner.

    Attributes:
        name: As the metadata column has it.
        cases: Images that named it, and of them ``measured`` ones.
        log_spectrum: ``(BINS,)``; NaN where no image has such frequencies.
        log_noise_power: ``(BINS,)``, likewise.
        grey_levels: ``(GREY_BINS,)`` mean histogram, sum 1; zeros when nothing was measured.
        noise_sd: In the images' unit; NaN where it could not be read.
    """

    name: str
    cases: int
    measured: int
    log_spectrum: Tensor
    log_noise_power: Tensor
    grey_levels: Tensor
    noise_sd: float


_MEANS = ("log_spectrum", "log_noise_power")


def to_state(tallies: Mapping[str, Tally]) -> dict[str, Tensor]:
    """As named tensors, commonest scanner first."""
    names = by_count({name: tally.cases for name, tally in tallies.items()})
    chosen = [tallies[name] for name in names]
    text = "\0".join(names).encode()
    state = {
        "names": torch.tensor(list(text), dtype=torch.uint8),
        "cases": torch.tensor([[tally.cases, tally.measured] for tally in chosen], dtype=torch.int64).reshape(-1, 2),
        "grey_levels": _stacked([functional.normalize(tally.grey_levels, p=1.0, dim=0) for tally in chosen], GREY_BINS),
        "noise_sd": torch.tensor([_mean(tally.log_noise_sd[0], tally.log_noise_sd[1]).exp() for tally in chosen]),
    }
    for name in _MEANS:
        totals = [getattr(tally, name) for tally in chosen]
        state[name] = _stacked([_mean(total, count) for total, count in totals], BINS)
    return state


def _stacked(rows: Sequence[Tensor], width: int) -> Tensor:
    return torch.stack(list(rows)).float() if rows else torch.zeros(0, width)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return torch.where(count > 0, total / count.clamp_min(1.0), torch.nan)


def from_state(state: Mapping[str, Tensor]) -> Iterator[Scanner]:
    """The scanners of a state, commonest first."""
    text = bytes(state["names"].tolist()).decode()
    names = text.split("\0") if text else []
    for row, name in enumerate(names):
        cases, measured = state["cases"][row].tolist()
        yield Scanner(
            name=name,
            cases=cases,
            measured=measured,
            log_spectrum=state["log_spectrum"][row],
            log_noise_power=state["log_noise_power"][row],
            grey_levels=state["grey_levels"][row],
            noise_sd=float(state["noise_sd"][row]),
        )
