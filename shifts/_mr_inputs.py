"""What every MR shift asks of its input, and what it reads from it: foreground, tissue mean, phase-encoding axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError
from robustbench_rad.shifts._header import number_of
from robustbench_rad.shifts._inputs import per_case, require_physical
from robustbench_rad.shifts._ladder import LadderShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Applied, Batch, ModelQuery, State, Variant

FOREGROUND_SHARE = 0.1  # of the 99.5th percentile: brighter is patient, darker is air
ROUNDING = 1e-4  # of the largest value: what is below zero by less was rounded, not normalised
PHASE_AXES = {"column": -2, "row": -1}
"""InPlanePhaseEncodingDirection: COLUMN encodes phase along a column, from row to row; ROW along a row."""
PHASE_OPTIONS = ("auto", *PHASE_AXES)


@dataclass(frozen=True, kw_only=True)
class MrShift(LadderShift):
    """Base of the MR shifts: magnitude images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)``, not below 0.

    Magnitude is scaled by its own percentiles, 1 is the bright end of the source. Nothing is clipped, and the result is not
    scaled again: a level changes the image, not the ruler. The scale may have no signal below 0 (``Batch.zero_signal``); a
    shift is prepared for, and alters, images whose 0 is no signal, and its result goes back to the scale.
    """

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Apply every level to magnitude from its true zero; see the class.

        Raises:
            DataError: Another space, unit or shape than MR magnitude in physical space.
            ImageError: NaN or negative magnitude; names the cases.
        """
        if batch.zero_signal is None:
            return super().apply(batch, query, state)
        zero = per_case(batch.zero_signal, batch.images)
        from_zero = replace(batch, images=batch.images - zero, zero_signal=None)
        applied = super().apply(from_zero, query, state)
        variants = (_on_scale(variant, batch, from_zero, zero) for variant in applied.variants)
        return replace(applied, variants=variants)

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not finite MR magnitude."""
        require_magnitude(batch, shift=self.id)


def _on_scale(variant: Variant, batch: Batch, from_zero: Batch, zero: Tensor) -> Variant:
    """A level back on the scale of the batch; what it did not touch is the batch's own, bit for bit."""
    if variant.images is None or variant.images is from_zero.images:
        return replace(variant, images=batch.images)
    images = variant.images + zero
    if variant.applicable is not None and images.shape == batch.images.shape:
        images = torch.where(per_case(variant.applicable, images), images, batch.images)
    return replace(variant, images=images)


def require_magnitude(batch: Batch, *, shift: str, ndim: Sequence[int] = (4, 5)) -> None:
    """Refuse a batch that is not MR magnitude.

    Magnitude has no sign. Noise added to a z-scored image and folded back at zero would be off by most of its standard
    deviation, so such an image is refused, not repaired.

    Raises:
        DataError: Another space, unit or shape.
        ImageError: NaN or negative pixels; names the cases.
    """
    require_physical(batch, shift=shift, unit=Unit.MAGNITUDE, ndim=ndim)
    flat = batch.images.flatten(1)
    negative = (flat.amin(1) < -ROUNDING * flat.abs().amax(1)).tolist()
    if any(negative):
        names = [case for case, wrong in zip(batch.case_ids, negative, strict=True) if wrong]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ImageError(
            f"{shift}: expected MR magnitude, not below 0, got negative values (z-scored?): {shown}",
            hint="Give magnitude images; let the model's own normalisation (mean, std) do the scoring.",
        )


def foreground(images: Tensor) -> Tensor:
    """Where the patient is: brighter than a tenth of the 99.5th percentile of the case, in the shape of the images.

    All of an image that has no such pixel.
    """
    flat = images.detach().flatten(1)
    bright = flat.sort(1).values[:, round(0.995 * (flat.shape[1] - 1))]
    inside = flat > (FOREGROUND_SHARE * bright)[:, None]
    return (inside | ~inside.any(1, keepdim=True)).reshape(images.shape)


def tissue_mean(images: Tensor, inside: Tensor | None = None) -> Tensor:
    """Mean magnitude ``(N,)`` of the foreground; a constant for gradients.

    >>> import torch
    >>> image = torch.zeros(1, 1, 8, 8)
    >>> image[..., 2:6] = 0.5
    >>> tissue_mean(image)
    tensor([0.5000])
    """
    mask = foreground(images) if inside is None else inside
    values = images.detach() * mask
    return values.flatten(1).sum(1) / mask.flatten(1).sum(1)


def masked_variance(values: Tensor, inside: Tensor) -> Tensor:
    """Variance ``(N,)`` of ``values`` over the pixels ``inside``."""
    flat, mask = values.detach().flatten(1), inside.flatten(1)
    count = mask.sum(1)
    mean = (flat * mask).sum(1) / count
    return ((flat - mean[:, None]).square() * mask).sum(1) / count


def phase_axes(option: str, batch: Batch) -> list[int]:
    """Axis along which each case was phase-encoded, -2 (from row to row) or -1.

    Args:
        option: ``column`` or ``row`` for all cases, or ``auto``: what InPlanePhaseEncodingDirection says in the header or in
            a declared column of that name, ``column`` where neither does.
        batch: The cases.
    """
    if option != "auto":
        return [PHASE_AXES[option]] * len(batch)
    texts = header(batch, "InPlanePhaseEncodingDirection")
    return [-1 if text.strip().lower() == "row" else -2 for text in texts]


def header(batch: Batch, keyword: str) -> list[str]:
    """What the header of each case says, or a declared column of that name; "" where neither does."""
    nothing: tuple[Mapping[str, str], ...] = ({},) * len(batch)
    rows = zip(batch.attributes or nothing, batch.metadata or nothing, strict=True)
    return [str(attributes.get(keyword) or metadata.get(keyword) or "") for attributes, metadata in rows]


def header_numbers(batch: Batch, keyword: str) -> list[float]:
    """The same as positive numbers; NaN where there is none."""
    values = [number_of(text) for text in header(batch, keyword)]
    return [value if math.isfinite(value) and value > 0.0 else math.nan for value in values]
