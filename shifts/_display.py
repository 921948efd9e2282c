"""What shifts of display space ask of their input: one windowed plane in [0, 1], never HU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from robustbench_rad.conditions import Space
from robustbench_rad.defences.straight_through import straight_through
from robustbench_rad.errors import DataError, ImageError
from robustbench_rad.shifts._ladder import LadderShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

Grey = npt.NDArray[np.uint8]
ROUNDING = 1e-6
_SHAPES = {4: "(N, 1, H, W)", 5: "(N, 1, D, H, W)"}


def require_display(batch: Batch, *, shift: str, ndim: Sequence[int] = (4, 5)) -> None:
    """Refuse a batch that is not one finite grey plane (or volume) in display space.

    Pictures of 8 bits and the libraries that alter them know only [0, 1]: HU would be clipped without a word.

    Raises:
        DataError: Another space or shape.
        ImageError: NaN pixels, or values outside [0, 1]; names the cases.
    """
    if batch.space is not Space.DISPLAY:
        raise DataError(
            f"{shift}: expected windowed images in [0, 1] in display space, got {batch.unit or 'no unit'} in "
            f"{batch.space} space",
            hint="It works on what is shown, where HU and other physical values are gone.",
        )
    if batch.images.ndim not in ndim or batch.images.shape[1] != 1:
        expected = " or ".join(_SHAPES[n] for n in ndim)
        raise DataError(f"{shift}: expected images of shape {expected}, got {tuple(batch.images.shape)}")
    flat = batch.images.detach().flatten(1)
    good = (flat >= -ROUNDING) & (flat <= 1.0 + ROUNDING)  # NaN is neither
    if not bool(good.all()):
        names = [case for case, fine in zip(batch.case_ids, good.all(1).tolist(), strict=True) if not fine]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ImageError(f"{shift}: expected display images in [0, 1], got NaN or values outside: {shown}")


@dataclass(frozen=True, kw_only=True)
class DisplayShift(LadderShift):
    """Base of shifts of what is shown: images ``(N, 1, H, W)``, and volumes slice by slice, in [0, 1]."""

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not a display image."""
        require_display(batch, shift=self.id)


def grey_planes(image: Tensor) -> list[Grey]:
    """The slices of one case ``(1, H, W)`` or ``(1, D, H, W)`` as pictures of 256 grey levels."""
    planes = (image.detach().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
    return list(planes.reshape(-1, *planes.shape[-2:]))


def from_grey(planes: Sequence[Grey], like: Tensor) -> Tensor:
    """Pictures of 256 grey levels as one case in the shape of ``like``, passing gradients straight through."""
    values = torch.from_numpy(np.stack(planes)).to(device=like.device, dtype=like.dtype).reshape(like.shape) / 255.0
    return straight_through(like, values)


def each_plane(image: Tensor, alter: Callable[[Grey], Grey]) -> Tensor:
    """One case with every slice altered as a picture of 256 grey levels."""
    return from_grey([alter(plane) for plane in grey_planes(image)], image)
