"""Walking down the gradient of a few parameters that a differentiable transform turns into an image; smooth fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from robustbench_rad.attacks._envelope import keep_notes
from robustbench_rad.attacks._schedule import StepRule, step_fractions
from robustbench_rad.attacks._search import Front, replace_rows

Render = Callable[[Tensor], Tensor]


def descend(
    front: Front,
    start: Tensor,
    *,
    steps: int,
    render: Render,
    move: Callable[[Tensor, Tensor, float], Tensor],
    describe: Callable[[Tensor], Mapping[str, Tensor]],
) -> None:
    """Walk from the parameters of the identity: a whole step first, then from the better of that and the start.

    Args:
        front: The targets.
        start: ``(L, ...)`` parameters.
        steps: Planes scored after the start.
        render: Differentiable; planes ``(L, 1, ...)`` of the targets then on the front, from their parameters.
        move: Parameters after a step of a fraction of the envelope down the gradient.
        describe: Measurements ``(L,)`` of parameters, kept of the best planes.
    """
    lowest = torch.full_like(front.live.health, torch.inf)
    front.own = {"at": start, "slope": torch.zeros_like(start), "best": start.clone(), "lowest": lowest}
    front.own["best_slope"] = front.own["slope"].clone()
    _look(front, render, describe)
    for number, fraction in enumerate(step_fractions(steps, StepRule.DECAYING), start=1):
        if number % front.compact_every == 0:
            front.compact()
        if not len(front):
            return
        front.own["at"] = move(front.own["at"], front.own["slope"], fraction)
        _look(front, render, describe, last=number == steps)
        if number == 1:
            front.own["at"], front.own["slope"] = front.own["best"].clone(), front.own["best_slope"].clone()
    front.compact()


def _look(
    front: Front, render: Render, describe: Callable[[Tensor], Mapping[str, Tensor]], *, last: bool = False
) -> None:
    own, before = front.own, front.live.health.clone()
    if last:
        health = front.score(render(own["at"]).detach())
    else:
        parameters = own["at"].detach().requires_grad_()
        with torch.enable_grad():
            planes = render(parameters)
        health, gradient = front.score_and_gradient(planes.detach())
        (slope,) = torch.autograd.grad(planes, parameters, gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0))
        own["slope"] = slope
    keep_notes(front, before, describe(own["at"]))
    better = health < own["lowest"]
    own["lowest"] = torch.where(better, health, own["lowest"])
    replace_rows(own["best"], better, own["at"])
    replace_rows(own["best_slope"], better, own["slope"])


@lru_cache(maxsize=64)
def spline_basis(nodes: int, size: int) -> Tensor:
    """Weights ``(size, nodes)`` of clamped uniform B-splines, cubic from 4 nodes on, at the centres of the pixels.

    They are not negative and add up to 1: a field made with them never exceeds its nodes. Kept, and so not to be written to.

    >>> spline_basis(1, 2).tolist(), spline_basis(2, 3).tolist()[1]
    ([[1.0], [1.0]], [0.5, 0.5])
    """
    degree = min(3, nodes - 1)
    inner = torch.linspace(0, 1, nodes - degree + 1, dtype=torch.float64)
    knots = torch.cat([inner.new_zeros(degree), inner, inner.new_ones(degree)])
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) / size)[:, None]
    basis = ((at >= knots[:-1]) & (at < knots[1:])).double()
    for order in range(1, degree + 1):
        first, after = knots[: -order - 1], knots[order + 1 :]
        rise, fall = knots[order:-1] - first, after - knots[1:-order]
        up = torch.where(rise > 0, (at - first) / rise.clamp_min(1e-300), 0.0)
        down = torch.where(fall > 0, (after - at) / fall.clamp_min(1e-300), 0.0)
        basis = up * basis[:, :-1] + down * basis[:, 1:]
    return basis.float()


def smooth_field(nodes: Tensor, size: Sequence[int]) -> Tensor:
    """A smooth field ``(L, c, ...)`` of the given size from ``(L, c, n, ..., n)`` nodes; differentiable."""
    field = nodes
    for axis, pixels in enumerate(size, start=2):
        basis = spline_basis(nodes.shape[axis], pixels).to(nodes)
        field = torch.tensordot(field, basis, dims=([axis], [1])).movedim(-1, axis)
    return field
