"""Lines of a stationary anti-scatter grid, aliased by the sampling, and the cut-off of a grid that is off centre.

A grid of g lines per mm under pixels of Δ millimetres shows as a sinusoid of the alias frequency ``|g - round(g Δ) / Δ|``:

    E' = E · (1 + m sin(2π f x + φ)) · (1 - c x / width),      c = cutoff per modulation · m

then exposure control brings the mean back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import same_mean
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift
from robustbench_rad.shifts._resample import pixel_axes

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "% modulation"
_FEWEST_LINES = 1.0  # fewer periods over the image are no lines


@register(
    id="shift.xr.grid-lines",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="IEC 60627: characteristics of anti-scatter grids",
    unit="% modulation",
)
@dataclass(frozen=True, kw_only=True)
class XrGridLines(ExposureShift, MillimetreShift):
    """Lines and uneven exposure of a stationary grid.

    The sampling is that of the image: one that was made smaller without a filter aliases as here. Phase and side of the
    cut-off are drawn for each case. A grid whose frequency falls on the sampling shows no lines and is not applicable.
    Measured per level: ``alias_frequency_per_mm``, and ``cutoff``, the exposure lost at the far side as a share.

    Attributes:
        levels: Amplitude of the exposure in %; 0 is the image itself.
        grid_lines_per_mm: Frequency of the grid.
        cutoff_per_modulation: Loss c over modulation m; 0 for a centred grid.
        lines: ``vertical`` or ``horizontal``.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a modulation in %"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 50.0

    levels: tuple[Level, ...] = ladder(_UNIT, "0.5", "1", "2", "3", "4")
    grid_lines_per_mm: float = 4.0
    cutoff_per_modulation: float = 4.0
    lines: str = "vertical"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("grid_lines_per_mm",))
        require_positive(self, ("cutoff_per_modulation",), zero=True)
        require_one_of(self, "lines", ("vertical", "horizontal"))
        steepest = max((level.value for level in self.levels), default=0.0) / 100.0 * self.cutoff_per_modulation
        if steepest >= 1.0:
            raise ValueError(f"cutoff_per_modulation: expected less than all exposure to be lost, got {steepest:.0%}")

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw phase and side; the levels share the sinusoid."""
        spacing, usable, reason = self.spacing_mm(batch)
        before = self.curve.exposure(batch.images)
        step = spacing[:, 1] if self.lines == "vertical" else spacing[:, 0]
        rows, columns = pixel_axes(batch.images)
        axis = columns if self.lines == "vertical" else rows
        frequency = alias_frequency_per_mm(self.grid_lines_per_mm, step)
        phase, side = self.uniform(batch, 2, "phase and side").unbind(1)
        turns = per_case(frequency * step, before) * axis[None] + per_case(phase, before)
        wave = torch.sin(2.0 * math.pi * turns)
        ramp = (axis[None] + 0.5) / axis.numel()
        ramp = torch.where(per_case(side, before) < 0.5, ramp, 1.0 - ramp)
        seen = frequency * step * axis.numel() >= _FEWEST_LINES

        def render(level: Level) -> Change:
            modulation = level.value / 100.0
            cutoff = self.cutoff_per_modulation * modulation
            lined = before * (1.0 + modulation * wave) * (1.0 - cutoff * ramp)
            why = "" if bool(seen.all()) else "the grid's frequency falls on the sampling: no lines"
            return Change(
                images=self.curve.changed(same_mean(lined, before, batch.images), before, batch.images),
                measured={"alias_frequency_per_mm": frequency, "cutoff": torch.full_like(frequency, cutoff)},
                applicable=usable & seen,
                reason=", ".join(filter(None, (reason, why))),
                attributes={"Grid": "FIXED"},
            )

        return render


def alias_frequency_per_mm(grid_lines_per_mm: float, spacing_mm: Tensor) -> Tensor:
    """Frequency at which a grid shows after sampling.

    >>> alias_frequency_per_mm(4.0, torch.tensor([0.1, 0.15, 0.2, 0.25]))
    tensor([4.0000, 2.6667, 1.0000, 0.0000])
    """
    periods = grid_lines_per_mm * spacing_mm
    return (periods - periods.round()).abs() / spacing_mm
