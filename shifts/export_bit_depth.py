"""Fewer grey levels: the windowed image stored with fewer bits.

Worked on the native grid: an export rounds before the model's own resizing, which then averages grey levels again. Rounding in
display space, after the resizing, would be too harsh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._any_image import ShownShift
from robustbench_rad.shifts._ladder import Alter, Change

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "bits"


def _bits_level(value: float | str) -> Level:
    bits = float(value)
    if bits != int(bits) or not 1 <= bits <= 16:
        raise ValueError(f"expected a whole number of bits from 1 to 16, got {value}")
    return Level(name=str(value), value=bits, unit=_UNIT)


@register(
    id="shift.export.bit-depth",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    reference="DICOM PS3.3 C.7.6.3.1",
    unit="bits",
)
@dataclass(frozen=True, kw_only=True)
class ExportBitDepth(ShownShift):
    """An export with fewer grey levels between black and white.

    Values beyond black and white are clipped, as a picture clips them. Where the file has no more bits than asked for, the
    level is not applicable. Gradients pass straight through the rounding. Measured: ``grey_levels_requested`` and
    ``grey_levels`` in use, and ``rounding_rms``, the change of what is shown as a share of black to white.

    Attributes:
        levels: Bits of the exported picture.
    """

    unit: ClassVar[str] = _UNIT
    neutral: ClassVar[float | None] = None

    levels: tuple[Level, ...] = tuple(_bits_level(bits) for bits in (10, 8, 7, 6, 5))

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a number of bits."""
        return _bits_level(value)

    def refuse(self, batch: Batch) -> None:
        """Refuse images whose black and white are not known."""
        super().refuse(batch)
        self.black_and_white(batch)

    def prepare(self, batch: Batch) -> Alter:
        """Find what is shown."""
        low, high = self.black_and_white(batch)
        shown = ((batch.images - low) / (high - low)).clamp(0.0, 1.0)

        def alter(bits: float) -> Change:
            rounded = quantised(shown, bits=int(bits))
            fewer = bits < batch.stored_bits
            error = (rounded - shown).detach().flatten(1).square().mean(1).sqrt()
            used = [float(case.unique().numel()) for case in rounded.detach()]
            return Change(
                images=low + rounded * (high - low),
                measured={
                    "grey_levels_requested": torch.full_like(error, 2.0**bits),
                    "grey_levels": error.new_tensor(used),
                    "rounding_rms": error,
                },
                applicable=torch.full((len(batch),), fewer, device=batch.device),
                reason="" if fewer else f"the file has {batch.stored_bits} bits",
                attributes={"BitsStored": str(int(bits))},
            )

        return alter


def quantised(shown: Tensor, *, bits: int) -> Tensor:
    """Round values in [0, 1] to grey levels; the gradient is that of the identity.

    >>> quantised(torch.tensor([0.0, 0.3, 0.6]), bits=1).tolist()
    [0.0, 0.0, 1.0]
    """
    steps = 2**bits - 1
    rounded: Tensor = (shown.detach() * steps).round() / steps
    return rounded + (shown - shown.detach())
