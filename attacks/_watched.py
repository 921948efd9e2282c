"""What is watched when an attack is asked whether it may be believed: descents with their path, and the landscape they see.

Nothing here is a search for results: these are the measurements behind the table *May the answer be believed?*.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._search import Oracle
from robustbench_rad.attacks._threat import LinfBall
from robustbench_rad.conditions import ModelQuery, Weigh
from robustbench_rad.weights import module_sha256

Ask = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From planes ``(r, 1, ...)`` of the targets ``(r,)`` to healths ``(r,)`` and their gradients."""

REPEATS = 5
SUBSETS = 4  # directions along which the gradient is compared with a difference
TINY = 1e-3  # of the range: about a quarter of a grey level of 8 bits, and the radius of Pintor et al.
WIDE = 16 / 255
SIGNIFICANT = 4.0  # times the numeric noise: a smaller difference has no sign


@dataclass(kw_only=True, eq=False)
class Scaled:
    """A query whose margins are multiplied by a factor: the same calls, another temperature."""

    query: ModelQuery
    factor: float
    findings: tuple[str, ...]

    def margins(self, display: Tensor) -> Tensor:
        """Scaled margins ``(N, K)``."""
        return self.query.margins(display) * self.factor

    def margins_and_gradient(self, display: Tensor, weights: Tensor | Weigh) -> tuple[Tensor, Tensor]:
        """Scaled margins and gradient."""
        margins, gradient = self.query.margins_and_gradient(display, weights)
        return margins * self.factor, gradient * self.factor


def on_margin(query: ModelQuery, targets: Targets, bits: int, *, factor: float = 1.0) -> Ask:
    """Ask about the margin, multiplied by ``factor``."""
    oracle = Oracle(query=Scaled(query=query, factor=factor, findings=query.findings), bits=bits)
    return lambda planes, rows: oracle.health_and_gradient(planes, targets.select(rows))


