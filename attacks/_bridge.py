"""The class that runs an attack of another library, made from its constructor and from what is known of it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import field, make_dataclass, replace
from typing import Any

import torch

from robustbench_rad import bridges
from robustbench_rad.attacks._bridge_known import Known
from robustbench_rad.attacks._bridge_options import arguments, kept
from robustbench_rad.attacks._bridge_run import BASES, Call, Foreign
from robustbench_rad.attacks._bridge_view import undisturbed
from robustbench_rad.conditions import Space
from robustbench_rad.errors import MissingExtraError, PlanError, suggestion
from robustbench_rad.registry import BRIDGE_VERSION


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
    taken = arguments(made, base)
    fields = [
        (p.name, Any)
        if p.default is p.empty
        else (p.name, Any, field(default=None if p.name in known.scaled else kept(p)))
        for p in taken.values()
    ]
    made_class: Any = make_dataclass(name, fields, bases=(base,), frozen=True, kw_only=True)
    made_class.__module__, made_class.__doc__ = bridge.module, f"{name} of {bridge.package}."
    made_class.id, made_class.version, made_class.space = id, BRIDGE_VERSION, Space.DISPLAY
    made_class.known, made_class.call, made_class.arguments = known, staticmethod(call), taken
    made_class.library = f"{bridge.package} {bridge.version}"
    made_class.flips_linear = 1.0 if known.follows_gradient else 0.0
    finished: type[Foreign] = made_class
    return finished


def unknown_name(bridge: bridges.Bridge, name: str, names: list[str]) -> PlanError:
    """The error for an attack that the library does not have."""
    return PlanError(f"{bridge.package} {bridge.version} has no attack {name!r}", hint=suggestion(name, names))
