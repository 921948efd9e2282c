"""Shortcut audit A4: a catheter, or an electrode with its wire, over the chest, and what the score does.

Both attenuate, so they add to the signal of a radiograph whose display is log-linear in exposure: ``s' = s + d / 1.5``, d the
decades of attenuation. Drawn in millimetres with even edges, by the same canvas as ``shift.xr.device-overlay``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._display_curve import DisplayCurve
from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._overlay import Canvas
from robustbench_rad.shortcuts._insertion import Drawn, Insertion, paired_levels, scattered

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_DRAWS = 6
_TILE = 0.012  # of the shorter side: a line is cut many times, and an electrode's button too


@register(
    id="shortcut.insert-tube",
    version=1,
    space="display",
    domain="shortcut",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Oakden-Rayner et al. 2020, doi:10.1145/3368555.3384468; Hunter et al. 2004, RadioGraphics 24:1725",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class InsertTube(Insertion):
    """Lay a catheter or an electrode with its wire over a frontal chest; the placebo is the same line in pieces.

    The placebo's pieces, of about 1 % of the shorter side, are laid in another order inside the line's own bounding box: the
    same region is as much brighter, and there is no line. A course is drawn for each case, about the middle of the image, where
    a centred chest has its mediastinum.

    Attributes:
        levels: ``catheter`` (central venous, bent), ``electrode`` (pad, button and wire).
        catheter_mm: Outer diameter of the catheter; 2.3 is 7 French.
        wire_mm: Diameter of the electrode's wire.
        catheter_decades: Attenuation of the catheter.
        wire_decades: Attenuation of the wire.
        assumed_field_of_view_mm: Length of the longer image side where the pixel spacing is unknown.
    """

    names: ClassVar[tuple[str, ...]] = ("catheter", "electrode")

    levels: tuple[Level, ...] = paired_levels("catheter", "electrode")
    catheter_mm: float = 2.3
    wire_mm: float = 1.6
    catheter_decades: float = 0.3
    wire_decades: float = 0.35
    assumed_field_of_view_mm: float = 430.0

    def __post_init__(self) -> None:
        """Refuse sizes without meaning.

        Raises:
            ValueError: Says which.
        """
        super().__post_init__()
        require_positive(
            self, ("catheter_mm", "wire_mm", "catheter_decades", "wire_decades", "assumed_field_of_view_mm")
        )

    def drawn(self, batch: Batch, name: str) -> Drawn:
        """The line of every case, and its pieces."""
        shape = batch.images.shape[-2:]
        draw: dict[str, Callable[[Canvas, Sequence[float]], Tensor]] = {
            "catheter": self.catheter,
            "electrode": self.electrode,
        }
        known = in_plane_spacing_mm(batch).cpu()
        spacing = torch.where(known.isnan(), self.assumed_field_of_view_mm / max(shape), known)
        courses = self.draws(batch, _DRAWS, name).tolist()
        canvas = torch.empty(1, *shape)
        lines = [draw[name](Canvas.of(canvas, step), course) for step, course in zip(spacing, courses, strict=True)]
        tile = max(round(_TILE * min(shape)), 2)
        pieces = [
            scattered(line, tile, source)
            for line, source in zip(lines, self.generators(batch, f"pieces of {name}"), strict=True)
        ]
        return Drawn(real=torch.stack(lines)[:, None], placebos=(torch.stack(pieces)[:, None],))

    def painted(self, images: Tensor, drawn: Tensor, name: str) -> Tensor:
        """Brighter by what the line attenuates."""
        del name
        return DisplayCurve().signal(10.0**-drawn, images)

    def catheter(self, canvas: Canvas, draws: Sequence[float]) -> Tensor:
        """From the right side of the neck, bent, to the superior vena cava; decades ``(H, W)``."""
        width, height = canvas.size_mm
        start = (-width * (0.06 + 0.07 * draws[0]), -height * 0.52)
        bend = (-width * (0.12 + 0.06 * draws[1]), -height * 0.30)
        end = (-width * (0.03 + 0.02 * draws[2]), height * (-0.08 + 0.12 * draws[3]))
        above = (end[0] - width * 0.015 * draws[4], -height * 0.2)
        return self.catheter_decades * canvas.curve([start, bend, above, end], self.catheter_mm)

    def electrode(self, canvas: Canvas, draws: Sequence[float]) -> Tensor:
        """On the chest wall, its wire leaving the image below; decades ``(H, W)``."""
        width, height = canvas.size_mm
        side = -1.0 if draws[0] < 0.5 else 1.0
        x, y = side * width * (0.16 + 0.18 * draws[1]), height * (-0.32 + 0.5 * draws[2])
        out = (side * width * (0.08 + 0.35 * draws[3]), height * 0.52)
        upper = (x + width * 0.3 * (draws[4] - 0.5), y + height * 0.16)
        lower = (out[0] + width * 0.2 * (draws[5] - 0.5), height * 0.34)
        wire = self.wire_decades * canvas.curve([(x, y), upper, lower, out], self.wire_mm)
        pad, button = 0.03 * canvas.disc((x, y), 14.0), 0.6 * canvas.disc((x, y), 4.5)
        return torch.maximum(wire, button) + pad
