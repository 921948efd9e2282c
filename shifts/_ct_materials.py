"""CT numbers of materials at five tube voltages, and the change from one voltage to another.

Computed from tungsten spectra (8° anode, 6 mm Al) hardened by 24 cm of water, on an energy-integrating detector; published
values of iodine agree within 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

KVP = (70.0, 80.0, 100.0, 120.0, 140.0)
WATER_PER_MM = (0.0222, 0.0212, 0.0199, 0.0190, 0.0183)
ADIPOSE_HU = (-108.0, -98.0, -85.0, -78.0, -73.0)
MUSCLE_HU = (46.0, 45.0, 44.0, 43.0, 43.0)
LUNG_HU = (-740.0, -740.0, -741.0, -741.0, -741.0)
HYDROXYAPATITE_200_HU = (435.0, 377.0, 310.0, 271.0, 243.0)
HYDROXYAPATITE_800_HU = (1741.0, 1509.0, 1241.0, 1082.0, 973.0)
CORTICAL_BONE_HU = (2490.0, 2180.0, 1820.0, 1608.0, 1462.0)
IODINE_HU_PER_MG_ML = (50.0, 42.0, 33.0, 26.6, 22.0)

_BONE = (HYDROXYAPATITE_200_HU, HYDROXYAPATITE_800_HU, CORTICAL_BONE_HU)
_DENSE_HU = (80.0, 120.0)
_BONE_NOT_IODINE_HU = (300.0, 600.0)
_FAT_HU = (-200.0, 0.0)
BRANCHES = ("bone", "iodine", "mix")


def at_kvp(values: Sequence[float], kvp: float) -> float:
    """Value of a table at a tube voltage, linear in its logarithm between the five.

    >>> at_kvp(IODINE_HU_PER_MG_ML, 80.0), round(at_kvp(IODINE_HU_PER_MG_ML, 90.0), 1)
    (42.0, 37.2)
    """
    return float(np.interp(math.log(kvp), np.log(KVP), values))


def hu_at_kvp(
    images_hu: Tensor, smooth_hu: Tensor, *, source: float, target: float, branch: str, iodine_background_hu: float
) -> Tensor:
    """CT numbers at another tube voltage.

    Lung stays, fat and muscle move by the difference of the table; what is denser than 100 HU is scaled as bone or, above
    the tissue it is dissolved in, as iodine. What a pixel consists of is read from the smoothed image, so that noise is
    scaled by a constant and not by a curve.

    Args:
        images_hu: Any shape.
        smooth_hu: The same, smoothed.
        source: Tube voltage of the images, kVp.
        target: That asked for.
        branch: ``bone``, ``iodine``, or ``mix``: iodine below 300 HU, bone above 600 HU, both in between.
        iodine_background_hu: CT number of blood or organ without iodine.
    """
    dense = _step(smooth_hu, *_DENSE_HU)
    knots = [at_kvp(material, source) for material in _BONE]
    ratios = [at_kvp(material, target) / at_kvp(material, source) for material in _BONE]
    bone = (_interpolated(smooth_hu, knots, ratios) - 1.0) * images_hu
    strength = at_kvp(IODINE_HU_PER_MG_ML, target) / at_kvp(IODINE_HU_PER_MG_ML, source)
    iodine = (strength - 1.0) * (images_hu - iodine_background_hu)
    share = {"bone": torch.ones_like(smooth_hu), "iodine": torch.zeros_like(smooth_hu)}.get(branch)
    share = _step(smooth_hu, *_BONE_NOT_IODINE_HU) if share is None else share
    fat = at_kvp(ADIPOSE_HU, target) - at_kvp(ADIPOSE_HU, source)
    muscle = at_kvp(MUSCLE_HU, target) - at_kvp(MUSCLE_HU, source)
    soft = fat * _fat(images_hu, smooth_hu, source) + muscle * _muscle(smooth_hu, source)
    return images_hu + soft + dense * (share * bone + (1.0 - share) * iodine)


def _muscle(smooth_hu: Tensor, kvp: float) -> Tensor:
    """Share of muscle: 1 at its CT number, falling to 0 at water and where bone or iodine begins."""
    return _interpolated(smooth_hu, [0.0, at_kvp(MUSCLE_HU, kvp), _DENSE_HU[0]], [0.0, 1.0, 0.0])


def _fat(images_hu: Tensor, smooth_hu: Tensor, kvp: float) -> Tensor:
    """Share of fat: 1 at its CT number, falling to 0 at water and halfway to lung; not where the pixel itself is neither."""
    peak = at_kvp(ADIPOSE_HU, kvp)
    share = _interpolated(smooth_hu, [_FAT_HU[0], peak, _FAT_HU[1]], [0.0, 1.0, 0.0])
    return share * _step(images_hu, -300.0, -200.0) * (1.0 - _step(images_hu, 0.0, 40.0))


def _step(values: Tensor, low: float, high: float) -> Tensor:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    share = ((values - low) / (high - low)).clamp(0.0, 1.0)
    return share.square() * (3.0 - 2.0 * share)


def _interpolated(values: Tensor, knots: Sequence[float], heights: Sequence[float]) -> Tensor:
    """Linear between the knots, constant beyond them."""
    result = torch.full_like(values, heights[0])
    for (left, right), (low, high) in zip(pairwise(knots), pairwise(heights), strict=True):
        result = result + (high - low) * ((values - left) / (right - left)).clamp(0.0, 1.0)
    return result
