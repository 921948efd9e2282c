"""Steps down an average of the gradients met so far, inside an L-infinity ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._path import Path, follow
from robustbench_rad.attacks._search import Front
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.momentum-linf",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Dong et al. 2018, arXiv:1710.06081",
)
@dataclass(frozen=True, kw_only=True)
class MomentumLinf(LinfAttack):
    """Gradient descent with momentum on the margin, for losses too rugged to be followed gradient by gradient.

    ``g[t+1] = μ g[t] + ∇[t] / mean|∇[t]|`` and ``x[t+1] = clip(x[t] - a ε sign(g[t+1]))``, with ``∇`` the gradient of the
    margin (of its negative, to create a finding), clipped to the ball of radius ``ε`` and to [0, 1]. With ``samples``
    the gradient is the mean over planes ``x[t] + σ ε n``, ``n`` standard normal, brought back into the ball: a plane among
    them that is worse counts as well. The best plane of the whole path counts.

    Attributes:
        steps: Steps per level, from the best plane known.
        step_size: ``a``, in radii; all steps together must reach across the radius.
        decay: ``μ``; 0 forgets, 1 keeps all.
        samples: Planes the gradient is averaged over at each step; 0: the gradient of the plane itself.
        smoothing: ``σ``, in radii.

    References:
        Smoothing: Smilkov et al. 2017, arXiv:1706.03825.

    >>> MomentumLinf.from_options({"epsilon": "1/255", "steps": 50}).passes(findings=1)
    154.0
    >>> MomentumLinf.from_options({"epsilon": "1/255", "steps": 50, "samples": 4}).passes(findings=1)
    653.0
    """

    flips_linear: ClassVar[float] = 1.0

    steps: int = 50
    step_size: float = 0.1
    decay: float = 1.0
    samples: int = 0
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        for name, least in (("steps", 1), ("samples", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        for name, low, high in (("step_size", 1e-6, 2.0), ("decay", 0.0, 1.0), ("smoothing", 1e-6, 10.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}")
        if self.steps * self.step_size < 1 - 1e-6:
            raise ValueError(
                f"step_size: expected at least 1 / steps = {1 / self.steps:g}, got {self.step_size!r}: "
                "the steps together would not reach the edge of the ball"
            )

    @property
    def passes_per_level(self) -> float:
        """A gradient at the start and at every plane but the last; with samples, a gradient for each and a score."""
        return float(self.steps * (3 * self.samples + 1) if self.samples else 3 * self.steps + 1)

    @property
    def path(self) -> MomentumWalk:
        """Steps from the best planes known."""
        return MomentumWalk(
            steps=self.steps,
            step_size=self.step_size,
            decay=self.decay,
            samples=self.samples,
            smoothing=self.smoothing,
        )

    def search(self, front: Front, level: Level) -> None:
        """Steps from the best planes known."""
        del level
        follow(front, self.path)


@dataclass(frozen=True, kw_only=True)
class MomentumWalk(Path):
    """Steps down the running average of the gradients, see :class:`MomentumLinf`.

    Without samples, each step needs the gradient where it stands, and the last plane is scored alone. With samples, the
    planes around where it stands are asked one after the other, then where it has gone.
    """

    steps: int
    step_size: float
    decay: float
    samples: int
    smoothing: float

    def length(self, start: int) -> int:
        """A plane where it begins and for each step; with samples, those and one for each step."""
        del start
        return self.steps * (self.samples + 1) if self.samples else self.steps + 1

    def gradient(self, start: int, number: int) -> bool:
        """Of samples always; without, everywhere but at the last plane."""
        return (number + 1) % (self.samples + 1) > 0 if self.samples else super().gradient(start, number)

    def begin(self, front: Front, start: int) -> None:
        """Stand at the best planes known, at rest."""
        del start
        best = front.live.best
        front.own = {"planes": best.clone(), "momentum": torch.zeros_like(best), "total": torch.zeros_like(best)}

    def ask(self, front: Front, start: int, number: int) -> Tensor:
        """Where it stands, or a plane around it."""
        planes = front.own["planes"]
        step, sample = divmod(number, self.samples + 1)
        if not self.samples or sample == self.samples:
            return planes
        spread = front.threat.radii() * self.smoothing
        return front.threat.project(planes + spread * front.normal("around", step, sample))

    def learn(self, front: Front, start: int, number: int, health: Tensor, gradient: Tensor | None) -> None:
        """Add the gradient to the momentum, or to the mean of the samples, and step when that is complete."""
        del start, health
        if gradient is None:
            return
        if not self.samples:
            self._step(front, gradient)
            return
        total = front.own["total"] + gradient.nan_to_num(nan=0.0)
        complete = (number + 1) % (self.samples + 1) == self.samples
        front.own["total"] = torch.zeros_like(total) if complete else total
        if complete:
            self._step(front, total / self.samples)

    def _step(self, front: Front, gradient: Tensor) -> None:
        own, threat = front.own, front.threat
        own["momentum"] = own["momentum"] * self.decay + unit_mean(gradient)
        own["planes"] = threat.project(own["planes"] - threat.radii() * self.step_size * own["momentum"].sign())


def unit_mean(gradient: Tensor) -> Tensor:
    """Gradients ``(L, 1, ...)`` scaled to a mean absolute value of 1; zeros stay, and no number counts as zero.

    >>> unit_mean(torch.tensor([[[[1e-30, -3e-30]]]])).flatten().tolist()
    [0.5, -1.5]
    """
    finite = torch.where(gradient.isfinite(), gradient, 0.0)
    axes = tuple(range(1, finite.ndim))
    largest = finite.abs().amax(axes, keepdim=True)  # first of all: a mean of very small gradients would vanish
    scaled = finite / torch.where(largest > 0, largest, 1.0)
    mean = scaled.abs().mean(axes, keepdim=True)
    return scaled / torch.where(mean > 0, mean, 1.0)
