"""Wraparound of MR: a field of view smaller than the body, so that what sticks out folds in from the other side.

Along the phase-encoding axis the field of view is made (1 - p) of the extent of the object, around the object's centre.
What lies outside is added where it folds to, a whole field of view away:

    I'(y) = Σⱼ I(y + j · FOV)  inside the field of view,  0 outside

The matrix is filled up with zeros, as for a rectangular field of view, so that nothing is magnified.

Reference:
    Graves and Mitchell 2013, Body MRI artifacts in clinical practice: a physicist's and radiologist's perspective,
    10.1002/jmri.24288.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_inputs import PHASE_OPTIONS, MrShift, foreground, phase_axes

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_LINE_SHARE = 0.02  # of the lines' pixels: fewer bright ones are noise, not object


@register(
    id="shift.mr.wraparound",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Graves and Mitchell 2013, 10.1002/jmri.24288",
    unit="% of the object",
)
@dataclass(frozen=True, kw_only=True)
class MrWraparound(MrShift):
    """A field of view that is too small along the phase-encoding axis.

    The percentage is that of the object, not of the matrix: a field of view that cuts only air folds nothing. The folded
    part adds in phase. Measurements per level: ``folded_percent_requested``, ``folded_percent`` (whole lines) and
    ``field_of_view_lines``.

    Attributes:
        levels: Share of the object's extent that sticks out of the field of view, in %, mildest first; 0 is the image itself.
        phase_encoding: ``auto`` (from the header, else ``column``), ``column`` or ``row``.
    """

    unit = "% of the object"
    highest = 75.0

    levels: tuple[Level, ...] = ladder("% of the object", 5, 10, 15, 20, 30)
    phase_encoding: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "phase_encoding", PHASE_OPTIONS)

    def prepare(self, batch: Batch) -> Alter:
        """Find the extent of the object along the phase-encoding axis of every case."""
        axes = phase_axes(self.phase_encoding, batch)
        extents = [extent(mask, axis) for mask, axis in zip(foreground(batch.images), axes, strict=True)]
        cases = list(zip(batch.images, axes, extents, strict=True))

        def alter(percent: float) -> Change:
            fields = [field_of_view(first, last, percent) for _, _, (first, last) in cases]
            folds = [folded(image, axis, *field) for (image, axis, _), field in zip(cases, fields, strict=True)]
            lines = batch.images.new_tensor([float(count) for _, count in fields])
            lengths = batch.images.new_tensor([float(last - first) for first, last in extents])
            measured = {
                "folded_percent_requested": torch.full_like(lines, percent),
                "folded_percent": 100.0 * (1.0 - lines / lengths),
                "field_of_view_lines": lines,
            }
            return Change(
                images=torch.stack(folds), measured=measured, applicable=lines < lengths, reason="too few lines to fold"
            )

        return alter


def extent(inside: Tensor, axis: int) -> tuple[int, int]:
    """First line of the object along ``axis``, and the one after its last; all lines where there is no object."""
    lines = inside.movedim(axis, 0).flatten(1).float().mean(1)
    found = (lines > _LINE_SHARE).nonzero().flatten().tolist()
    return (found[0], found[-1] + 1) if found else (0, len(lines))


def field_of_view(first: int, last: int, percent: float) -> tuple[int, int]:
    """First line and number of lines of the field of view around the centre of an object.

    >>> field_of_view(10, 110, 20.0)
    (20, 80)
    """
    count = max(1, round((last - first) * (1.0 - percent / 100.0)))
    return first + (last - first - count) // 2, count


def folded(image: Tensor, axis: int, first: int, count: int) -> Tensor:
    """Add every line of ``(…, H, W)`` to the line of the field of view that it folds to; zeros outside.

    >>> folded(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), -1, 1, 3)
    tensor([[0., 7., 3., 5., 0.]])
    """
    lines = image.movedim(axis, -1)
    before = -first % count
    after = -(before + lines.shape[-1]) % count
    periods = functional.pad(lines, (before, after)).reshape(*lines.shape[:-1], -1, count)
    inside = functional.pad(periods.sum(-2), (first, lines.shape[-1] - first - count))
    return inside.movedim(-1, axis)  # a sum in a fixed order: adding line by line is not reproducible on a GPU
