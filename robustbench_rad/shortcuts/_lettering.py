"""Letters beside the patient and their placebo: the same dots of ink, rearranged, at the middle of a lateral border.

No marker or annotation is expected there, it lies beside the lungs of a frontal chest, and a spot there is neither in a corner
nor looks like a letter: neither a model that reads the corner nor one that reads letters anywhere takes it for a marker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from robustbench_rad.glyphs import FINE, laid, text_picture
from robustbench_rad.shortcuts._insertion import Drawn, rearranged

PLACES = {"top left": (0.0, 0.0), "top right": (0.0, 1.0), "bottom left": (1.0, 0.0), "bottom right": (1.0, 1.0)}
"""Corner: 0 or 1 along rows and columns."""


def lettered(
    words: str,
    corner: tuple[float, float],
    insets: Tensor,
    height_px: float,
    shape: Sequence[int],
    sources: Iterable[torch.Generator],
    *,
    upright: bool = False,
) -> Drawn:
    """A line of letters in a corner, and its placebo at either lateral border.

    Args:
        words: Of the letters of :data:`robustbench_rad.glyphs.LETTERS`.
        corner: Which, 0 or 1 along rows and columns.
        insets: ``(N, 2)`` distance of the line from the borders, in pixels along rows and columns.
        height_px: Of the letters.
        shape: H and W.
        sources: One generator per case, for the order of the dots.
        upright: Whether the placebo stands upright, as a long line must to fit beside the lungs.
    """
    picture = text_picture(words)
    extent = torch.tensor([height_px, height_px * picture.shape[1] / picture.shape[0]])
    sides = torch.tensor([float(side) for side in shape])
    cases = len(insets)
    at = torch.tensor(corner)
    middle = torch.lerp(insets + extent / 2, sides - insets - extent / 2, at.expand(cases, 2))
    real = _laid(picture.expand(cases, -1, -1), middle, extent.expand(cases, 2), shape)
    orders = [rearranged(picture[::FINE, ::FINE], source) for source in sources]
    scrambled = torch.stack([(dots.T if upright else dots) for dots in orders])
    scrambled = scrambled.repeat_interleave(FINE, 1).repeat_interleave(FINE, 2)
    own = extent.flip(0) if upright else extent
    lateral = [corner[1], 1.0 - corner[1]]
    placebos = tuple(
        _laid(scrambled, _beside(insets, own, sides, side), own.expand(cases, 2), shape) for side in lateral
    )
    return Drawn(real=real, placebos=placebos)


def _laid(pictures: Tensor, middle: Tensor, extent: Tensor, shape: Sequence[int]) -> Tensor:
    """What :func:`~robustbench_rad.glyphs.laid` draws, bit for bit, sampled only on the rows and columns that it reaches."""
    sides = torch.tensor(list(shape))
    reach = extent * (0.5 + 0.5 / torch.tensor(pictures.shape[1:]))  # interpolation goes half an element beyond
    first = torch.minimum((middle - reach).amin(0).floor().long().sub(1).clamp_min(0), sides - 1)
    beyond = torch.minimum((middle + reach).amax(0).ceil().long().add(1), sides).maximum(first + 1)
    (top, left), (bottom, right) = first.tolist(), beyond.tolist()
    opacity = torch.zeros(len(pictures), 1, *shape)
    opacity[..., top:bottom, left:right] = laid(pictures, middle - first, extent, (bottom - top, right - left))
    return opacity


def _beside(insets: Tensor, extent: Tensor, sides: Tensor, side: float) -> Tensor:
    """Centres ``(N, 2)`` half way down, at the left (0) or right (1) border."""
    inward = insets[:, 1] + extent[1] / 2
    column = inward if side == 0.0 else sides[1] - inward
    return torch.stack([(sides[0] / 2).expand_as(column), column], 1)