def on_cross_entropy(query: ModelQuery, targets: Targets, bits: int, offset: Tensor) -> Ask:
    """Ask about the cross-entropy of the finding, in float32: its gradient is the margin's times what is left to lose.

    Args:
        query: The model.
        targets: R targets.
        bits: Bit depth.
        offset: ``(R,)`` log-odds of the operating point, which turn margins into log-odds.
    """
    margin = on_margin(query, targets, bits)

    def ask(planes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        health, gradient = margin(planes, rows)
        side = targets.side[rows]
        left = (
            torch.sigmoid(health * side + offset[rows]) - (side > 0).float()
        ).abs()  # as float32 has it: 0 from z = 16.6
        return health, gradient * left.reshape(-1, *[1] * (planes.ndim - 1))

    return ask


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """A descent, as it was watched.

    Attributes:
        best: ``(T + 1, R)`` lowest health after each plane; constant from the flip on.
        plane: ``(R, 1, ...)`` the plane of the lowest health, before rounding.
        wrong: ``(R,)`` whether the call was wrong on any plane.
    """

    best: Tensor
    plane: Tensor
    wrong: Tensor

    def late(self, steps: int) -> Tensor:
        """Share ``(R,)`` of the whole fall that fell in the last ``steps``; 0 where nothing fell."""
        whole = self.best[0] - self.best[-1]
        return torch.where(whole > 0, (self.best[-1 - steps] - self.best[-1]) / whole.clamp_min(1e-30), 0.0)


def descend(
    ask: Ask, targets: Targets, ball: LinfBall, fractions: Sequence[float], start: Tensor, *, leap: bool = True
) -> Path:
    """Signed steps of these fractions of the radius from ``start`` ``(R, 1, ...)``; a target stops at its first wrong call.

    With ``leap`` the first step is a trial: go on from the better of its plane and ``start``.
    """
    planes, rows = ball.project(start), torch.arange(len(targets), device=start.device)
    health, slope = ask(planes, rows)
    best, where = torch.where(health.isfinite(), health, torch.inf), planes.clone()
    path = [best.clone()]
    live = ~targets.wrong(best)
    for number, fraction in enumerate(fractions):
        index = live.nonzero()[:, 0]
        if len(index):
            here = ball.select(index)
            tried = here.project(planes[index] - fraction * here.radii() * slope[index].sign().nan_to_num())
            health, gradient = ask(tried, index)
            better = (health < best[index]) & health.isfinite()
            chosen = index[better]
            best[chosen], where[chosen] = health[better], tried[better]
            moved = better if leap and number == 0 else torch.ones_like(better)
            planes[index[moved]], slope[index[moved]] = tried[moved], gradient[moved]
            live = ~targets.wrong(best)
        path.append(best.clone())
    return Path(best=torch.stack(path), plane=where, wrong=~live)


def escape(ask: Ask, targets: Targets, ball: LinfBall, fractions: Sequence[float], start: Tensor) -> Tensor:
    """Whether ``(R,)`` a call can be made wrong when every pixel may take any value: it must be possible for every call."""
    wrong = torch.zeros(len(targets), dtype=torch.bool, device=start.device)
    for radius in (0.25, 1.0):
        index = (~wrong).nonzero()[:, 0]
        if not len(index):
            break
        whole = LinfBall(centre=ball.centre[index], radius=torch.full_like(ball.radius[index], radius), bits=ball.bits)
        path = descend(
            lambda planes, rows, index=index: ask(planes, index[rows]),  # type: ignore[misc]
            targets.select(index),
            whole,
            fractions,
            start[index],
        )
        wrong[index] = path.wrong
        start = start.index_copy(0, index, path.plane)
    return wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class Landscape:
    """What the model is like around R originals, each ``(R,)``; NaN where it has no meaning.

    Attributes:
        health: At the stored original.
        gradient: ``(R, 1, ...)`` of the health there.
        zero_gradient: 1 where it is exactly 0 everywhere, or not a number anywhere.
        repeat_difference: Largest difference between repeats, relative to the margin or 1.
        numeric_noise: Difference between the case alone and in company: the noise of float32 sums.
        gradient_truth: Share of directions along which the margin truly changes the way the gradient says.
        responds: 1 where a change of the image changes the margin at all.
    """

    health: Tensor
    gradient: Tensor
    zero_gradient: Tensor
    repeat_difference: Tensor
    numeric_noise: Tensor
    gradient_truth: Tensor
    responds: Tensor


def look_around(query: ModelQuery, targets: Targets, centre: Tensor, draws: Tensor) -> Landscape:
    """Look at R stored originals.

    Args:
        query: The model.
        targets: R targets.
        centre: ``(R, 1, ...)``.
        draws: ``(R, SUBSETS + 2, 1, ...)`` in [-1, 1].
    """

    def ask(planes: Tensor) -> Tensor:
        return targets.health(query.margins(planes.clamp(0.0, 1.0)))

    margins, gradient = query.margins_and_gradient(centre, targets.weights(len(query.findings)))
    health = targets.health(margins)
    repeats = torch.stack([ask(centre) for _ in range(REPEATS)])
    spread = repeats.amax(0) - repeats.amin(0)
    alone = torch.stack(
        [
            targets.select(slice_of(row, centre)).health(query.margins(centre[row : row + 1]))[0]
            for row in range(len(centre))
        ]
    )
    noise = torch.maximum((alone - repeats[0]).abs(), health.abs() * torch.finfo(health.dtype).eps)
    flat = gradient.flatten(1)
    zero = ~(flat != 0).any(1) | flat.isnan().any(1)
    wide = [ask(centre + WIDE * draws[:, SUBSETS + place]) for place in range(2)]
    moved = torch.stack([(value - repeats[0]).abs() for value in wide]).amax(0)
    truth = [_agrees(ask, centre, gradient, draws[:, place] > 0, noise) for place in range(SUBSETS)]
    return Landscape(
        health=health,
        gradient=gradient,
        zero_gradient=zero.float(),
        repeat_difference=spread / repeats[0].abs().clamp_min(1.0),
        numeric_noise=noise,
        gradient_truth=torch.where(zero, torch.nan, torch.stack(truth).nanmean(0)),
        responds=(moved > SIGNIFICANT * noise).float(),
    )


def slice_of(row: int, like: Tensor) -> Tensor:
    """Index of one row."""
    return torch.tensor([row], device=like.device)


def _agrees(ask: Callable[[Tensor], Tensor], centre: Tensor, gradient: Tensor, subset: Tensor, noise: Tensor) -> Tensor:
    """1 where a tiny step down the gradient, on a subset of the pixels, lowers the health as promised; NaN below the noise."""
    step = TINY * gradient.sign().nan_to_num() * subset
    up, down = (centre + step).clamp(0.0, 1.0), (centre - step).clamp(0.0, 1.0)
    promised = (gradient.nan_to_num() * (up - down)).flatten(1).sum(1)
    true = ask(up) - ask(down)
    return torch.where(promised > SIGNIFICANT * noise, (true > 0).float(), torch.nan)


def ruggedness(query: ModelQuery, targets: Targets, plane: Tensor, draws: Tensor, scale: Tensor) -> Tensor:
    """Mean jump of the health under noise of a tiny part of the range, as a share of ``scale`` ``(R,)``.

    Args:
        query: The model.
        targets: R targets.
        plane: ``(R, 1, ...)`` where the attack ended.
        draws: ``(R, M, 1, ...)`` in [-1, 1].
        scale: What the attack had to bridge.

    References:
        Pintor et al. 2022, arXiv:2106.09947, indicator *unstable predictions*: 10 neighbours within 0.001, above 10 %.
    """
    here = targets.health(query.margins(plane))
    jumps = [
        (targets.health(query.margins((plane + TINY * draws[:, place]).clamp(0.0, 1.0))) - here).abs()
        for place in range(draws.shape[1])
    ]
    return (torch.stack(jumps).mean(0) / scale.clamp_min(1e-30)).clamp(max=1.0)


def _cuda_states() -> list[Tensor]:
    """Random states of the CUDA devices in use; asking must not start one."""
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if started else []


def fingerprint(module: nn.Module) -> dict[str, object]:
    """What an attack must leave as it found it, by name."""
    return {
        "parameters or buffers": module_sha256(module),
        "gradients": tuple(
            None if parameter.grad is None else (id(parameter.grad), parameter.grad._version)
            for parameter in module.parameters()
        ),
        "modes": tuple(child.training for child in module.modules()),
        "random state": (
            torch.random.get_rng_state().numpy().tobytes(),
            *(state.numpy().tobytes() for state in _cuda_states()),
            repr(random.getstate()),
            repr(np.random.get_state()),
        ),
        "tracer": sys.gettrace(),
    }
