"""Noise inside an L-infinity ball: the baseline every attack must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._search import Front
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register

SD_RADII = 0.5  # standard deviation of normal noise: 95 % of it lies inside the radius, the rest is clipped to it


class NoiseKind(StrEnum):
    """How noise is distributed, in units of the radius.

    GAUSSIAN: normal with standard deviation 1/2, clipped to [-1, 1].
    UNIFORM: uniform in [-1, 1].
    CORNERS: -1 or 1 with equal chance.
    POISSON: as Gaussian, times the square root of the pixel's share of the image's brightest pixel: quantum noise.
    """

    GAUSSIAN = "gaussian"
    UNIFORM = "uniform"
    CORNERS = "corners"
    POISSON = "poisson"


@register(
    id="attack.noise",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Rauber, Brendel, Bethge 2017, arXiv:1707.04131",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class Noise(LinfAttack):
    """The worst of many noisy images within the radius: what chance finds, and the least an attack must find.

    Draws ``n`` of each kind in turn (see :class:`NoiseKind`) give ``clip(x + ε n)``. Levels, and the findings of a case,
    share their draws.

    Attributes:
        draws: Noisy images scored per level.
        kinds: Kinds of noise, taken in turn: ``gaussian``, ``uniform``, ``corners``, ``poisson``.
        candidates: Draws scored per pass; a target leaves after the pass in which it flips.

    >>> Noise.from_options({"epsilon": "1/255"}).passes(findings=1)
    67.0
    """

    draws: int = 64
    kinds: tuple[NoiseKind, ...] = tuple(NoiseKind)
    candidates: int = 8

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name in ("draws", "candidates"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        known = [str(kind) for kind in NoiseKind]
        if isinstance(self.kinds, str) or not self.kinds or not set(self.kinds) <= set(known):
            raise ValueError(f"kinds: expected a list out of {known}, got {self.kinds!r}")
        object.__setattr__(self, "kinds", tuple(NoiseKind(kind) for kind in self.kinds))

    @property
    def passes_per_level(self) -> float:
        """One forward per draw."""
        return float(self.draws)

    @property
    def planes_at_once(self) -> int:
        """One plane per draw of a pass."""
        return min(self.candidates, self.draws)

    def search(self, front: Front, level: Level) -> None:
        """All draws, some at a time."""
        del level
        for first in range(0, self.draws, self.candidates):
            if not len(front):
                return
            _score(front, range(first, min(first + self.candidates, self.draws)), self.kinds)
            front.compact()


def _score(front: Front, numbers: Sequence[int], kinds: Sequence[NoiseKind]) -> None:
    planes = [noisy(front, kinds[number % len(kinds)], number) for number in numbers]
    front.score_candidates(torch.stack(planes, 1))


def noisy(front: Front, kind: NoiseKind, number: int) -> Tensor:
    """Planes ``(L, 1, ...)`` of the threat with draw ``number`` of a kind of noise."""
    centre = front.live.centre
    match kind:
        case NoiseKind.UNIFORM:
            noise = front.uniform(number)
        case NoiseKind.CORNERS:
            noise = torch.where(front.uniform(number) < 0, -1.0, 1.0)
        case NoiseKind.GAUSSIAN:
            noise = front.normal(number) * SD_RADII
        case NoiseKind.POISSON:
            noise = front.normal(number) * SD_RADII * quantum_share(centre)
    return front.threat.project(centre + noise.clamp(-1, 1) * front.threat.radii())


def quantum_share(planes: Tensor) -> Tensor:
    """Standard deviation of quantum noise relative to that of the brightest pixel, ``sqrt(x / max x)``, in [0, 1].

    >>> quantum_share(torch.tensor([[[[0.0, 0.125, 0.5]]]])).tolist()
    [[[[0.0, 0.5, 1.0]]]]
    """
    signal = planes.clamp(min=0.0)
    brightest = signal.flatten(1).amax(1).clamp_min(1e-30).reshape(-1, *[1] * (planes.ndim - 1))
    return (signal / brightest).sqrt()
