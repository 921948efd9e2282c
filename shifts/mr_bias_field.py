"""Intensity inhomogeneity of MR: a smooth multiplicative field, as of a receive coil or of a short wavelength in tissue.

    I' = I · b / mean(b),      b = exp(s · p(r)),      INU = (max b - min b) / mean b over the foreground

p is a polynomial of low order or the logarithm of the sensitivity of one coil. For every level s is the one that gives the
requested inhomogeneity (BrainWeb's "20 %" and "40 %" are such numbers).

References:
    Van Leemput et al. 1999, Automated model-based bias field correction of MR images of the brain, 10.1109/42.811268.
    Sled et al. 1998, A nonparametric method for automatic correction of intensity nonuniformity, 10.1109/42.668698.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, filled
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_continuous import ContinuousMrShift
from robustbench_rad.shifts._mr_fields import polynomial_fields, surface_coil_fields
from robustbench_rad.shifts._mr_inputs import foreground

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue

_MOST_ORDER = 6
_SAMPLES = 65536
_FLAT = 1e-4


@register(
    id="shift.mr.bias-field",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Van Leemput et al. 1999, 10.1109/42.811268; Sled et al. 1998, 10.1109/42.668698",
    unit="% INU",
)
@dataclass(frozen=True, kw_only=True)
class MrBiasField(ContinuousMrShift):
    """A smooth shading of the image, with mean 1 in the foreground.

    The shading is put on top of whatever shading the source has. Measurements per level: ``inu_percent_requested`` and
    ``inu_percent``, of the field over the foreground.

    Attributes:
        levels: (max - min) / mean of the field over the foreground in %, mildest first; 0 is the image itself.
        field: ``polynomial`` (random, of ``order``) or ``surface-coil`` (1 / r² of one coil at a random side).
        order: Highest total degree of the polynomial.
    """

    unit = "% INU"
    highest = 300.0

    levels: tuple[Level, ...] = ladder("% INU", 10, 20, 40, 60, 100)
    field: str = "polynomial"
    order: int = 3

    def __post_init__(self) -> None:
        require_one_of(self, "field", ("polynomial", "surface-coil"))
        if self.order not in range(1, _MOST_ORDER + 1):
            raise ValueError(f"order: expected a whole number from 1 to {_MOST_ORDER}, got {self.order!r}")

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw the field that the levels share."""
        stream = (self.id, self.version, self.field)
        if self.field == "polynomial":
            exponent = polynomial_fields(batch, self.order, *stream)
        else:
            exponent = surface_coil_fields(batch, *stream)
        inside = foreground(batch.images)
        span = _range(exponent, inside)
        varies = span > _FLAT

        def alter(percent: Value) -> Change:
            strength = _strength(exponent, inside, percent / 100.0)
            field = shading(exponent, inside, strength)
            measured = {
                "inu_percent_requested": filled(percent, span),
                "inu_percent": 100.0 * nonuniformity(field.detach(), inside),
            }
            return Change(
                images=batch.images * field, measured=measured, applicable=varies, reason="too small for a field"
            )

        return alter


def shading(exponent: Tensor, inside: Tensor, strength: Tensor) -> Tensor:
    """``exp(s p)`` with mean 1 over ``inside``, in the shape of the images."""
    field = (per_case(strength, exponent) * exponent).exp()
    return field / per_case(_mean(field, inside), field)


def nonuniformity(field: Tensor, inside: Tensor) -> Tensor:
    """(max - min) / mean ``(N,)`` of a field over the pixels ``inside``."""
    return _range(field, inside) / _mean(field, inside)


def _strength(exponent: Tensor, inside: Tensor, target: Value) -> Tensor:
    """As :func:`strength_for`, with the slope of the inverse function where the target carries a gradient."""
    if not isinstance(target, torch.Tensor):
        return strength_for(exponent, inside, target)
    with torch.no_grad():
        found = strength_for(exponent, inside, target.to(exponent.dtype))
    if not target.requires_grad:
        return found
    with torch.enable_grad():
        at = found.clone().requires_grad_()
        reached = nonuniformity(shading(exponent.detach(), inside, at), inside)
        (slope,) = torch.autograd.grad(reached.sum(), at)
    return found + ((target - target.detach()) / slope.clamp_min(_FLAT)).to(found.dtype)


def strength_for(exponent: Tensor, inside: Tensor, target: float | Tensor) -> Tensor:
    """The s ``(N,)`` for which ``exp(s p)`` has the nonuniformity ``target``, by bisection.

    Large images are sampled evenly for the mean, which a smooth field allows; the extremes are exact.
    """
    flat, mask = exponent.flatten(1), inside.flatten(1)
    top = torch.where(mask, flat, -torch.inf).amax(1)
    bottom = torch.where(mask, flat, torch.inf).amin(1)
    step = max(1, mask.shape[1] // _SAMPLES)
    few, where = flat[:, ::step] - top[:, None], mask[:, ::step]
    span = (top - bottom).clamp_min(_FLAT)
    low, high = torch.zeros_like(span), 12.0 / span
    for _ in range(40):
        middle = (low + high) / 2.0
        mean = ((middle[:, None] * few).exp() * where).sum(1) / where.sum(1).clamp_min(1)
        enough = (1.0 - (-middle * span).exp()) / mean > target
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return (low + high) / 2.0


def _mean(values: Tensor, inside: Tensor) -> Tensor:
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)


def _range(values: Tensor, inside: Tensor) -> Tensor:
    top = torch.where(inside, values, -torch.inf).flatten(1).amax(1)
    return top - torch.where(inside, values, torch.inf).flatten(1).amin(1)
