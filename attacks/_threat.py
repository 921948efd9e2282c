"""What an attack may do to an image: the threat model, and what a file can hold of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

GREY_LEVEL_SLACK = 1e-4  # 1/255 of the range is one grey level of 255, also when a float says 0.9999999


def stored(planes: Tensor, bits: int) -> Tensor:
    """Round display planes to what a file of ``bits`` bits holds: ``round(x (2^b - 1)) / (2^b - 1)``.

    >>> import torch
    >>> stored(torch.tensor([0.5, 0.501]), 1).tolist()
    [0.0, 1.0]
    """
    grey_levels = float(2**bits - 1)
    return (planes * grey_levels).round_().div_(grey_levels)


@dataclass(frozen=True, kw_only=True)
class LinfBall:
    """Planes whose every pixel is within ``radius`` of the stored original and inside the box [0, 1].

    The centre is the original as it is stored, so the radius counts grey levels between two files.

    Attributes:
        radius: In display units (1 = the whole range).
    """

    radius: float

    @classmethod
    def storable(cls, radius: float, bits: int) -> LinfBall:
        """The largest ball inside ``radius`` whose surface lies on whole grey levels of ``bits`` bits.

        A radius of 1.9 grey levels cannot be stored; 1 can. Below one grey level the radius is 0.

        >>> LinfBall.storable(1.9 / 255, 8).radius == 1 / 255
        True
        """
        grey_levels = 2**bits - 1
        return cls(radius=int(radius * grey_levels + GREY_LEVEL_SLACK) / grey_levels)

    def bounds(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest planes inside the ball and the box; clamping to them projects.

        >>> import torch
        >>> [bound.tolist() for bound in LinfBall(radius=0.25).bounds(torch.tensor([0.125, 0.5]))]
        [[0.0, 0.25], [0.375, 0.75]]
        """
        return (centre - self.radius).clamp_(0.0, 1.0), (centre + self.radius).clamp_(0.0, 1.0)
