"""Axes in the wrong order: rows taken for columns, a picture turned by a viewer, slices read backwards.

Worked in physical space, where a volume has its own slice axis and spacing; a permutation of pixels loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._faults import FaultShift, named_levels
from robustbench_rad.shifts._ladder import Change

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_FAULTS = ("transposed", "turned 90", "turned 180", "turned 270", "slices reversed", "slices last")
_PLANAR = _FAULTS[:4]


@register(
    id="shift.export.orientation",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    reference="DICOM PS3.3 C.7.6.2.1.1",
)
@dataclass(frozen=True, kw_only=True)
class ExportOrientation(FaultShift):
    """Pixels stored along other axes than the reader believes.

    Masks move along, and the spacing goes with its axis. Levels of volumes are not applicable to a single slice.

    Attributes:
        levels: ``transposed`` (rows for columns), ``turned 90``, ``turned 180``, ``turned 270`` (degrees
            counter-clockwise), and for volumes ``slices reversed`` and ``slices last`` (rows, columns, slices).
    """

    faults: ClassVar[tuple[str, ...]] = _FAULTS

    levels: tuple[Level, ...] = named_levels(_PLANAR)

    def fault(self, batch: Batch, name: str) -> Change:
        """Permute the pixels of images and masks."""
        volume = batch.images.ndim == 5 and batch.images.shape[2] > 1
        if name not in _PLANAR and not volume:
            none = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
            return Change(images=batch.images, applicable=none, reason="there is one slice only")
        axes = permuted_axes(name, batch.images.ndim - 2)
        spacing = None
        if axes != sorted(axes):
            known = batch.images.new_full((len(batch), len(axes)), torch.nan)
            spacing = (known if batch.spacing_mm is None else batch.spacing_mm)[:, axes]
        return Change(
            images=reoriented(batch.images, name),
            spacing_mm=spacing,
            anatomy=None if batch.anatomy is None else reoriented(batch.anatomy, name),
            lesion=None if batch.lesion is None else reoriented(batch.lesion, name),
        )


def permuted_axes(name: str, axes: int) -> list[int]:
    """Which axis of the image lies along each axis afterwards.

    >>> permuted_axes("slices last", 3), permuted_axes("turned 90", 2), permuted_axes("turned 180", 2)
    ([1, 2, 0], [1, 0], [0, 1])
    """
    order = list(range(axes))
    if name in ("transposed", "turned 90", "turned 270"):
        return [*order[:-2], order[-1], order[-2]]
    return [*order[1:], 0] if name == "slices last" else order


def reoriented(images: Tensor, name: str) -> Tensor:
    """Permute the pixels of ``(N, 1, …, H, W)``."""
    if name == "transposed":
        return images.transpose(-1, -2).clone()
    if name.startswith("turned"):
        return images.rot90(int(name.split()[1]) // 90, (-2, -1)).clone()
    return images.flip(2) if name == "slices reversed" else images.permute(0, 1, 3, 4, 2).clone()
