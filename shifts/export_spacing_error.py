"""A wrong pixel spacing in the header, believed by a preprocessor that brings every image to its own spacing.

Where the header says twice the spacing, such a preprocessor shows the anatomy twice as large. Worked on the native grid in
physical space, so that the model's own resizing follows as it would; a model whose preprocessing never looks at the spacing is
not touched by this fault, and this check is not for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts import _affine
from robustbench_rad.shifts._any_image import AnyImageShift
from robustbench_rad.shifts._inputs import in_plane_spacing_mm
from robustbench_rad.shifts._ladder import Alter, Change, ladder
from robustbench_rad.shifts._levels import require_one_of

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

_UNIT = "× spacing"
_AXES = ("both", "rows", "columns")


@register(
    id="shift.export.spacing-error",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    reference="DICOM PS3.3 10.7.1.3",
    unit="× spacing",
)
@dataclass(frozen=True, kw_only=True)
class ExportSpacingError(AnyImageShift):
    """Anatomy in the wrong size, because its pixel spacing was wrong in the header.

    The header goes on to say the spacing that the preprocessor believes to have made, so none is reported as changed. A case
    whose spacing is not known is not applicable. Measured: ``spacing_believed_mm`` along the rows.

    Attributes:
        levels: Factor on the true spacing; 1 is the image itself.
        axes: ``both``, or ``rows`` or ``columns`` for the spacing of one axis only.
    """

    unit: ClassVar[str] = _UNIT
    neutral: ClassVar[float | None] = 1.0
    lowest: ClassVar[float] = 0.1
    highest: ClassVar[float] = 10.0

    levels: tuple[Level, ...] = ladder(_UNIT, 0.5, 2)
    axes: str = "both"

    def __post_init__(self) -> None:
        require_one_of(self, "axes", _AXES)

    def prepare(self, batch: Batch) -> Alter:
        """Find the true spacing."""
        spacing = in_plane_spacing_mm(batch)
        known = spacing.isfinite().all(1)

        def alter(factor: float) -> Change:
            scale = [1.0 / factor if self.axes in ("both", axis) else 1.0 for axis in _AXES[1:]]
            matrix = torch.diag(spacing.new_tensor(scale)).expand(len(batch), 2, 2)
            seen = _affine.moved(batch, matrix, torch.zeros_like(spacing))
            return Change(
                images=seen.images,
                measured={"spacing_believed_mm": spacing[:, 0] / scale[0]},
                applicable=known,
                reason="" if bool(known.all()) else "pixel spacing unknown",
                anatomy=seen.anatomy,
                lesion=seen.lesion,
            )

        return alter
