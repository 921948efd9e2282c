"""What an attack may do to an image: the threat model, and what a file can hold of it.

A threat is a set of planes around each stored original: a ball of some norm, cut by the box [0, 1] and by the pixels that
may be touched. Radii are one per row, so that cases, levels and starts may share a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

GREY_LEVEL_SLACK = 1e-4  # 1/255 of the range is one grey level of 255, also when a float says 0.9999999
NORM_SLACK = 1e-5  # relative: float32 sums over a plane


def stored(planes: Tensor, bits: int) -> Tensor:
    """Round display planes to what a file of ``bits`` bits holds: ``round(x (2^b - 1)) / (2^b - 1)``.

    >>> stored(torch.tensor([0.5, 0.501]), 1).tolist()
    [0.0, 1.0]
    """
    grey_levels = float(2**bits - 1)
    return (planes * grey_levels).round_().div_(grey_levels)


def whole_grey_levels(radius: Tensor, bits: int) -> Tensor:
    """The largest radius up to ``radius`` that is a whole number of grey levels of ``bits`` bits.

    A radius of 1.9 grey levels cannot be stored; 1 can. Below one grey level the radius is 0.

    >>> (whole_grey_levels(torch.tensor([1.9 / 255, 0.5 / 255]), 8) * 255).tolist()
    [1.0, 0.0]
    """
    grey_levels = float(2**bits - 1)
    whole = (radius.double() * grey_levels + GREY_LEVEL_SLACK).floor()
    return whole.div(grey_levels).float()


@dataclass(frozen=True, kw_only=True, eq=False)
class Threat:
    """The planes an attack may make of R originals; any plane of the box unless a subclass says otherwise.

    Attributes:
        centre: ``(R, 1, ...)`` originals as they are stored; distances count from them.
        radius: ``(R,)`` size of the set in the unit of its norm; 0: nothing may be changed.
        bits: Bit depth of the file.
        allowed: ``(R, 1, ...)`` boolean, pixels that may be changed; None: all of them.
    """

    centre: Tensor
    radius: Tensor
    bits: int
    allowed: Tensor | None = None

    norm: ClassVar[str] = ""

    def __len__(self) -> int:
        return len(self.radius)

    def select(self, index: Tensor) -> Self:
        """The rows at ``index`` (int64 or boolean)."""
        allowed = None if self.allowed is None else self.allowed[index]
        return replace(self, centre=self.centre[index], radius=self.radius[index], allowed=allowed)

    def radii(self) -> Tensor:
        """The radius, shaped to be multiplied with planes."""
        return self.radius.reshape(-1, *[1] * (self.centre.ndim - 1))

    def size(self, change: Tensor) -> Tensor:
        """Norm ``(R,)`` of a change ``(R, 1, ...)`` of the planes, in the unit of the radius."""
        return torch.zeros(len(change), device=change.device)

    def shrink(self, change: Tensor) -> Tensor:
        """The change, brought inside the ball (not the box)."""
        return change

    def project(self, planes: Tensor) -> Tensor:
        """Bring planes into the set: pixels that may be touched, ball, box."""
        change = planes - self.centre
        if self.allowed is not None:
            change = change * self.allowed
        return self.box(self.centre + self.shrink(change))

    def box(self, planes: Tensor) -> Tensor:
        """Clip to [0, 1]; a pixel of the original that lies outside (padding of a CT) may stay where it is."""
        return torch.minimum(torch.maximum(planes, self.centre.clamp(max=0.0)), self.centre.clamp(min=1.0))

    def store(self, planes: Tensor) -> Tensor:
        """What a file can hold of planes of the set without leaving it.

        Rounded to the nearest grey level; rows that rounding pushes out of the ball are rounded towards the original.
        """
        nearest = stored(planes, self.bits)
        inside = self.contains(nearest)
        grey_levels = float(2**self.bits - 1)
        change = ((planes - self.centre) * grey_levels).trunc_().div_(grey_levels)
        rows = inside.reshape(-1, *[1] * (planes.ndim - 1))
        return torch.where(rows, nearest, stored(self.centre + change, self.bits))

    def contains(self, planes: Tensor) -> Tensor:
        """Which planes ``(R,)`` are inside the ball and touch only what they may."""
        change = planes - self.centre
        inside = self.size(change) <= self.radius * (1 + NORM_SLACK) + 1e-9
        if self.allowed is not None:
            inside &= ~((change != 0) & ~self.allowed).flatten(1).any(1)
        return inside


class Anything(Threat):
    """Any image the attack's own transform makes; nothing to project on (spatial, warp, contrast)."""

    norm: ClassVar[str] = "transform"

    def project(self, planes: Tensor) -> Tensor:
        """The same planes, clipped to the box [0, 1]."""
        return planes.clamp(0.0, 1.0)

    def store(self, planes: Tensor) -> Tensor:
        """The same planes; the model's oracle rounds them."""
        return planes

    def contains(self, planes: Tensor) -> Tensor:
        """All of them."""
        return torch.ones(len(planes), dtype=torch.bool, device=planes.device)


