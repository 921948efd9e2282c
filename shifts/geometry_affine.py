"""How the patient lies: turned, off centre, nearer or farther, by physical amounts.

Worked on the native grid in physical space: interpolation costs least there, masks and spacing move along, and the model's
own resizing comes after it, as it would for another patient position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts import _affine
from robustbench_rad.shifts._any_image import AnyImageShift
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder, uniforms
from robustbench_rad.shifts._levels import require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_DEGREES, _SHARE, _FACTOR = "degrees", "% of the field of view", "× size"
_TURNS = {"clockwise": -1.0, "counter-clockwise": 1.0}
_WAYS = {"right": 0.0, "up": 90.0, "left": 180.0, "down": 270.0}


@dataclass(frozen=True, kw_only=True)
class _Positioned(ContinuousLadder, AnyImageShift):
    """Base of the three.

    Attributes:
        fill: What comes into view: the image's ``darkest`` value, as a shutter or air would be, or its ``edge`` continued.
    """

    fill: str = "darkest"

    def __post_init__(self) -> None:
        require_one_of(self, "fill", _affine.FILLS)

    def change(self, batch: Batch, matrix: Tensor, offset_px: Tensor, measured: dict[str, Tensor]) -> Change:
        """The batch read at other places."""
        seen = _affine.moved(batch, matrix, offset_px, fill=self.fill)
        return Change(images=seen.images, measured=measured, anatomy=seen.anatomy, lesion=seen.lesion)


def _still(batch: Batch) -> tuple[Tensor, Tensor]:
    count, device = len(batch), batch.device
    return torch.eye(2, device=device).expand(count, 2, 2), torch.zeros(count, 2, device=device)


@register(
    id="shift.geometry.rotate",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261; positioning tolerances are those of clinical practice",
    unit="degrees",
)
@dataclass(frozen=True, kw_only=True)
class GeometryRotate(_Positioned):
    """A patient turned in the plane of the image.

    Every case turns one way, drawn for it, at all levels. Measured: ``rotation_deg``, counter-clockwise positive.

    Attributes:
        levels: Angle in degrees; 0 is the image itself.
        direction: ``random``, ``clockwise`` or ``counter-clockwise``.
    """

    unit: ClassVar[str] = _DEGREES
    lowest: ClassVar[float] = -180.0
    highest: ClassVar[float] = 180.0

    levels: tuple[Level, ...] = ladder(_DEGREES, 2, 5, 10, 15, 25)
    direction: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "direction", ("random", *_TURNS))

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw which way each case turns."""
        drawn = torch.where(uniforms(batch, 1, self.id, self.version)[:, 0] < 0.5, 1.0, -1.0)
        sign = torch.full_like(drawn, _TURNS[self.direction]) if self.direction in _TURNS else drawn
        aspect, (_, offset) = _affine.pixel_aspect(batch), _still(batch)

        def alter(value: Value) -> Change:
            degrees = sign * per_case_factor(value, sign)
            matrix = _affine.rotation(torch.deg2rad(degrees), aspect)
            return self.change(batch, matrix, offset, {"rotation_deg": degrees.detach()})

        return alter


@register(
    id="shift.geometry.translate",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261; positioning tolerances are those of clinical practice",
    unit="% of the field of view",
)
@dataclass(frozen=True, kw_only=True)
class GeometryTranslate(_Positioned):
    """A patient off the centre of the image.

    Every case moves one way, drawn for it, at all levels. Measured: ``translation_rows_px`` and ``translation_columns_px``.

    Attributes:
        levels: Distance in percent of the shorter side; 0 is the image itself.
        direction: ``random``, ``right``, ``up``, ``left`` or ``down``.
    """

    unit: ClassVar[str] = _SHARE
    highest: ClassVar[float] = 100.0

    levels: tuple[Level, ...] = ladder(_SHARE, 2, 4, 8, 12, 20)
    direction: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "direction", ("random", *_WAYS))

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw which way each case moves."""
        drawn = 2.0 * math.pi * uniforms(batch, 1, self.id, self.version)[:, 0]
        given = math.radians(_WAYS.get(self.direction, 0.0))
        angle = torch.full_like(drawn, given) if self.direction in _WAYS else drawn
        aspect, (matrix, _) = _affine.pixel_aspect(batch), _still(batch)
        height, width = batch.images.shape[-2:]
        side = torch.minimum(height * aspect, torch.full_like(aspect, width))  # in units of the column spacing

        def alter(value: Value) -> Change:
            distance = side * per_case_factor(value, side) / 100.0
            rows, columns = -distance * angle.sin() / aspect, distance * angle.cos()
            measured = {"translation_rows_px": rows.detach(), "translation_columns_px": columns.detach()}
            return self.change(batch, matrix, -torch.stack([rows, columns], 1), measured)

        return alter


@register(
    id="shift.geometry.scale",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261; positioning tolerances are those of clinical practice",
    unit="× size",
)
@dataclass(frozen=True, kw_only=True)
class GeometryScale(_Positioned):
    """Anatomy shown larger or smaller about the centre of the image.

    The millimetres per pixel follow: a larger picture has smaller pixels. Slices of a volume keep their distance.

    Attributes:
        levels: Factor on the size; 1 is the image itself.
    """

    unit: ClassVar[str] = _FACTOR
    neutral: ClassVar[float | None] = 1.0
    lowest: ClassVar[float] = 0.1
    highest: ClassVar[float] = 10.0

    levels: tuple[Level, ...] = ladder(_FACTOR, 0.95, 1.05, 0.9, 1.1, 0.85, 1.15, 0.8, 1.2, 0.7, 1.3)

    def prepare(self, batch: Batch) -> AlterValue:
        """Nothing is drawn."""
        same, offset = _still(batch)

        def alter(value: Value) -> Change:
            scale = filled(value, offset)
            change = self.change(batch, same / per_case_factor(value, same), offset, {"scale": scale})
            if batch.spacing_mm is None:
                return change
            spacing = batch.spacing_mm.clone()
            spacing[:, -2:] /= scale[:, None]
            return Change(**{**vars(change), "spacing_mm": spacing})

        return alter
