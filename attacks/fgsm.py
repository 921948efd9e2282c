"""One step of the radius down the sign of the margin's gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustbench_rad.attacks._linf import LinfAttack
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._walk import walk
from robustbench_rad.conditions import Level
from robustbench_rad.registry import register


@register(
    id="attack.fgsm",
    version=1,
    space="display",
    domain="adversarial",
    unit="of display range",
    reference="Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572",
)
@dataclass(frozen=True, kw_only=True)
class Fgsm(LinfAttack):
    """One gradient step: the least an attack can do.

    For a finding that is present, with margin ``m`` and radius ``ε``, the plane tried is ``x - ε sign(∂m/∂x)``, clipped
    to [0, 1] and rounded to the stored bit depth; for one that is absent, ``x + ε sign(∂m/∂x)``. One gradient serves
    all levels.

    >>> Fgsm.from_options({"epsilon": ["1/255", "2/255"]}).passes(findings=1)
    5.0
    """

    flips_linear: ClassVar[float] = 1.0

    @property
    def passes_per_level(self) -> float:
        """One plane per level, without a gradient."""
        return 1.0

    def search(self, front: Front, level: Level) -> None:
        """The plane a whole radius down the slope at the original."""
        del level
        walk(front, (1.0,))
