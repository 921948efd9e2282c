"""What every shift asks of its input: the right space, unit and shape, finite pixels, a spacing where one is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_AIR_BELOW_HU = -800.0
_PLATEAU = 0.01  # share of the pixels; noise leaves far fewer at one value
_BONE_PLATEAU = 0.001  # there is less bone above a window than air below it
_TAIL = 0.02  # of the range: the dense end of an image that was not clipped thins out over more than that
_STORAGE_END_HU = 3000.0  # files of 12 bits end at 3071 HU
_FEWEST = 16  # pixels make a plateau
_SAMPLED, _TONES = 2**18, 32
CLIPPED = "HU are clipped to a window"
_SHAPES = {4: "(N, 1, H, W)", 5: "(N, 1, D, H, W)"}


def require_physical(batch: Batch, *, shift: str, unit: Unit, ndim: Sequence[int]) -> None:
    """Refuse a batch that is not one finite grey plane (or volume) in physical space and the shift's own unit.

    Args:
        batch: What the shift was given.
        shift: Id of the shift, for the message.
        unit: The unit it works in.
        ndim: Accepted numbers of tensor dimensions (4 for images, 5 for volumes).

    Raises:
        DataError: Another space, unit or shape; names what was expected and what came.
        ImageError: NaN or infinite pixels; names the cases.
    """
    if batch.space is not Space.PHYSICAL or batch.unit is not unit:
        came = f"{batch.unit or 'no unit'} in {batch.space} space"
        raise DataError(
            f"{shift}: expected images in {unit.value} in physical space, got {came}",
            hint="Give the images as the scanner made them, or leave this check out of the plan.",
        )
    if batch.images.ndim not in ndim or batch.images.shape[1] != 1:
        expected = " or ".join(_SHAPES[n] for n in ndim)
        raise DataError(f"{shift}: expected images of shape {expected}, got {tuple(batch.images.shape)}")
    _require(batch, torch.isfinite(batch.images), f"{shift}: expected finite pixels, got NaN or infinity")


def require_signal_range(batch: Batch, *, shift: str) -> None:
    """Refuse presentation signal outside [0, 1].

    Raises:
        ImageError: Names the cases.
    """
    inside = (batch.images >= 0.0) & (batch.images <= 1.0)
    _require(batch, inside, f"{shift}: expected presentation signal in [0, 1], got values outside")


def require_hounsfield(batch: Batch, *, shift: str) -> None:
    """Refuse images that call themselves HU but have been scaled to [0, 1].

    A CT image that is not constant and has all its values between 0 and 1 HU does not exist.

    Raises:
        ImageError: Names the cases.
    """
    low, high = batch.images.flatten(1).amin(1), batch.images.flatten(1).amax(1)
    scaled = (low >= 0.0) & (high <= 1.0) & (high > low)
    _require(batch, ~scaled[:, None], f"{shift}: expected HU, got values that all lie in [0, 1]")


def _require(batch: Batch, good: Tensor, problem: str) -> None:
    bad = (~good).flatten(1).any(1)
    if bool(bad.any()):
        names = [case for case, wrong in zip(batch.case_ids, bad.tolist(), strict=True) if wrong]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ImageError(f"{problem}: {shown}")


def in_plane_spacing_mm(batch: Batch) -> Tensor:
    """Row and column spacing ``(N, 2)`` float32 on the batch's device; NaN where unknown or not positive."""
    if batch.spacing_mm is None:
        return torch.full((len(batch), 2), torch.nan, device=batch.device)
    spacing = batch.spacing_mm[:, -2:].to(device=batch.device, dtype=torch.float32)
    usable = (torch.isfinite(spacing) & (spacing > 0.0)).all(1, keepdim=True)
    return torch.where(usable, spacing, torch.nan)


def per_case(values: Tensor, like: Tensor) -> Tensor:
    """Shape ``(N,)`` so that it broadcasts against ``like`` ``(N, …)``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def square_spacing_mm(batch: Batch) -> tuple[Tensor, str]:
    """One pixel spacing per case ``(N,)``, NaN where a CT shift cannot use it, and why, in a few words."""
    spacing = in_plane_spacing_mm(batch)
    unknown = spacing.isnan().any(1)
    uneven = (spacing[:, 0] / spacing[:, 1] - 1.0).abs() > 0.01
    reasons = [("pixel spacing unknown", unknown), ("pixels are not square", uneven)]
    reason = ", ".join(text for text, cases in reasons if bool(cases.any()))
    return torch.where(unknown | uneven, torch.nan, spacing.mean(1)), reason


def clipped_hu(batch: Batch) -> Tensor:
    """Whether ``(N,)`` the CT numbers of a case were clipped to a window, at its lower or its upper end.

    Below: many pixels at one lowest value that is not air. Above: many pixels at one highest value, more than in the fiftieth
    part of the range below it. A drawing in a few tones is no window, nor is metal at the largest number that a file of 12 bits
    can hold.

    >>> from types import SimpleNamespace
    >>> spread = torch.linspace(-150.0, 230.0, 96)
    >>> body = torch.cat([torch.full((20,), -1000.0), spread, torch.linspace(240.0, 900.0, 30)])
    >>> windows = [body, body.clamp(-160.0, 240.0), body.clamp(min=-160.0), body.clamp(max=240.0)]
    >>> clipped_hu(SimpleNamespace(images=torch.stack(windows)[:, None, None])).tolist()
    [False, True, True, True]
    """
    values = batch.images.detach().flatten(1)
    low, high = values.amin(1), values.amax(1)
    least = _FEWEST / values.shape[1]
    from_below = (low > _AIR_BELOW_HU) & (_share(values == low[:, None]) > max(_PLATEAU, least))
    under = high - (high - low) * _TAIL
    at_top, near_top = _share(values == high[:, None]), _share(values >= under[:, None])
    from_above = (high < _STORAGE_END_HU) & (at_top > max(_BONE_PLATEAU, least)) & (at_top > near_top - at_top)
    suspected = from_below | from_above
    return suspected & _continuous(values) if bool(suspected.any()) else suspected  # the rare case, for it sorts


def _share(where: Tensor) -> Tensor:
    return where.float().mean(1)


def _continuous(values: Tensor) -> Tensor:
    """Whether ``(N,)`` many different values were sampled: an image with noise, not a drawing in a few tones."""
    step = max(1, values.shape[1] // _SAMPLED)
    sampled = values[:, ::step].sort(1).values
    return (sampled.diff(dim=1) != 0).sum(1) >= _TONES


def unclipped_spacing_mm(batch: Batch) -> tuple[Tensor, str]:
    """As :func:`square_spacing_mm`, NaN also where the CT numbers were clipped.

    Line integrals of such an image would be wrong, a filter would spread what the clipping made, and the noise is gone where
    it clipped.
    """
    spacing, reason = square_spacing_mm(batch)
    clipped = clipped_hu(batch)
    if bool(clipped.any()):
        reason = ", ".join(filter(None, (reason, CLIPPED)))
    return torch.where(clipped, torch.nan, spacing), reason


def slice_distance_mm(batch: Batch) -> Tensor:
    """Distance of neighbouring slices ``(N,)``; NaN for images and where unknown."""
    if batch.spacing_mm is None or batch.spacing_mm.shape[1] < 3:
        return torch.full((len(batch),), torch.nan, device=batch.device)
    return batch.spacing_mm[:, 0].to(device=batch.device, dtype=torch.float32)
