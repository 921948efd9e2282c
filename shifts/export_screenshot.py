"""A screenshot in place of the file: 8 bits, burned-in words, a frame, uneven pixels, a monitor's gamma.

Worked in physical space on the native grid: the words and the frame are there before the model's own windowing and resizing,
and grey levels are rounded where the screen rounds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts import _affine
from robustbench_rad.shifts._any_image import ShownShift, require_image
from robustbench_rad.shifts._faults import named_level, named_levels
from robustbench_rad.shifts._ladder import Alter, Change
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._viewer_text import LETTERS, written
from robustbench_rad.shifts.export_bit_depth import quantised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from robustbench_rad.conditions import Batch

_STEPS = ("8 bit", "text", "frame", "uneven pixels", "gamma")
_INK = 0.95  # of white
_LEAST_PX = 16


@register(
    id="shift.export.screenshot",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    reference="Zech et al. 2018, 10.1371/journal.pmed.1002683; ITU-R BT.1886",
)
@dataclass(frozen=True, kw_only=True)
class ExportScreenshot(ShownShift):
    """A picture of a viewer's window instead of the image.

    Every level holds those before it. Measured: ``overlay_share`` of the pixels under words or frame, and
    ``grey_levels`` in use. Images below 16 pixels have no room and are not applicable.

    Attributes:
        levels: ``8 bit``, ``text``, ``frame``, ``uneven pixels``, ``gamma``.
        words: Lines burned in at the upper left, of digits and the letters A E G I L M O R S W X Z - . : / and blanks.
        text_height: Height of a line as a share of the image.
        frame: Width of the black frame on every side, as a share of it.
        aspect: Width over height that a square becomes.
        gamma: Exponent that the monitor's profile takes out of the grey levels: v becomes v^(1 / gamma).
    """

    neutral: ClassVar[float | None] = None

    levels: tuple[Level, ...] = named_levels(_STEPS)
    words: tuple[str, ...] = ("IMAGE 12/40", "W: 400 L: 40", "ZOOM 1.0")
    text_height: float = 0.03
    frame: float = 0.06
    aspect: float = 1.1
    gamma: float = 2.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("text_height", "frame", "aspect", "gamma"))
        if self.frame >= 0.5 or self.text_height >= 0.5:
            raise ValueError("frame, text_height: expected shares below 0.5 of the image")
        unknown = sorted({letter for line in self.words for letter in line} - LETTERS)
        if unknown:
            raise ValueError(f"words: no such letter: {' '.join(unknown)}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of a step."""
        return named_level(value, _STEPS)

    def refuse(self, batch: Batch) -> None:
        """Refuse volumes, and images whose black and white are not known."""
        require_image(batch, shift=self.id, ndim=(4,))
        self.black_and_white(batch)

    def prepare(self, batch: Batch) -> Alter:
        """Draw the words, which all cases share."""
        low, high = self.black_and_white(batch)
        height, width = batch.images.shape[-2:]
        roomy = torch.full((len(batch),), min(height, width) >= _LEAST_PX, device=batch.device)
        ink = self._ink(height, width).to(batch.device)

        def alter(value: float) -> Change:
            steps = _STEPS[: int(value)]
            seen = self._framed(batch, low, steps)
            shown = ((seen.images - low) / (high - low)).clamp(0.0, 1.0)
            if "gamma" in steps:
                shown = shown.clamp_min(1e-6) ** (1.0 / self.gamma)
            if "text" in steps:
                shown = shown + ink * (_INK - shown)
            shown = quantised(shown, bits=8)
            covered = seen.outside | (ink > 0.5) if "text" in steps else seen.outside
            used = [float(case.unique().numel()) for case in shown.detach()]
            return Change(
                images=low + shown * (high - low),
                measured={
                    "overlay_share": covered.flatten(1).float().mean(1),
                    "grey_levels": shown.detach().new_tensor(used),
                },
                applicable=roomy,
                reason="" if bool(roomy.all()) else f"fewer than {_LEAST_PX} pixels",
                anatomy=seen.anatomy,
                lesion=seen.lesion,
                attributes={"BitsStored": "8"},
            )

        return alter

    def _ink(self, height: int, width: int) -> Tensor:
        line = self.text_height * height
        margin = 0.3 * line
        lines = [
            written(words, (height, width), height_px=line, top_px=margin + 1.5 * line * row, left_px=margin)
            for row, words in enumerate(self.words)
        ]
        return torch.stack(lines).amax(0) if lines else torch.zeros(height, width)

    def _framed(self, batch: Batch, black: float, steps: Sequence[str]) -> _Framed:
        """Images within their frame, squeezed where pixels become uneven."""
        if "frame" not in steps:
            nothing = torch.zeros_like(batch.images, dtype=torch.bool)
            return _Framed(images=batch.images, outside=nothing, anatomy=batch.anatomy, lesion=batch.lesion)
        squeeze = self.aspect if "uneven pixels" in steps else 1.0
        room = 1.0 - 2.0 * self.frame
        # the longer of the two stretched sides fills the frame
        scale = torch.tensor([1.0 / squeeze, 1.0] if squeeze >= 1.0 else [1.0, squeeze], device=batch.device) * room
        matrix = torch.diag(1.0 / scale).expand(len(batch), 2, 2)
        seen = _affine.moved(batch, matrix, torch.zeros(len(batch), 2, device=batch.device))
        height, width = batch.images.shape[-2:]
        rows, columns = (
            ((torch.arange(pixels, device=batch.device) + 0.5) / pixels - 0.5).abs() > float(share) / 2.0
            for pixels, share in ((height, scale[0]), (width, scale[1]))
        )
        outside = (rows[:, None] | columns).expand(batch.images.shape)
        return _Framed(
            images=torch.where(outside, black, seen.images), outside=outside, anatomy=seen.anatomy, lesion=seen.lesion
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Framed:
    """Images and masks within a frame, and which pixels it covers."""

    images: Tensor
    outside: Tensor
    anatomy: Tensor | None
    lesion: Tensor | None
