"""Devices on a chest radiograph: ECG electrodes and leads, a central line, a gastric tube, a pacemaker.

Every device is drawn from discs, curves and plates in millimetres, each with an attenuation in decades of exposure, and the
exposure behind them is ``E' = E · 10^-d``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import AlterLevel, Change, ladder
from robustbench_rad.shifts._lesions import seen_share
from robustbench_rad.shifts._overlay import Canvas
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "devices"
_DRAWS = 6  # numbers in [0, 1) that a device is made from
_COVERED = 0.02  # decades that can be seen


@register(
    id="shift.xr.device-overlay",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Hunter et al. 2004, Medical devices of the chest, RadioGraphics 24:1725",
    unit="devices",
)
@dataclass(frozen=True, kw_only=True)
class XrDeviceOverlay(ExposureShift, MillimetreShift):
    """Leads, lines and a pacemaker over a frontal chest.

    Kinds, order and places are drawn for each case; a level shows the first of them, so that a device once shown stays.
    Measured per level: ``covered_share`` of the image, and ``lesion_share``, how much of a known lesion lies beside all
    devices. Devices that an image has already stay.

    Attributes:
        levels: How many devices, 0 to 5; 0 is the image itself.
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a number of devices"
    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 5.0

    levels: tuple[Level, ...] = ladder(_UNIT, "1", "2", "3", "4", "5")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number of devices."""
        level = super().level(value)
        if level.value != int(level.value):
            raise ValueError(f"expected a whole number of devices, got {value}")
        return level

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw all devices of every case once."""
        spacing, usable, reason = self.spacing_mm(batch)
        count = len(DEVICES)
        order = self.uniform(batch, count, "order").argsort(1).tolist()
        draws = self.uniform(batch, count * _DRAWS, "geometry").reshape(-1, count, _DRAWS).tolist()
        canvases = [Canvas.of(image, step) for image, step in zip(batch.images, spacing, strict=True)]
        most = max((int(level.value) for level in self.levels), default=0)
        devices = [
            [DEVICES[kind](canvas, numbers) for kind, numbers in zip(kinds[:most], rows, strict=False)]
            for canvas, kinds, rows in zip(canvases, order, draws, strict=True)
        ]

        def render(level: Level) -> Change:
            shown = [sum(case[: int(level.value)], torch.zeros_like(batch.images[0, 0])) for case in devices]
            decades = torch.stack(shown)[:, None]
            covered = (decades > _COVERED).to(decades.dtype)
            return Change(
                images=self.curve.signal(10.0**-decades, batch.images),
                measured={"covered_share": covered.mean((1, 2, 3)), "lesion_share": seen_share(batch, 1.0 - covered)},
                applicable=usable,
                reason=reason,
            )

        return render


def electrode(canvas: Canvas, draws: Sequence[float]) -> Tensor:
    """An ECG electrode on the chest wall, with the lead that leaves the image below."""
    width, height = canvas.size_mm
    side = -1.0 if draws[0] < 0.5 else 1.0
    x, y = side * width * (0.15 + 0.22 * draws[1]), height * (-0.35 + 0.6 * draws[2])
    out = (side * width * (0.05 + 0.4 * draws[3]), height * 0.52)
    lead = [(x, y), (x + width * (draws[4] - 0.5) * 0.4, y + height * 0.15), (out[0], height * 0.3), out]
    pad, button = canvas.disc((x, y), 14.0), canvas.disc((x, y), 4.5)
    return 0.03 * pad + 0.55 * button + 0.35 * canvas.curve(lead, 1.6)


def central_line(canvas: Canvas, draws: Sequence[float]) -> Tensor:
    """A central venous catheter from the right side of the neck to the superior vena cava."""
    width, height = canvas.size_mm
    start = (-width * (0.08 + 0.06 * draws[0]), -height * 0.52)
    end = (-width * (0.03 + 0.02 * draws[1]), height * (-0.08 + 0.1 * draws[2]))
    bend = (-width * (0.1 + 0.05 * draws[3]), -height * 0.32)
    return 0.22 * canvas.curve([start, bend, (end[0] - 0.01 * width, -height * 0.2), end], 2.3)


def gastric_tube(canvas: Canvas, draws: Sequence[float]) -> Tensor:
    """A gastric tube down the midline and into the stomach, with its radiopaque stripe."""
    width, height = canvas.size_mm
    middle = width * 0.03 * (draws[0] - 0.5)
    end = (width * (0.08 + 0.1 * draws[1]), height * (0.42 + 0.06 * draws[2]))
    control = [(middle, -height * 0.52), (middle + width * 0.02 * (draws[3] - 0.5), 0.0), (middle, height * 0.3), end]
    return 0.06 * canvas.curve(control, 5.0) + 0.2 * canvas.curve(control, 1.2)


def pacemaker(canvas: Canvas, draws: Sequence[float]) -> Tensor:
    """A pacemaker in the left upper chest wall, its lead to the apex of the right ventricle."""
    width, height = canvas.size_mm
    x, y = width * (0.24 + 0.06 * draws[0]), -height * (0.2 + 0.08 * draws[1])
    angle = 0.6 * (draws[2] - 0.5)
    can = canvas.plate((x, y), 46.0, 40.0, angle, 14.0)
    header = canvas.plate((x - 6.0, y - 24.0), 26.0, 9.0, angle, 3.0)
    tip = (width * (0.06 + 0.06 * draws[3]), height * (0.12 + 0.06 * draws[4]))
    lead = [(x - 6.0, y - 26.0), (width * 0.05, -height * 0.4), (-width * 0.14, 0.0), tip]
    return 0.95 * can + 0.25 * header + 0.4 * canvas.curve(lead, 2.0) + 0.4 * canvas.disc(tip, 2.2)


DEVICES: tuple[Callable[[Canvas, Sequence[float]], Tensor], ...] = (
    electrode,
    electrode,
    central_line,
    gastric_tube,
    pacemaker,
)
"""What is drawn from; each takes six numbers in [0, 1) and gives attenuation ``(H, W)`` in decades."""
