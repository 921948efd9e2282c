"""An attack of another library as one of ours: what it is shown, what is believed of its answer, what it may not disturb.

The library is shown images in [0, 1] and a model of two logits ``[0, z]`` per case, ``z`` the margin of *one* finding, with
the class it has to leave. Of its answer nothing is believed: the plane is brought back into the threat, rounded to the file's
grey levels and scored by our own oracle, and so is the worst plane inside the threat that it looked at on its way.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from robustbench_rad import bridges
from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._bridge_view import View, undisturbed
from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._objective import Targets
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._sentinel import PLANE, solve
from robustbench_rad.attacks._threat import L0Ball, L1Ball, L2Ball, Threat
from robustbench_rad.attacks._units import OF_RANGE
from robustbench_rad.attacks.one_pixel import pixel_level
from robustbench_rad.conditions import Batch, Level, Space
from robustbench_rad.errors import MissingExtraError, PlanError, RobustbenchRadError, suggestion
from robustbench_rad.registry import BRIDGE_VERSION
from robustbench_rad.seeds import derive_seed

OURS = frozenset(
    {
        "self",
        "model",
        "estimator",
        "classifier",
        "eps",
        "max_epsilon",
        "norm",
        "seed",
        "verbose",
        "targeted",
        "batch_size",
        "max_batch_size",
        "inf_batch",
        "batch_max",
        "device",
        "n_classes",
        "multi_targeted",
        "summary_writer",
        "tensorboard",
        "init_attack",
        "distance",
        "minimal",
        "epsilon",
        "pixels",
        "kwargs",
    }
)
"""Arguments of a library's constructor that the adapter gives itself, or that have no meaning here."""
LENGTHS = (
    "steps",
    "max_iter",
    "nb_iter",
    "num_iter_set",
    "n_queries",
    "max_iterations",
    "restarts",
    "binary_search_steps",
)
MOST = {"n_queries": 200, "max_iter": 20, "max_iterations": 50, "binary_search_steps": 3, "nb_sample": 32}
"""Largest values in the positive control, which is a small problem."""
REPEATS = ("m", "eot_iter", "n_restarts", "noise_batch_size", "nb_random_init", "num_random_init", "repeats", "popsize")
DEFAULT_INSTEAD = {
    "linf": "attack.pgd-linf",
    "l2": "attack.pgd-l2",
    "l1": "attack.minimal-norm",
    "l0": "attack.few-pixel-evolution",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a library's attack; the defaults are the strictest handling, for attacks nothing is known of.

    Attributes:
        norm: Ball it keeps to: ``linf``, ``l2``, ``l1`` or ``l0``; "" when that is not known.
        radius: Argument that takes the size of the ball; "" for an attack that looks for the smallest change.
        alone: One target per call, because it draws for the whole batch or depends on companions.
        volumes: Whether it is right on volumes.
        square_only: Whether it is right on square images only.
        channels: Channels it is hard-wired to.
        gradients: Whether it asks for gradients, which are paid thrice; the catalogue's, see :mod:`robustbench_rad.bridges`.
        follows_gradient: Whether it must flip every call of a linear model that can be flipped.
        scaled: Steps that stand for a share of the ball's size: name of the argument → share.
        refused: Why it is not run at all.
        instead: Our own equivalent.
    """

    norm: str = "linf"
    radius: str = "eps"
    alone: bool = True
    volumes: bool = False
    square_only: bool = False
    channels: int = 1
    gradients: bool = True
    follows_gradient: bool = False
    scaled: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""
    instead: str = ""

    @property
    def equivalent(self) -> str:
        """Id of our own attack to take instead."""
        return self.instead or DEFAULT_INSTEAD.get(self.norm, "attack.pgd-linf")


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
            if not _fits(value, argument.default):
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
        """An estimate from the options: a gradient per step and at the start, times what repeats it; two planes verified."""
        given = self.options
        number = {
            name: value for name, value in given.items() if isinstance(value, int) and not isinstance(value, bool)
        }
        steps, repeats = 1, 1
        for name, value in number.items():
            steps *= max(1, value) + (name in ("steps", "max_iter")) if name in LENGTHS else 1
            repeats *= max(1, value) if name in REPEATS else 1
        repeats *= number.get("N", 0) + 1
        repeats *= 2 * number.get("nb_sample", 0) or 1
        return float((3 if self.known.gradients else 1) * steps * repeats + 5)

    def self_test(self) -> str:
        """The positive control, on a plane that the library takes."""
        short: dict[str, Any] = {
            name: MOST[name] for name in MOST if name in self.arguments and getattr(self, name) > MOST[name]
        }
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


def library(prefix: str) -> bridges.Bridge:
    """The bridge, if its library is installed.

    Raises:
        MissingExtraError: It is not; says what to type.
    """
    bridge = next(bridge for bridge in bridges.BRIDGES if bridge.prefix == prefix)
    if not bridge.version:
        raise MissingExtraError(f"Attacks named {prefix}:…", package=bridge.distribution, install=bridge.install)
    return bridge


def imported(module: str) -> Any:  # noqa: ANN401 - a module of a library without types
    """Import a module of the library; what it warns of, or does to global state, is not the user's affair."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # foolbox's zoo cannot be imported where git is missing
    with undisturbed(0, torch.device("cpu")):
        return importlib.import_module(module)


def condition(
    bridge: bridges.Bridge, name: str, *, made: Callable[..., Any], known: Known, call: Call
) -> type[Foreign]:
    """The condition that runs a library's attack.

    Args:
        bridge: The library.
        name: Of the attack there.
        made: Its constructor; the arguments that are not ours become options.
        known: What is known of it.
        call: Runs it.

    Raises:
        PlanError: It would give a wrong answer, or its norm is not known.
    """
    id = f"{bridge.prefix}{bridges.SEPARATOR}{name}"
    if known.refused or known.norm not in BASES:
        why = known.refused or "the norm it keeps to is not known, so its changes cannot be measured"
        raise PlanError(f"[checks.{id!r}]: {why}", hint=f"Take {known.equivalent} instead.")
    base, known = BASES[known.norm], replace(known, gradients=name not in bridge.without_gradient)
    parameters = inspect.signature(made).parameters.values()
    usual = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {p.name: p for p in parameters if p.kind in usual and p.name not in OURS and not hasattr(base, p.name)}
    fields = [
        (p.name, Any)
        if p.default is p.empty
        else (p.name, Any, field(default=None if p.name in known.scaled else _kept(p)))
        for p in arguments.values()
    ]
    made_class: Any = make_dataclass(name, fields, bases=(base,), frozen=True, kw_only=True)
    made_class.__module__, made_class.__doc__ = bridge.module, f"{name} of {bridge.package}."
    made_class.id, made_class.version, made_class.space = id, BRIDGE_VERSION, Space.DISPLAY
    made_class.known, made_class.call, made_class.arguments = known, staticmethod(call), arguments
    made_class.library = f"{bridge.package} {bridge.version}"
    made_class.flips_linear = 1.0 if known.follows_gradient else 0.0
    finished: type[Foreign] = made_class
    return finished


def unknown_name(bridge: bridges.Bridge, name: str, names: list[str]) -> PlanError:
    """The error for an attack that the library does not have."""
    return PlanError(f"{bridge.package} {bridge.version} has no attack {name!r}", hint=suggestion(name, names))


def _kept(argument: inspect.Parameter) -> Any:  # noqa: ANN401 - any default a library has
    """The default as a dataclass may hold it."""
    return tuple(argument.default) if isinstance(argument.default, list) else argument.default


def _fits(value: object, default: object) -> bool:
    """Whether a value is of the kind of the default; numbers may be whole."""
    if default is None or default is inspect.Parameter.empty or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default)) or (isinstance(default, list | tuple) and isinstance(value, list | tuple))


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
