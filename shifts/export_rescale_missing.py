"""Stored CT values taken for HU the wrong way: rescale intercept or slope forgotten, padding kept, sign misread.

A HU is slope · stored + intercept. Worked in physical space on the native grid, since what goes wrong is the reading of the
file itself; each fault is there or not, so they are reported apart from the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Unit
from robustbench_rad.registry import register
from robustbench_rad.shifts._any_image import PADDING_BELOW_HU
from robustbench_rad.shifts._faults import FaultShift, named_levels
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical
from robustbench_rad.shifts._ladder import Change
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._planes import reconstructed

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_FAULTS = (
    "intercept missing",
    "intercept twice",
    "slope ignored",
    "padding kept",
    "sign lost",
    "sign invented",
)
_WRAP_16, _WRAP_12, _SIGN_12 = 65536.0, 4096.0, 2048.0


@register(
    id="shift.export.rescale-missing",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CT",),
    reference="DICOM PS3.3 C.11.1 and C.7.5.1.1.2",
)
@dataclass(frozen=True, kw_only=True)
class ExportRescaleMissing(FaultShift):
    """CT numbers read from the file without, or twice with, its rescaling.

    A case that a fault would leave as it is, is not applicable. Measured: ``hu_offset_mean``, the mean change.

    Attributes:
        levels: ``intercept missing`` (1024 HU too bright), ``intercept twice`` (1024 too dark), ``slope ignored``,
            ``padding kept`` (what lies outside of the reconstruction keeps its -2000), ``sign lost`` (signed 16-bit HU read
            as unsigned: below 0 becomes 65536 more), ``sign invented`` (12-bit stored values read as signed: 1024 HU and above
            become 4096 less).
        intercept: Rescale intercept of the files, HU.
        slope: Rescale slope of the files, which their whitelisted header does not tell; at 1 there is none to ignore.
        padding_hu: What is stored outside of the reconstruction.
    """

    faults: ClassVar[tuple[str, ...]] = _FAULTS

    levels: tuple[Level, ...] = named_levels(_FAULTS)
    intercept: float = -1024.0
    slope: float = 1.0
    padding_hu: float = -2000.0

    def __post_init__(self) -> None:
        require_positive(self, ("slope",))

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not finite HU."""
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def fault(self, batch: Batch, name: str) -> Change:
        """Read the stored values the wrong way."""
        hu = batch.images
        stored = (hu - self.intercept) / self.slope
        if name == "intercept missing":
            wrong, why = hu - self.intercept, "the intercept is 0"
        elif name == "intercept twice":
            wrong, why = hu + self.intercept, "the intercept is 0"
        elif name == "slope ignored":
            wrong = stored + self.intercept if self.slope != 1.0 else hu
            why = "the rescale slope is 1"
        elif name == "padding kept":
            outside = ~reconstructed(hu) | (hu < PADDING_BELOW_HU)
            wrong, why = torch.where(outside, hu.clamp_max(self.padding_hu), hu), "no padding, or it is kept already"
        elif name == "sign lost":
            wrong, why = torch.where(hu < 0.0, hu + _WRAP_16, hu), "no value below 0 HU"
        else:
            wrong = torch.where(stored >= _SIGN_12, hu - _WRAP_12 * self.slope, hu)
            why = "no stored value of 2048 or more"
        change = (wrong - hu).flatten(1)
        return Change(
            images=wrong,
            measured={"hu_offset_mean": change.mean(1)},
            applicable=(change != 0.0).any(1),
            reason="" if bool((change != 0.0).any(1).all()) else why,
        )
