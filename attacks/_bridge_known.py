"""What is known of the attacks of other libraries, one record each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
