"""Motion of the patient during the exposure: the exposure is averaged along a straight path.

A uniform motion by d millimetres in the direction θ multiplies the spectrum by ``sin(π d f_θ) / (π d f_θ)``, f_θ the frequency
along θ. The mean is kept; a point becomes a line of length d with variance d² / 12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, case_by_case, filled, number
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "mm"


@register(
    id="shift.xr.motion-blur",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="Barrett and Swindell 1981, Radiological Imaging, ch. 4",
    unit="mm",
)
@dataclass(frozen=True, kw_only=True)
class XrMotionBlur(ContinuousLadder, ExposureShift, MillimetreShift):
    """Blur of a patient who moved or breathed during the exposure.

    Measured per level: ``path_px``, the length of the path in pixels (rows and columns of their own spacing), and
    ``first_zero_per_mm``, the frequency along the path that is lost.

    Attributes:
        levels: Length of the path in mm at the detector; 0 is the image itself.
        direction: ``any`` (drawn for each case), ``vertical`` (breathing) or ``horizontal``.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a path in mm"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 50.0

    levels: tuple[Level, ...] = ladder(_UNIT, "0.25", "0.5", "1", "2", "4")
    direction: str = "any"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "direction", ("any", "vertical", "horizontal"))

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw the direction of every case; the levels share it."""
        spacing, usable, reason = self.spacing_mm(batch)
        before = self.curve.exposure(batch.images)
        angles = self._angles(batch)

        def alter(path_mm: Value) -> Change:
            paths = case_by_case(path_mm, len(batch))
            cases = zip(before[:, None], spacing[:, None], paths, angles.tolist(), strict=True)
            blurred = torch.cat([moved(*case) for case in cases])
            asked = filled(path_mm, spacing)
            path = asked * torch.hypot(angles.sin() / spacing[:, 0], angles.cos() / spacing[:, 1])
            return Change(
                images=self.curve.changed(blurred.clamp_min(0.0), before, batch.images),
                measured={"path_px": path, "first_zero_per_mm": 1.0 / asked},
                applicable=usable,
                reason=reason,
            )

        return alter

    def _angles(self, batch: Batch) -> Tensor:
        """Direction ``(N,)`` in radians from the row axis."""
        if self.direction == "any":
            return math.pi * self.uniform(batch, 1, "direction")[:, 0]
        angle = math.pi / 2 if self.direction == "vertical" else 0.0
        return torch.full((len(batch),), angle, device=batch.device)


def moved(exposure: Tensor, spacing_mm: Tensor, path_mm: Value, angle_rad: float) -> Tensor:
    """Exposure averaged along a straight path; ``angle_rad`` is 0 along the rows of the image, π/2 down the columns."""

    def transfer(vertical: Tensor, horizontal: Tensor) -> Tensor:
        along = math.sin(angle_rad) * vertical + math.cos(angle_rad) * horizontal
        return torch.sinc(path_mm * along)

    return mirrored(exposure, spacing_mm, transfer, reach=2.0 * number(path_mm))
