"""An attack of another library as one of ours: what it is shown, what is believed of its answer, what it may not disturb.

The library is shown images in [0, 1] and a model of two logits ``[0, z]`` per case, ``z`` the margin of *one* finding, with
the class it has to leave. Of its answer nothing is believed: the plane is brought back into the threat, rounded to the file's
grey levels and scored by our own oracle, and so is the worst plane inside the threat that it looked at on its way.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._bridge_known import Known
from robustbench_rad.attacks._bridge_options import estimated_passes, fits, shortened
from robustbench_rad.attacks._bridge_view import View, undisturbed
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._sentinel import PLANE, solve
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, Threat
from robustbench_rad.attacks._units import OF_RANGE
from robustbench_rad.attacks.one_pixel import pixel_level
from robustbench_rad.conditions import Batch, Level
from robustbench_rad.errors import PlanError, RobustbenchRadError
from robustbench_rad.seeds import derive_seed


class Call(Protocol):
    """Runs the library's attack."""

    def __call__(
        self, options: dict[str, Any], view: View, images: Tensor, labels: Tensor, size: float, seed: int, /
    ) -> Tensor:
        """Planes ``(n, C, ...)`` for images in [0, 1] and classes ``(n,)``; ``size`` in the library's own unit."""
        ...


@dataclass(frozen=True, kw_only=True)
class Foreign(Attack):
    """Base of every attack of another library; the arguments of its constructor are options.

    Attributes:
        library: Its name and version: part of what was measured.
    """

    known: ClassVar[Known]
    call: ClassVar[Call]
    arguments: ClassVar[Mapping[str, inspect.Parameter]]

    library: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Refuse values that the library's constructor was not made for, and steps that cannot reach the edge."""
        super().__post_init__()
        for name, argument in self.arguments.items():
            value = getattr(self, name)
            if not fits(value, argument.default):
                raise ValueError(f"{name}: expected a value like {argument.default!r}, got {value!r}")
        loss = getattr(self, "loss", "")
        if loss in ("dlr", "dlr_targeted", "difference_logits_ratio"):
            raise ValueError(
                f"loss: {loss!r} needs three classes, a finding has two; {self.known.equivalent} needs none"
            )
        object.__setattr__(self, "library", type(self).library)
        self._refuse_short_steps()

    def _refuse_short_steps(self) -> None:
        for name in self.known.scaled:
            size, steps = getattr(self, name), max([getattr(self, word, 1) for word in ("steps", "max_iter")])
            farthest = self.levels[-1]
            share = self.known.scaled[name] if size is None else size / farthest.value
            if (size is None or farthest.unit == OF_RANGE) and steps * share < 1 - 1e-6:
                raise ValueError(
                    f"{name}: {steps} step(s) of {share:g} radii do not reach the edge of the ball at level {farthest.name}"
                )

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the library's constructor, as the plan gives them."""
        return {name: getattr(self, name) for name in self.arguments}

    @property
    def passes_per_level(self) -> float:
        """An estimate from the options."""
        return estimated_passes(self.options, gradients=self.known.gradients)

    def self_test(self) -> str:
        """The positive control, on a plane that the library takes."""
        short = shortened(self.options)
        short |= dict.fromkeys(self.known.scaled)  # shares of the planted level
        return solve(replace(self, **short), plane=(8, 8) if self.known.square_only else PLANE)

    def search(self, front: Front, level: Level) -> None:
        """Hand over, in calls of one radius; then verify what came back, and the worst plane met on the way."""
        del level
        self._refuse_shape(front.live.centre.shape[2:])
        back, met = front.live.centre.clone(), front.live.centre.clone()
        for rows, size in _calls(front.threat.radius, alone=self.known.alone):
            back[rows], met[rows] = self._run(front, rows, size)
        for planes in (back, met):
            front.score(front.threat.project(planes))
        front.compact()

    def _run(self, front: Front, rows: Tensor, size: float) -> tuple[Tensor, Tensor]:
        """What the library gives back, and the worst plane it looked at, ``(n, 1, ...)`` for the rows of one call."""
        assert isinstance(front.live.targets, Targets)
        targets, threat = front.live.targets.select(rows), front.threat.select(rows)
        scale = front.live.health[rows].abs().nan_to_num(nan=1.0, posinf=1.0).clamp_min(1.0)
        view = View(front.oracle, targets, threat, scale).eval()
        images = view.shown.expand(-1, self.known.channels, *[-1] * (view.shown.ndim - 2)).contiguous()
        labels = (targets.side > 0).long()
        seed = derive_seed(front.batch.seeds[int(targets.case[0])], self.id, self.version) % 2**31
        own = self._own_size(size, threat.centre[0].numel())
        with undisturbed(seed, images.device):
            try:
                answer = type(self).call(self._given(own), view, images.clone(), labels, own, seed)
            except (RobustbenchRadError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise PlanError(
                    f"[checks.{self.id!r}]: {self.library} raised on an image of {_shape(images.shape[2:])}: "
                    f"{type(error).__name__}: {error}",
                    hint=f"Take {self.known.equivalent} instead.",
                ) from error
        planes = view.planes(
            answer.detach().to(images.device, torch.float32), torch.arange(len(rows), device=images.device)
        )
        return torch.where(planes.isfinite(), planes, threat.centre), view.worst

    def _own_size(self, size: float, pixels: int) -> float:
        """Our size in the library's unit: norms of the whole image, not per pixel."""
        factors: dict[str, float] = {"l2": float(pixels**0.5), "l1": float(pixels)}
        return size * factors.get(self.known.norm, 1.0)

    def _given(self, size: float) -> dict[str, Any]:
        """Arguments for the constructor; steps that were left open are shares of the size."""
        shares = {name: share * size for name, share in self.known.scaled.items() if getattr(self, name) is None}
        return {**self.options, **shares}

    def _refuse_shape(self, shape: torch.Size) -> None:
        """Refuse images on which the library fails or is wrong."""
        if len(shape) > 2 and not self.known.volumes:
            raise PlanError(
                f"[checks.{self.id!r}]: {self.library} is not right on volumes, got {_shape(shape)}",
                hint=f"Take {self.known.equivalent} instead, which has no such limit.",
            )
        if len(set(shape)) > 1 and self.known.square_only:
            raise PlanError(
                f"[checks.{self.id!r}]: {self.library} is right on square images only, got {_shape(shape)}",
                hint=f"Take {self.known.equivalent} instead, which has no such limit.",
            )


@dataclass(frozen=True, kw_only=True)
class ForeignLinf(Foreign, LinfAttack):
    """Every pixel within a radius."""


@dataclass(frozen=True, kw_only=True)
class ForeignL2(Foreign):
    """Root mean square of the change."""

    threat: ClassVar[type[Threat]] = L2Ball


@dataclass(frozen=True, kw_only=True)
class ForeignL1(Foreign):
    """Mean absolute change."""

    threat: ClassVar[type[Threat]] = L1Ball


@dataclass(frozen=True, kw_only=True)
class ForeignL0(Foreign):
    """Number of pixels."""

    threat: ClassVar[type[Threat]] = L0Ball

    levels: tuple[Level, ...] = (pixel_level(1), pixel_level(3), pixel_level(5))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number of pixels."""
        return pixel_level(value)

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """The number of pixels ``(N,)``."""
        return torch.full((len(batch),), float(int(level.value)), device=batch.device)


BASES: dict[str, type[Foreign]] = {"linf": ForeignLinf, "l2": ForeignL2, "l1": ForeignL1, "l0": ForeignL0}


def _calls(radius: Tensor, *, alone: bool) -> Iterator[tuple[Tensor, float]]:
    """Rows of each call with their common radius: all of one radius together, or one by one."""
    sizes = radius.tolist()
    groups = (
        [[row] for row in range(len(sizes))]
        if alone
        else [[row for row, size in enumerate(sizes) if size == one] for one in dict.fromkeys(sizes)]
    )
    for rows in groups:
        yield torch.tensor(rows, device=radius.device), sizes[rows[0]]


def _shape(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) + " pixels"
