"""The two-logit model of one finding that another library is shown, and the fence around what it may disturb.

``z`` is divided by the size of the clean margin where that is above 1. Cross-entropy, which these libraries use, has no
gradient on a confident model, and would call it robust.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._search import Oracle
from robustbench_rad.attacks._threat import Threat


class View(nn.Module):
    """The two-logit model ``[0, z]`` of one finding per case that a library is shown.

    Args:
        oracle: The model.
        targets: T targets; ``z`` is the margin of each one's finding, class 1 the positive call.
        threat: Where planes may lie, T rows.
        scale: ``(T,)`` what ``z`` is divided by.
    """

    def __init__(self, oracle: Oracle, targets: Targets, threat: Threat, scale: Tensor) -> None:
        super().__init__()
        self.oracle, self.targets, self.threat, self.scale = oracle, targets, threat, scale
        self.shown = threat.centre.clamp(0.0, 1.0)
        self.worst, self.health = threat.centre.clone(), torch.full_like(scale, torch.inf)
        self.place = nn.Parameter(
            torch.zeros(1, device=scale.device), requires_grad=False
        )  # libraries ask for a device

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, 2)``; the rows are those of the targets, or all of the only one."""
        rows = self._rows(len(images))
        planes = self.planes(images.float(), rows)
        if planes.requires_grad and torch.is_grad_enabled():
            health = _Health.apply(planes, self, rows)  # type: ignore[no-untyped-call]  # torch's own
        else:
            health = self.ask(planes, rows, gradient=False)[0]
        z = health * self.targets.side[rows] / self.scale[rows]
        return torch.stack([torch.zeros_like(z), z], 1)

    def planes(self, images: Tensor, rows: Tensor) -> Tensor:
        """What is scored of images ``(n, C, ...)``: one channel, padding and untouchable pixels as in the original."""
        grey = images.mean(1, keepdim=True) if images.shape[1] > 1 else images
        centre, allowed = self.threat.centre[rows], self.threat.allowed
        if allowed is None and torch.equal(self.shown, self.threat.centre):
            return grey
        change = grey - self.shown[rows]
        return centre + (change if allowed is None else change * allowed[rows])

    def ask(self, planes: Tensor, rows: Tensor, *, gradient: bool) -> tuple[Tensor, Tensor]:
        """Health ``(n,)`` and, if asked for, its gradient; the worst plane inside the threat is remembered."""
        targets = self.targets.select(rows)
        with torch.no_grad():
            planes = planes.detach()
            if gradient:
                with torch.enable_grad():  # a query may count on it, and autograd has switched it off here
                    health, slope = self.oracle.health_and_gradient(planes, targets)
            else:
                health, slope = self.oracle.health(planes, targets), planes
            self._remember(planes, health, rows)
        return health, slope

    def _remember(self, planes: Tensor, health: Tensor, rows: Tensor) -> None:
        ranked = torch.where(self.threat.select(rows).contains(planes) & health.isfinite(), health, torch.inf)
        if len(self.targets) == 1:
            ranked, place = ranked.min(0, keepdim=True)
            planes = planes[place]
        better = ranked < self.health
        self.health = torch.where(better, ranked, self.health)
        self.worst[better] = planes[better]

    def _rows(self, count: int) -> Tensor:
        targets = len(self.targets)
        if targets not in (1, count):
            raise ValueError(f"asked about {count} images, given {targets}")
        device = self.scale.device
        return (
            torch.arange(count, device=device)
            if targets == count
            else torch.zeros(count, dtype=torch.long, device=device)
        )


class _Health(torch.autograd.Function):
    """Health with the gradient that comes with it: one pass of the user's model, and none for its parameters."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, view: View, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's own type
        health, slope = view.ask(planes, rows, gradient=True)
        ctx.save_for_backward(slope)
        return health

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - torch's own type
        (slope,) = ctx.saved_tensors
        return slope * above[0].reshape(-1, *[1] * (slope.ndim - 1)), None, None


@contextlib.contextmanager
def undisturbed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every global source of randomness that a library may draw from, and put all of it back afterwards.

    The tracer of a debugger or of coverage is put back too, warnings and printed text are dropped, gradients are enabled.
    """
    tracer, numbers, choices = sys.gettrace(), np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.enable_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(choices)
        sys.settrace(tracer)
