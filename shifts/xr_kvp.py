"""Another tube voltage in projection radiography: soft tissue and bone change their contrast by different factors.

The line integral t = -ln E is multiplied by the ratio of the attenuation of soft tissue at the two voltages; the part of it
that is taken for bone by that of bone:

    t' = r_soft · t + (r_bone - r_soft) · share · (t - G ∗ t)

G a Gaussian. Without a bone mask fine structure stands for bone (ribs, cortical bone, trabeculae) to a declared share, which
is the approximation. Exposure control keeps the mean exposure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.registry import register
from robustbench_rad.shifts._attenuation import TUBE_VOLTAGES_KV, contrast_factor
from robustbench_rad.shifts._display_curve import same_mean
from robustbench_rad.shifts._header import header_numbers
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "kVp"
_LEAST_EXPOSURE = 1e-4
_LOWEST, _HIGHEST = TUBE_VOLTAGES_KV[0], TUBE_VOLTAGES_KV[-1]


@register(
    id="shift.xr.kvp",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="IEC 61267; Hubbell and Seltzer 2004, NIST XAAMDI, 10.18434/T4D01F",
    unit="kVp",
)
@dataclass(frozen=True, kw_only=True)
class XrKvp(ExposureShift, MillimetreShift):
    """Contrast of soft tissue and bone at another tube voltage.

    The source's voltage is KVP of the file. Measured: ``source_kvp`` and ``source_kvp_assumed`` (1 where the file says
    none); per level ``soft_tissue_factor`` and ``bone_factor``, by which log contrasts are multiplied.

    Attributes:
        levels: Tube voltages in kVp, 50 to 150; the source's own is the image itself.
        assumed_kvp: Where the file says none.
        bone_share: Share of fine structure that is taken for bone, in [0, 1].
        fine_mm: Standard deviation of the Gaussian that parts fine structure.
    """

    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a tube voltage in kVp"
    lowest: ClassVar[float] = _LOWEST
    highest: ClassVar[float] = _HIGHEST

    levels: tuple[Level, ...] = ladder(_UNIT, "110", "100", "90", "80", "70")
    assumed_kvp: float = 125.0
    bone_share: float = 0.5
    fine_mm: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("assumed_kvp", "fine_mm"))
        require_positive(self, ("bone_share",), zero=True)
        if self.bone_share > 1.0 or not _LOWEST <= self.assumed_kvp <= _HIGHEST:
            raise ValueError(
                "bone_share and assumed_kvp: expected at most 1 and 50 to 150, "
                f"got {self.bone_share} and {self.assumed_kvp}"
            )

    def source_kvp(self, batch: Batch) -> list[float]:
        """Tube voltage of every case, assumed where the file says none."""
        return [self.assumed_kvp if math.isnan(value) else value for value in header_numbers(batch, "KVP")]

    def about(self, batch: Batch) -> list[Measurement]:
        """Voltage of the source, and whether it was assumed."""
        assumed = [float(math.isnan(value)) for value in header_numbers(batch, "KVP")]
        return [
            *super().about(batch),
            Measurement(quantity="source_kvp", values=torch.tensor(self.source_kvp(batch), device=batch.device)),
            Measurement(quantity="source_kvp_assumed", values=torch.tensor(assumed, device=batch.device)),
        ]

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Part fine structure from the rest, once for all levels."""
        spacing, usable, reason = self.spacing_mm(batch)
        sources = self.source_kvp(batch)
        inside = torch.tensor([_LOWEST <= value <= _HIGHEST for value in sources], device=batch.device)
        why = "" if bool(inside.all()) else f"tube voltage outside {_LOWEST:g} to {_HIGHEST:g} kVp"
        sources = [min(max(value, _LOWEST), _HIGHEST) for value in sources]
        before = self.curve.exposure(batch.images)
        line = -before.clamp_min(_LEAST_EXPOSURE).log()
        fine = line - mirrored(line, spacing, self._coarse, reach=6.0 * self.fine_mm)

        def render(level: Level) -> Change:
            soft, bone = (
                line.new_tensor([contrast_factor(material, source, level.value) for source in sources])
                for material in ("water", "bone")
            )
            added = per_case(soft - 1.0, line) * line + per_case(self.bone_share * (bone - soft), line) * fine
            exposure = same_mean(before * torch.exp(-added), before, batch.images)
            images = self.curve.changed(exposure, before, batch.images)
            same = line.new_tensor(sources) == level.value
            return Change(
                images=torch.where(per_case(same, images), batch.images, images),
                measured={"soft_tissue_factor": soft, "bone_factor": bone},
                applicable=usable & inside,
                reason=", ".join(filter(None, (reason, why))),
                attributes={"KVP": f"{level.value:.8g}"},
            )

        return render

    def _coarse(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        return torch.exp(-2.0 * (math.pi * self.fine_mm) ** 2 * (vertical**2 + horizontal**2))
