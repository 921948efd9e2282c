"""What the shifts of projection radiography share: what they refuse, exposure, millimetres, and draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Measurement, Unit
from robustbench_rad.shifts._display_curve import DisplayCurve
from robustbench_rad.shifts._inputs import in_plane_spacing_mm, require_physical, require_signal_range
from robustbench_rad.shifts._ladder import LadderShift, uniforms
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@dataclass(frozen=True, kw_only=True)
class RadiographShift(LadderShift):
    """Base of the shifts that take presentation images ``(N, 1, H, W)`` in [0, 1]."""

    neutral: ClassVar[float | None] = None
    measures_neutral: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not presentation signal ``(N, 1, H, W)`` in [0, 1]."""
        require_physical(batch, shift=self.id, unit=Unit.SIGNAL, ndim=(4,))
        require_signal_range(batch, shift=self.id)

    def uniform(self, batch: Batch, count: int, name: str) -> Tensor:
        """``(N, count)`` numbers in [0, 1), row i from the seed of case i; the levels share them."""
        return uniforms(batch, count, self.id, self.version, name)


@dataclass(frozen=True, kw_only=True)
class ExposureShift(RadiographShift):
    """A shift that works on the exposure of the detector.

    Approximate at best for presentation images, which reach the exposure only through a declared display curve.

    Attributes:
        display_curve: ``log-linear`` (bright is little exposure) or ``linear`` (detector signal, bright is much).
        decades: Decades of exposure over the full scale of the log-linear curve.
    """

    display_curve: str = "log-linear"
    decades: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.curve  # checks both

    @property
    def curve(self) -> DisplayCurve:
        """The declared curve."""
        return DisplayCurve(display_curve=self.display_curve, decades=self.decades)


@dataclass(frozen=True, kw_only=True)
class MillimetreShift(RadiographShift):
    """A shift that has a length in millimetres.

    Attributes:
        assumed_field_of_view_mm: Length of the longer image side where a case's pixel spacing is unknown; such cases
            are reported by the measurement ``assumed_spacing_mm``. 0: they are not applicable.
    """

    assumed_field_of_view_mm: float = 430.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("assumed_field_of_view_mm",), zero=True)

    def about(self, batch: Batch) -> list[Measurement]:
        """The spacing that was assumed; NaN where the file gave it, or nothing was assumed."""
        unknown = in_plane_spacing_mm(batch).isnan().any(1)
        assumed = self._assumed_spacing_mm(batch) or torch.nan
        return [Measurement(quantity="assumed_spacing_mm", values=torch.where(unknown, assumed, torch.nan))]

    def spacing_mm(self, batch: Batch) -> tuple[Tensor, Tensor, str]:
        """Spacing ``(N, 2)`` of every case, whether it may be used ``(N,)``, and why not."""
        known = in_plane_spacing_mm(batch)
        unknown = known.isnan().any(1)
        assumed = self._assumed_spacing_mm(batch)
        spacing = torch.where(unknown[:, None], assumed or 1.0, known)
        usable = torch.ones_like(unknown) if assumed else ~unknown
        return spacing, usable, "" if bool(usable.all()) else "pixel spacing unknown"

    def _assumed_spacing_mm(self, batch: Batch) -> float:
        return self.assumed_field_of_view_mm / max(batch.images.shape[-2:])
