"""Arguments of another library's constructor as options of ours: which are the user's, what they may be, what they cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

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


def arguments(made: Callable[..., Any], taken: type) -> dict[str, inspect.Parameter]:
    """The arguments of a constructor that become options: those that are neither ours nor attributes of the base."""
    usual = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(made).parameters.values()
    return {p.name: p for p in parameters if p.kind in usual and p.name not in OURS and not hasattr(taken, p.name)}


def kept(argument: inspect.Parameter) -> Any:  # noqa: ANN401 - any default a library has
    """The default as a dataclass may hold it."""
    return tuple(argument.default) if isinstance(argument.default, list) else argument.default


def fits(value: object, default: object) -> bool:
    """Whether a value is of the kind of the default; numbers may be whole."""
    if default is None or default is inspect.Parameter.empty or value is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default)) or (isinstance(default, list | tuple) and isinstance(value, list | tuple))


def shortened(options: Mapping[str, Any]) -> dict[str, Any]:
    """Smaller values of those options that are larger than the positive control needs."""
    return {name: MOST[name] for name in MOST if name in options and options[name] > MOST[name]}


def estimated_passes(options: Mapping[str, Any], *, gradients: bool) -> float:
    """Forward-equivalents per case and level: a gradient per step and at the start, times what repeats it; two planes verified.

    >>> estimated_passes({"steps": 10}, gradients=True)
    38.0
    """
    number = {name: value for name, value in options.items() if isinstance(value, int) and not isinstance(value, bool)}
    steps, repeats = 1, 1
    for name, value in number.items():
        steps *= max(1, value) + (name in ("steps", "max_iter")) if name in LENGTHS else 1
        repeats *= max(1, value) if name in REPEATS else 1
    repeats *= number.get("N", 0) + 1
    repeats *= 2 * number.get("nb_sample", 0) or 1
    return float((3 if gradients else 1) * steps * repeats + 5)
