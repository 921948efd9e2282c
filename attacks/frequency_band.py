"""Changes of one band of spatial frequencies, inside an L-infinity ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks._units import ladder
from robustbench_rad.conditions import Batch, Level
from robustbench_rad.registry import register

BANDS = {"low": (0.0, 0.25), "mid": (0.25, 0.5), "high": (0.5, 2.0)}  # of Nyquist; a volume's corner is at 1.73
OF_NYQUIST, CYCLES_PER_MM = "nyquist", "cycles/mm"
SHARE = "in_band_energy_share"
ROUNDS = 8  # of clipping and filtering; what is left beyond the ball is scaled away

Band = str | tuple[float, float]


@register(
    id="attack.frequency-band",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Guo, Frank, Weinberger 2019, arXiv:1809.08758",
)
@dataclass(frozen=True, kw_only=True)
class FrequencyBand(LinfAttack):
    """Gradient descent on the margin with changes of low, middle or high spatial frequencies only.

    With ``F`` the filter that keeps the frequencies ``f_low <= |f| < f_high`` (all axes together, slices included) and
    ``g`` the gradient of the margin (of its negative, to create a finding), a step goes along ``-F(sign(F(g)))``, scaled to
    its largest pixel. The change is then clipped to the radius and filtered in turn, and at last scaled into the ball, so
    that it lies in the ball and in the band; clipping to [0, 1], a mask and rounding to grey levels add a little of other
    frequencies. How much of the energy of the change, as it is stored, lies in the band is measured
    (``in_band_energy_share``). Where the radius is one or two grey levels that rounding is much of the change: such a level
    says little of a band.

    Each band is searched on its own; the worst counts, and which it was is measured. Where the search stops at the flip, a
    case that one band has flipped is not tried with those after it.

    Attributes:
        bands: ``low`` (up to a quarter of Nyquist), ``mid`` (to a half), ``high`` (beyond), or pairs of limits such as
            ``[0.1, 0.3]``.
        band_unit: Unit of pairs: ``nyquist`` (shares of half a cycle per pixel) or ``cycles/mm``, for which the space must
            be ``stored`` (the file's own grid, before any resizing) and the spacing known. ``low``, ``mid`` and ``high``
            are shares of Nyquist in both.
        steps: Planes scored per band and level.

    >>> FrequencyBand.from_options({"epsilon": "4/255", "bands": ["low"]}).passes(findings=1)
    64.0
    """

    flips_linear: ClassVar[float] = 0.75  # of what a linear programme flips; clipping and filtering in turn is near it
    notes: ClassVar[tuple[str, ...]] = (SHARE,)

    levels: tuple[Level, ...] = ladder("2/255", "4/255", "8/255")
    bands: tuple[Band, ...] = ("low", "mid", "high")
    band_unit: str = OF_NYQUIST
    steps: int = 20

    def __post_init__(self) -> None:
        """Refuse bands that hold nothing, and a search that cannot be made."""
        super().__post_init__()
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")
        if self.band_unit not in (OF_NYQUIST, CYCLES_PER_MM):
            raise ValueError(f"band_unit: expected {OF_NYQUIST!r} or {CYCLES_PER_MM!r}, got {self.band_unit!r}")
        if self.band_unit == CYCLES_PER_MM and self.attack_space != "stored":
            raise ValueError("band_unit: expected space = 'stored' with cycles/mm, for the spacing is that of the file")
        if isinstance(self.bands, str) or not isinstance(self.bands, tuple | list) or not self.bands:
            raise ValueError(f"bands: expected a list of names or pairs, got {self.bands!r}")
        bands = tuple(_checked(band) for band in self.bands)
        if len(set(bands)) < len(bands):
            raise ValueError(f"bands: expected each band once, got {self.bands!r}")
        object.__setattr__(self, "bands", bands)

    @property
    def members(self) -> tuple[Attack, ...]:
        """One search for each band."""
        return (self,) if len(self.bands) == 1 else tuple(replace(self, bands=(band,)) for band in self.bands)

    @property
    def winner(self) -> str:
        """``winner of`` the bands' names, in the order of the numbers measured (0 is the first)."""
        return "winner of " + ", ".join(self._name(band) for band in self.bands)

    @property
    def planted_bands(self) -> tuple[tuple[float, float], ...]:
        """Limits of the bands in shares of Nyquist where a pixel has 1 mm, for the positive control."""
        scale = 2.0 if self.band_unit == CYCLES_PER_MM else 1.0
        return tuple(
            BANDS[band] if isinstance(band, str) else (scale * band[0], scale * band[1]) for band in self.bands
        )

    def _name(self, band: Band) -> str:
        if isinstance(band, str):
            return band
        return f"{band[0]:g}-{band[1]:g} {'cycles/mm' if self.band_unit == CYCLES_PER_MM else 'of Nyquist'}"

    @property
    def passes_per_level(self) -> float:
        """A gradient where each band begins and with every plane but its last."""
        return float(len(self.bands) * (3 * self.steps + 1))

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """As of every L-infinity ball; 0 where no band has a frequency: the spacing is not known, or the image too small."""
        shape = batch.images.shape[2:]
        some = torch.stack([self._band(band, shape, batch).flatten(1).any(1) for band in self.bands]).any(0)
        return super().reach(level, batch) * some

    def why_none(self, level: Level, batch: Batch) -> str:
        """A radius below one grey level, or no frequency to change."""
        where = " or the spacing is not known" if self.band_unit == CYCLES_PER_MM else ""
        return f"{super().why_none(level, batch)}, or the image has no frequency of the bands{where}"

    def _band(self, band: Band, shape: Sequence[int], batch: Batch) -> Tensor:
        """Which frequencies ``(N, ...)`` of the half spectrum the band holds."""
        low, high = BANDS[band] if isinstance(band, str) else band
        if isinstance(band, str) or self.band_unit == OF_NYQUIST:
            return in_band(shape, torch.full((len(batch), len(shape)), 0.5, device=batch.device), low, high)
        unknown = torch.full((len(batch), len(shape)), torch.nan, device=batch.device)
        spacing = unknown if batch.spacing_mm is None else batch.spacing_mm.to(unknown)
        return in_band(shape, spacing, low, high)

    def search(self, front: Front, level: Level) -> None:
        """Steps from the best planes known."""
        del level
        (band,) = self.bands
        every = self._band(band, front.live.centre.shape[2:], front.batch)
        front.own = {"band": every[front.live.targets.case][:, None], "planes": front.live.best.clone()}
        _score(front, front.own["planes"], last=False)
        fractions = step_fractions(self.steps, StepRule.DECAYING)
        for number, fraction in enumerate(fractions, start=1):
            if number % front.compact_every == 0:
                front.compact()
            if not len(front):
                return
            own = front.own
            toward = kept(kept(own["gradient"], own["band"]).sign(), own["band"])
            step = toward * (fraction * front.threat.radii() / _peak(toward))
            own["planes"] = _inside(front, own["planes"] - step)
            _score(front, own["planes"], last=number == self.steps)
        front.compact()


def _checked(band: Band) -> Band:
    if isinstance(band, str):
        if band not in BANDS:
            raise ValueError(f"bands: expected one of {list(BANDS)} or a pair of limits, got {band!r}")
        return band
    numbers = isinstance(band, tuple | list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in band
    )
    if not numbers or len(band) != 2 or not all(0 <= low < high < float("inf") for low, high in pairwise(band)):
        raise ValueError(f"bands: expected two limits from low to high such as [0.1, 0.3], got {band!r}")
    return (float(band[0]), float(band[1]))


def _score(front: Front, planes: Tensor, *, last: bool) -> None:
    change = stored(planes, front.threat.bits) - front.threat.centre
    front.notes[SHARE] = energy_share(change, front.own["band"])
    if last:
        front.score(planes)
    else:
        front.own["gradient"] = front.score_and_gradient(planes)[1].nan_to_num(nan=0.0)


def _inside(front: Front, planes: Tensor) -> Tensor:
    """Into the band and the ball: clip and filter in turn, scale away what is left over, and clip to the box."""
    threat, band, radii = front.threat, front.own["band"], front.threat.radii()
    allowed = 1.0 if threat.allowed is None else threat.allowed
    change = planes - threat.centre
    for _ in range(ROUNDS):
        change = kept(torch.minimum(torch.maximum(change * allowed, -radii), radii), band)
    return threat.project(threat.centre + change * (radii / _peak(change)).clamp(max=1.0))


def _peak(planes: Tensor) -> Tensor:
    return planes.abs().amax(tuple(range(1, planes.ndim)), keepdim=True).clamp_min(1e-30)


def in_band(shape: Sequence[int], spacing: Tensor, low: float, high: float) -> Tensor:
    """Which frequencies of the half spectrum have ``low <= |f| < high``.

    Args:
        shape: Of a plane or volume, D axes.
        spacing: ``(N, D)`` mm per pixel, or 0.5 for frequencies in shares of Nyquist; NaN: none is in the band.
        low: Least frequency in cycles per unit of the spacing.
        high: First frequency beyond.

    Returns:
        ``(N, *shape)`` boolean, the last axis halved.

    >>> in_band((1, 4), torch.full((1, 2), 0.5), 0.5, 2.0).tolist()
    [[[False, True, True]]]
    """
    last = len(shape) - 1
    squares = torch.zeros((len(spacing), *([1] * len(shape))), device=spacing.device)
    for axis, size in enumerate(shape):
        make = torch.fft.rfftfreq if axis == last else torch.fft.fftfreq
        along = make(size, device=spacing.device) / spacing[:, axis, None]
        squares = squares + along.square().reshape(len(spacing), *[-1 if a == axis else 1 for a in range(len(shape))])
    radius = squares.sqrt()
    return (radius >= low) & (radius < high)


def kept(planes: Tensor, band: Tensor) -> Tensor:
    """The part of planes ``(L, 1, ...)`` whose frequencies are in the ``band`` ``(L, 1, ...)`` of the half spectrum."""
    axes = tuple(range(2, planes.ndim))
    inside: Tensor = torch.fft.irfftn(torch.fft.rfftn(planes, dim=axes) * band, s=planes.shape[2:], dim=axes)
    return inside


def energy_share(change: Tensor, band: Tensor) -> Tensor:
    """Share ``(L,)`` in [0, 1] of the energy of a change that is in the band; NaN where nothing is changed."""
    return kept(change, band).flatten(1).square().sum(1) / change.flatten(1).square().sum(1)
