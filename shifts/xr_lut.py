"""Another display curve of the console: a gamma, or the centre of a sigmoid VOI function.

    gamma:  y = x^γ          centre:  y = σ(σ⁻¹(x) - 4 δ / w),   σ(t) = 1 / (1 + exp(-t))

The second is the sigmoid of DICOM PS3.3 C.11.2.1.3 of width w with its centre moved by δ, both as a share of the scale.
Both are monotone and keep 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, exponential, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._radiograph import RadiographShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_GAMMAS = ("0.85", "1.18", "0.75", "1.33", "0.65", "1.55", "0.55", "1.8", "0.45", "2.2")
_CENTRES = ("-3", "3", "-6", "6", "-10", "10", "-15", "15", "-20", "20")
_CENTRE_UNIT = "% of the scale"
_MIDDLE = 0.5
_LEAST = 1e-12


@register(
    id="shift.xr.lut",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CR", "DX", "MG"),
    reference="DICOM PS3.3 C.11.2; DICOM PS3.14",
    unit="gamma",
)
@dataclass(frozen=True, kw_only=True)
class XrLut(ContinuousLadder, RadiographShift):
    """Toe and shoulder of another display curve: a gamma below 1 brightens, above 1 darkens.

    Measured per level: ``middle_grey``, what half the scale becomes.

    Attributes:
        levels: Gammas, in pairs of bright and dark; 1 is the image itself.
    """

    neutral: ClassVar[float | None] = 1.0
    unit: ClassVar[str] = "gamma"
    what: ClassVar[str] = "a gamma"
    lowest: ClassVar[float] = 0.1
    highest: ClassVar[float] = 10.0

    levels: tuple[Level, ...] = ladder("gamma", *_GAMMAS)

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is shared."""

        def alter(gamma: Value) -> Change:
            images = with_gamma(batch.images, per_case_factor(gamma, batch.images))
            return Change(images=images, measured={"middle_grey": _MIDDLE ** filled(gamma, batch.images)})

        return alter


@register(
    id="shift.xr.lut-centre",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CR", "DX", "MG"),
    reference="DICOM PS3.3 C.11.2.1.3",
    unit="% of the scale",
)
@dataclass(frozen=True, kw_only=True)
class XrLutCentre(ContinuousLadder, RadiographShift):
    """A sigmoid VOI function with its centre moved: up is darker.

    Measured per level: ``middle_grey``, what half the scale becomes.

    Attributes:
        levels: Shifts of the centre in % of the scale, in pairs; 0 is the image itself.
        width: Width of the sigmoid as a share of the scale.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _CENTRE_UNIT
    what: ClassVar[str] = "a shift of the centre in %"
    lowest: ClassVar[float] = -90.0
    highest: ClassVar[float] = 90.0

    levels: tuple[Level, ...] = ladder(_CENTRE_UNIT, *_CENTRES)
    width: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("width",))

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is shared."""

        def alter(percent: Value) -> Change:
            shift = percent / 100.0 / self.width
            middle = torch.full((len(batch),), _MIDDLE, device=batch.device)
            return Change(
                images=with_centre(batch.images, per_case_factor(shift, batch.images)),
                measured={"middle_grey": with_centre(middle, filled(shift, middle))},
            )

        return alter


def with_gamma(signal: Tensor, gamma: Value) -> Tensor:
    """``signal^γ``; its slope at 0 is taken as 0 where it would be infinite.

    >>> with_gamma(torch.tensor([0.0, 0.25, 1.0]), 0.5).tolist()
    [0.0, 0.5, 1.0]
    """
    return torch.where(signal > 0.0, signal.clamp_min(_LEAST) ** gamma, torch.zeros_like(signal))


def with_centre(signal: Tensor, shift: Value) -> Tensor:
    """Move the centre of a sigmoid by a share of its width: ``x / (x + (1 - x) exp(4 δ / w))``.

    >>> import math
    >>> with_centre(torch.tensor([0.0, 0.5, 1.0]), 0.25 * math.log(3)).tolist()
    [0.0, 0.25, 1.0]
    """
    return signal / (signal + (1.0 - signal) * exponential(4.0 * shift))
