"""A radiograph shown as its negative, because MONOCHROME1 was not heeded: ``y = 1 - x``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import AlterLevel, Change
from robustbench_rad.shifts._radiograph import RadiographShift

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_INVERTED = Level(name="inverted", value=1.0, unit="")


@register(
    id="shift.xr.polarity",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CR", "DX", "MG"),
    reference="DICOM PS3.3 C.7.6.3.1.2; MONAI Deploy App SDK issue 282",
)
@dataclass(frozen=True, kw_only=True)
class XrPolarity(RadiographShift):
    """Inverted grey levels: a fault of the chain, not a matter of degree.

    Attributes:
        levels: Only ``inverted``.
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = (_INVERTED,)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make the level ``inverted`` (or 1), or ``as it is`` (or 0)."""
        if str(value) in {"inverted", "1", "1.0"}:
            return _INVERTED
        if str(value) in {"as it is", "0", "0.0"}:
            return Level(name="as it is", value=0.0, unit="")
        raise ValueError(f"expected inverted, got {value}")

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Nothing is shared."""

        def render(level: Level) -> Change:
            del level
            return Change(images=1.0 - batch.images, attributes={"PhotometricInterpretation": "MONOCHROME1"})

        return render