class LinfBall(Threat):
    """Every pixel within ``radius`` of the original; the radius is a whole number of grey levels.

    >>> x = torch.tensor([[[[0.0, 0.5]]]])
    >>> ball = LinfBall(centre=x, radius=torch.tensor([0.25]), bits=2)
    >>> ball.project(x + 1).tolist()
    [[[[0.25, 0.75]]]]
    """

    norm: ClassVar[str] = "linf"

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest planes of the set; clamping to them projects."""
        reach = self.radii() if self.allowed is None else self.radii() * self.allowed
        return self.box(self.centre - reach), self.box(self.centre + reach)

    def size(self, change: Tensor) -> Tensor:
        """Largest absolute change ``(R,)``."""
        return change.abs().flatten(1).amax(1)

    def shrink(self, change: Tensor) -> Tensor:
        """Clip each pixel's change."""
        return torch.minimum(torch.maximum(change, -self.radii()), self.radii())

    def store(self, planes: Tensor) -> Tensor:
        """The same planes: a radius of whole grey levels is not left by rounding, which the model's oracle does."""
        return planes

    def contains(self, planes: Tensor) -> Tensor:
        """Which planes ``(R,)`` are inside, to a small part of a grey level."""
        change = planes - self.centre
        inside = self.size(change) <= self.radius + GREY_LEVEL_SLACK / float(2**self.bits - 1) + 1e-6
        if self.allowed is not None:
            inside &= ~((change != 0) & ~self.allowed).flatten(1).any(1)
        return inside


class L2Ball(Threat):
    """Root of the mean squared change per pixel up to ``radius``: free of the size of the image.

    >>> x = torch.zeros(1, 1, 2, 2)
    >>> L2Ball(centre=x, radius=torch.tensor([0.1]), bits=8).project(x + 1).tolist()[0][0][0]
    [0.10000000149011612, 0.10000000149011612]
    """

    norm: ClassVar[str] = "l2"

    def size(self, change: Tensor) -> Tensor:
        """RMS change ``(R,)``."""
        return change.flatten(1).square().mean(1).sqrt()

    def shrink(self, change: Tensor) -> Tensor:
        """Scale the change down to the radius."""
        factor = self.radius.div(self.size(change).clamp_min(1e-30)).clamp(max=1.0)
        return change.mul(factor.reshape(self.radii().shape))


class L1Ball(Threat):
    """Mean absolute change per pixel up to ``radius``."""

    norm: ClassVar[str] = "l1"

    def size(self, change: Tensor) -> Tensor:
        """Mean absolute change ``(R,)``."""
        return change.flatten(1).abs().mean(1)

    def shrink(self, change: Tensor) -> Tensor:
        """Euclidean projection: all changes move towards 0 by the same amount.

        References:
            Duchi et al. 2008, doi:10.1145/1390156.1390191.
        """
        flat = change.flatten(1)
        total = self.radius * flat.shape[1]
        ordered = flat.abs().sort(1, descending=True).values
        excess = ordered.cumsum(1) - total[:, None]
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        last = (ordered * count > excess).sum(1).clamp_min(1)
        by = (excess.gather(1, last[:, None] - 1)[:, 0] / last).clamp_min(0.0)
        shrunk = flat.sign() * (flat.abs() - by[:, None]).clamp_min(0.0)
        return shrunk.reshape(change.shape)


class L0Ball(Threat):
    """At most ``radius`` pixels changed, each by any amount."""

    norm: ClassVar[str] = "l0"

    def size(self, change: Tensor) -> Tensor:
        """Pixels changed ``(R,)``."""
        return (change.flatten(1) != 0).sum(1).to(change.dtype)

    def shrink(self, change: Tensor) -> Tensor:
        """Keep the largest changes; of equal ones, those that come first."""
        flat = change.flatten(1)
        order = flat.abs().argsort(dim=1, descending=True, stable=True)
        place = torch.empty_like(order).scatter_(
            1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        )
        return torch.where(place < self.radius[:, None], flat, 0.0).reshape(change.shape)
