"""Shifts that can be differentiated by their level, so that a search may follow the gradient of its value.

A level is a number in a plan and the same for every case. A search moves the number of each case by itself, and wants to know
which way: then the value is a tensor ``(N,)`` that carries a gradient. The formulas of a shift are written once, for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch, Condition, Variant

Value = float | Tensor
"""One number for all cases, or one for each, ``(N,)``."""

AtValues = Callable[[Tensor], "Variant"]
"""A shift prepared for a batch: from one value per case ``(N,)`` to what the level of that value makes of it."""

_RELATIVE_STEP = 1e-4


@runtime_checkable
class Continuous(Protocol):
    """A condition that is a differentiable function of the value of its level."""

    def continuous(self, batch: Batch) -> AtValues:
        """Prepare the shift for a batch, with the draws that its levels share.

        The function that comes back takes values ``(N,)``, floating point on the batch's device, none milder or stronger than
        the levels of the condition allow, and gives the images that :meth:`Condition.apply` gives at levels of these values
        (to rounding), applicability, masks, spacing and header included. Its images carry a gradient with respect to the
        values and to ``batch.images``. At the value that leaves an image as it is the image comes back as it is, and a
        gradient there means nothing. ``Variant.level`` says nothing.
        """
        ...


def per_case_factor(value: Value, like: Tensor) -> Value:
    """A value as a factor or summand of images ``like`` ``(N, …)``.

    >>> per_case_factor(torch.tensor([1.0, 2.0]), torch.ones(2, 1, 3, 3)).shape
    torch.Size([2, 1, 1, 1])
    """
    if not isinstance(value, Tensor):
        return value
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def filled(value: Value, like: Tensor) -> Tensor:
    """A value as a number of each of the N cases in the precision of ``like`` ``(N, …)``, without gradient."""
    if isinstance(value, Tensor):
        return value.detach().to(like.dtype)
    return torch.full((len(like),), value, dtype=like.dtype, device=like.device)


def case_by_case(value: Value, count: int) -> list[Value]:
    """The value of each case, where cases are altered one after the other; tensors keep their gradient.

    >>> case_by_case(0.5, 2)
    [0.5, 0.5]
    """
    return list(value.unbind()) if isinstance(value, Tensor) else [value] * count


def number(value: Value) -> float:
    """The number of one case, ``()`` where it is a tensor."""
    return float(value.detach()) if isinstance(value, Tensor) else value


def root(value: Value) -> Value:
    """Square root of a number or of the number of each case."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def exponential(value: Value) -> Value:
    """Exponential of a number or of the number of each case."""
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def linearised(function: Callable[[float], Tensor], value: Value) -> Tensor:
    """A smooth function of one number that is no tensor function, with its slope by a central difference.

    Args:
        function: From a number to a tensor, without gradient.
        value: The number; a tensor ``()`` to have the result carry a gradient.

    >>> x = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    >>> square = linearised(lambda number: torch.tensor(number**2, dtype=torch.float64), x)
    >>> number(square), round(number(torch.autograd.grad(square, x)[0]), 6)
    (9.0, 6.0)
    """
    if not isinstance(value, Tensor):
        return function(value)
    at = number(value)
    exact = function(at)
    if not value.requires_grad:
        return exact
    step = _RELATIVE_STEP * max(abs(at), _RELATIVE_STEP)
    slope = (function(at + step) - function(at - step)) / (2.0 * step)
    return exact + slope * (value - value.detach()).to(exact.dtype)


def unchanged_value(condition: Condition) -> float | None:
    """Value of the level that leaves an image as it is: the shift's neutral level, or what its options say of the source."""
    own = getattr(condition, "source_value", None)
    return condition.neutral if own is None else float(own)
