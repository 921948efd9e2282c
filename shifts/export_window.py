"""A CT image windowed with another centre and width than the model expects, before it is turned into a picture.

Worked in physical space, because what the wrong window shows lies partly outside of the right one and is gone in display space:

    HU' = c + (HU - c') · w / w'

shown with the model's window (c, w) is the very picture that the wrong window (c', w') makes of HU; both clip the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Unit, fraction
from robustbench_rad.registry import register
from robustbench_rad.shifts._any_image import ShownShift, padding
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical
from robustbench_rad.shifts._ladder import Change

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

PRESETS = {
    "brain": (40.0, 80.0),
    "stroke": (35.0, 35.0),
    "soft tissue": (40.0, 400.0),
    "liver": (60.0, 160.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (480.0, 2500.0),
}
"""Centre and width in HU of windows that consoles offer."""

_DEFAULTS = (
    "centre 0.1",
    "centre -0.1",
    "width 0.8",
    "width 1.25",
    "centre 0.25",
    "centre -0.25",
    "width 0.6",
    "width 1.6",
    "centre 0.5",
    "centre -0.5",
)
_GREATEST = 20.0


def _window_level(value: float | str) -> Level:
    """Read ``centre 0.1``, ``width 0.6``, a preset, or a number: a move of the centre."""
    text = str(value).strip()
    if text in PRESETS:
        return Level(name=text, value=float(list(PRESETS).index(text) + 1), unit="window")
    what, _, amount = text.rpartition(" ")
    try:
        number = fraction(amount)
    except (ValueError, ZeroDivisionError):
        number = float("nan")
    if what in ("", "centre") and abs(number) <= _GREATEST:
        return Level(name=text if what else f"centre {text}", value=number, unit="× width")
    if what == "width" and 1.0 / _GREATEST <= number <= _GREATEST:
        return Level(name=text, value=number, unit="× width")
    known = ", ".join(PRESETS)
    raise ValueError(
        f"expected 'centre 0.1' (share of the width), 'width 0.6' (factor), or one of {known}, got {value!r}"
    )


@register(
    id="shift.export.window",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="DICOM PS3.3 C.11.2.1.2",
    unit="× width",
)
@dataclass(frozen=True, kw_only=True)
class ExportWindow(ShownShift):
    """Another display window than the model was trained with.

    Measured per level: ``window_centre_hu`` and ``window_width_hu`` in force, and ``clipped_share`` of the pixels that the
    model's window would show and this one does not.

    Attributes:
        levels: ``centre 0.1`` (moved up by a tenth of the width), ``width 0.6`` (narrowed to 0.6), or a preset
            (``lung`` given to a brain model). A number alone moves the centre; 0 is the image itself.
        limits: The model's window; None: the plan's ``window_hu``.
    """

    unit: ClassVar[str] = "× width"

    levels: tuple[Level, ...] = tuple(_window_level(text) for text in _DEFAULTS)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a move of the centre, a factor on the width, or the name of a preset."""
        return _window_level(value)

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not HU, and images whose window is not known."""
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)
        self.black_and_white(batch)

    def is_neutral(self, level: Level) -> bool:
        """The model's own window."""
        return level.name not in PRESETS and level.value == (1.0 if level.name.startswith("width") else 0.0)

    def prepare_levels(self, batch: Batch) -> Callable[[Level], Change]:
        """Find the model's window."""
        low, high = self.black_and_white(batch)
        right = (low + high) / 2.0, high - low
        outside, shown = padding(batch), (batch.images > low) & (batch.images < high)

        def alter(level: Level) -> Change:
            centre, width = wrong = wrong_window(level, right)
            inside = (batch.images - centre).abs() < width / 2.0
            lost = (shown & ~inside).flatten(1).float().mean(1)
            values = {"window_centre_hu": centre, "window_width_hu": width}
            measured = {name: torch.full_like(lost, value) for name, value in values.items()}
            return Change(
                images=torch.where(outside, batch.images, windowed_as(batch.images, right, wrong)),
                measured={**measured, "clipped_share": lost},
            )

        return alter


def wrong_window(level: Level, right: tuple[float, float]) -> tuple[float, float]:
    """Centre and width in HU that a level makes of the model's own.

    >>> wrong_window(_window_level("centre 0.25"), (40.0, 400.0)), wrong_window(_window_level("width 0.5"), (40.0, 400.0))
    ((140.0, 400.0), (40.0, 200.0))
    """
    centre, width = right
    if level.name in PRESETS:
        return PRESETS[level.name]
    if level.name.startswith("width"):
        return centre, width * level.value
    return centre + width * level.value, width


def windowed_as(images_hu: Tensor, right: tuple[float, float], wrong: tuple[float, float]) -> Tensor:
    """Images that look through the ``right`` window as ``images_hu`` look through the ``wrong`` one (centre, width).

    >>> windowed_as(torch.tensor([-600.0, 150.0]), (40.0, 80.0), (-600.0, 1500.0)).tolist()
    [40.0, 80.0]
    """
    (centre, width), (other, wide) = right, wrong
    return centre + (images_hu - other) * (width / wide)
