"""Beam hardening that the scanner did not correct: cupping, and dark bands between bones.

The error of a ray through water and bone is the difference of its polychromatic attenuation from a straight line,

    e = p(L_water, L_bone) - µ_water L_water - µ_bone L_bone,      µ behind 200 mm of water,

and only e is reconstructed. Its strength is set by the cup it makes in a water disc: for a disc of radius R the projections
``(2 √(R² - s²))ⁿ`` reconstruct to ``2ⁿ Γ(n/2 + 1) / (√π Γ((n+1)/2)) · (R² - r²)^((n-1)/2)``, so the cup of a polynomial e is
known in closed form. The scanner's calibration on that disc, which keeps its mean at 0 HU, is a factor on the image.

Reference:
    Barrett and Keat 2004, Artifacts in CT: recognition and avoidance, 10.1148/rg.246045065.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_beam
from robustbench_rad.shifts._ct_artefact import AlterCase, CtArtefact, ErrorScan, per_mm
from robustbench_rad.shifts._ladder import ladder
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

_UNIT = "HU of cup"
_RIM = 0.9  # of the radius, where the rim of the cup is read
_ORDERS = (1, 2, 3, 4, 5)


@register(
    id="shift.ct.beam-hardening",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Barrett and Keat 2004, 10.1148/rg.246045065",
    unit="HU of cup",
)
@dataclass(frozen=True, kw_only=True)
class CtBeamHardening(CtArtefact):
    """Cupping and bands of a beam that hardens on its way.

    Measured per level: ``cup_hu_requested`` (of the water disc) and ``change_sd_hu``, the standard deviation of the change over
    this body.

    Attributes:
        levels: Depth in HU of the centre below the rim (at 0.9 of the radius) of the water disc; 0 is the image itself.
        water_diameter_mm: Diameter of that disc.
    """

    unit: ClassVar[str] = _UNIT
    highest: ClassVar[float] = 500.0

    levels: tuple[Level, ...] = ladder(_UNIT, 5, 10, 20, 30, 50)
    water_diameter_mm: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("water_diameter_mm",))

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Reconstruct the whole error once; every level is a share of it."""
        whole = scan.reconstructed([hardening(lengths) for lengths in scan.lengths_mm])
        cup, mean = disc_cup(self.water_diameter_mm, water_per_mm=scan.scan.water_per_mm)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            share = value / cup
            calibrated = torch.where(scan.support, scan.hu + 1000.0, 0.0) * (-mean / 1000.0)
            change = share * (whole + calibrated)
            return scan.with_error(change), {"cup_hu_requested": value, "change_sd_hu": scan.sd_in_body(change)}

        return alter


def hardening(lengths_mm: dict[str, Tensor]) -> Tensor:
    """Error e of rays through the lengths.

    >>> hardening({"water": torch.tensor([0.0]), "bone": torch.tensor([0.0])}).abs().item() < 1e-6
    True
    """
    straight = [per_mm(material) * length for material, length in lengths_mm.items()]
    return _ct_beam.attenuation(lengths_mm) - torch.stack(straight).sum(0)


@lru_cache(maxsize=16)
def disc_cup(diameter_mm: float, *, water_per_mm: float) -> tuple[float, float]:
    """Cup and mean error in HU of a water disc under the whole error.

    >>> cup, mean = disc_cup(300.0, water_per_mm=0.019)
    >>> round(cup), round(mean)
    (36, 30)
    """
    radius = diameter_mm / 2.0
    chord = torch.linspace(0.0, diameter_mm, 2001, dtype=torch.float64)
    error = _ct_beam.attenuation({"water": chord}) - per_mm("water") * chord
    relative = chord / diameter_mm
    powers = torch.stack([relative**order for order in _ORDERS], 1)
    weights = torch.linalg.lstsq(powers, error[:, None]).solution[:, 0].tolist()
    image, mean = [0.0, 0.0], 0.0
    for order, weight in zip(_ORDERS, weights, strict=True):
        exponent = (order - 1) / 2.0
        scale = weight * math.gamma(order / 2 + 1) / (math.sqrt(math.pi) * math.gamma((order + 1) / 2)) / radius
        image = [value + scale * (1.0 - r**2) ** exponent for value, r in zip(image, (0.0, _RIM), strict=True)]
        mean += scale / (exponent + 1.0)
    hu = 1000.0 / water_per_mm
    return (image[1] - image[0]) * hu, mean * hu
