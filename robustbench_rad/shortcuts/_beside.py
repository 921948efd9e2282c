"""Finding what lies beside the patient on a display plane: markers and letters near the border, and uniform frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

FLAT = 1.5 / 255  # a line of a frame varies by no more than rounding
_FACTORS = (1.0, 1.5, 2.0)  # a letter that touches skin at the least contrast stands alone at a larger one
_BETWEEN_LETTERS = 0.012  # of the shorter side
_JOINED = np.ones((3, 3), dtype=np.bool_)

Numbers = NDArray[np.signedinteger]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What counts as a marker or a letter; lengths as shares of the image's shorter side.

    Attributes:
        contrast: Least brightness above the surroundings, in shares of the display range.
        steepness: Least difference from a neighbouring pixel on a quarter of the rim. Bones are as bright as letters and
            nowhere as steep.
        brightness: Least brightness.
        stroke: Structures wider than this are no letters.
        least: Least size of the longer side of a letter or a word.
        tallest: Largest size of the shorter side of a letter, or of a line of them.
        longest: Largest size of the longer side of a line of letters.
        border: Its centre lies within this distance of the nearest border.
    """

    contrast: float = 0.2
    steepness: float = 0.3
    brightness: float = 0.45
    stroke: float = 0.035
    least: float = 0.015
    tallest: float = 0.12
    longest: float = 0.4
    border: float = 0.2


def marker_masks(images: Tensor, anatomy: Tensor | None, search: Search) -> Tensor:
    """Bright marker-like components near the border ``(N, 1, H, W)`` boolean, on the device of the images.

    White top-hat (image minus its opening by a square as wide as the widest stroke), thresholds, letters joined to words,
    connected components; then size, place, thinness and the steepness of the rim decide. A component that meets the anatomy is
    left; a mask of more than half of the image outlines the body and says nothing of what lies on it.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1].
        anatomy: Boolean masks of the same shape, or None.
        search: What counts.

    Reference: white top-hat, Serra 1982, Image Analysis and Mathematical Morphology.
    """
    side = min(images.shape[-2:])
    bright = _top_hat(images, 2 * max(round(search.stroke * side / 2), 1) + 1)
    steep = _jumps(images)[:, 0].float().cpu().numpy()
    organs = _organs(anatomy, steep.shape)
    found = np.zeros(steep.shape, dtype=np.bool_)
    for contrast in (search.contrast * factor for factor in _FACTORS):
        ink = ((bright >= contrast) & (images >= search.brightness))[:, 0].cpu().numpy()
        planes = np.flatnonzero((ink & (steep >= search.steepness)).any((1, 2)))  # no letter without a steep pixel
        if len(planes):
            found[planes] |= _letters_and_words(ink[planes], steep[planes], organs[planes], search)
    return torch.from_numpy(found[:, None]).to(images.device)


def _top_hat(images: Tensor, size: int) -> Tensor:
    half = size // 2
    eroded = _over_squares(functional.pad(images, (half,) * 4, mode="replicate"), size, torch.minimum)
    return images - _over_squares(functional.pad(eroded, (half,) * 4, value=-1.0), size, torch.maximum)


def _over_squares(planes: Tensor, size: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Largest or smallest value of every square that lies in the plane: windows are doubled until they are wide enough."""
    for axis in (-2, -1):
        width = 1
        while width < size:
            step, left = min(width, size - width), planes.shape[axis]
            planes = extreme(planes.narrow(axis, 0, left - step), planes.narrow(axis, step, left - step))
            width += step
    return planes


def _jumps(images: Tensor) -> Tensor:
    """The largest difference of every pixel from its four neighbours."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs()
    right = (images[..., 1:] - images[..., :-1]).abs()
    vertical = torch.maximum(functional.pad(down, (0, 0, 1, 0)), functional.pad(down, (0, 0, 0, 1)))
    return torch.maximum(vertical, torch.maximum(functional.pad(right, (1, 0)), functional.pad(right, (0, 1))))


def _organs(anatomy: Tensor | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Masks of organs ``(N, H, W)``, empty for a case without one or with an outline of the body."""
    if anatomy is None:
        return np.zeros(shape, dtype=np.bool_)
    masks: NDArray[np.bool_] = anatomy[:, 0].cpu().numpy().astype(np.bool_)
    return np.asarray(masks & (masks.mean((1, 2)) <= 0.5)[:, None, None])


def _letters_and_words(
    ink: NDArray[np.bool_], steep: NDArray[np.float32], organs: NDArray[np.bool_], search: Search
) -> NDArray[np.bool_]:
    """Components of the ink ``(N, H, W)``, and groups of close ones, that pass for letters and words."""
    shape = ink.shape[1:]
    gap = max(round(_BETWEEN_LETTERS * min(shape)), 1)
    padded = functional.pad(torch.from_numpy(ink), (gap,) * 4)
    places = np.flatnonzero(ink)
    rims, jumps, on_organ = (plane.ravel()[places] for plane in (_rims(ink), steep, organs))
    chosen = np.zeros(len(places), dtype=np.bool_)
    for joined in (ink, _over_squares(padded, 2 * gap + 1, torch.maximum).numpy()):
        names = _components(joined).ravel()[places]
        good = _have_the_size_and_place(names, places, shape, search) & (np.bincount(names, on_organ) == 0)
        of_good = rims & good[names]
        for_rims, quartiles = _upper_quartiles(names[of_good], jumps[of_good])
        good[for_rims] = quartiles >= search.steepness
        chosen |= good[names]
    found = np.zeros_like(ink)
    found.ravel()[places] = chosen
    return found


def _components(ink: NDArray[np.bool_]) -> Numbers:
    """Numbers of the 8-connected components of planes ``(N, H, W)``, from 1 on; an empty line keeps the planes apart."""
    count, height, width = ink.shape
    below_each_other = np.pad(ink, ((0, 0), (0, 1), (0, 0))).reshape(-1, width)
    names: Numbers = ndimage.label(below_each_other, _JOINED)[0]
    return names.reshape(count, height + 1, width)[:, :-1]


def _have_the_size_and_place(
    names: Numbers, places: Numbers, shape: tuple[int, ...], search: Search
) -> NDArray[np.bool_]:
    """Whether components are as large as letters, near the border, and do not run along it like an edge of the image.

    Args:
        names: Component of each pixel of ink, from 1 to K, none left out.
        places: Index of the pixel in ``(N, H, W)``, ascending.
        shape: H and W.
        search: What counts.

    Returns:
        ``(K + 1,)``; the first is of no component, and False.
    """
    order = np.argsort(names, kind="stable")
    inked = np.bincount(names)[1:]
    firsts = np.cumsum(inked) - inked
    rows, columns = places[order] // shape[1] % shape[0], places[order] % shape[1]
    top, left = rows[firsts], np.minimum.reduceat(columns, firsts)
    height, width = rows[firsts + inked - 1] - top + 1, np.maximum.reduceat(columns, firsts) - left + 1
    side = min(shape)
    long, short = np.maximum(height, width) / side, np.minimum(height, width) / side
    sized = (search.least <= long) & (long <= search.longest)
    sized &= (0.4 * search.least <= short) & (short <= search.tallest)
    hollow = (long > search.tallest) & (inked < 0.15 * height * width)  # a wire, the edge of a bone
    down, across = (top + height / 2) / shape[0], (left + width / 2) / shape[1]
    near = np.minimum.reduce([down, across, 1 - down, 1 - across]) <= search.border
    from_edge = np.minimum.reduce([top, left, shape[0] - top - height, shape[1] - left - width])
    outermost = (from_edge <= 0) & (long > 5 * short)
    return np.concatenate([[False], sized & near & ~hollow & ~outermost])


def _rims(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of ink with a neighbour above, below, left or right that has none; beyond the plane there is none."""
    rims = np.ones_like(ink)
    inner = ink[:, :-2, 1:-1] & ink[:, 2:, 1:-1] & ink[:, 1:-1, :-2] & ink[:, 1:-1, 2:]
    rims[:, 1:-1, 1:-1] = ~inner
    return ink & rims


def _upper_quartiles(names: Numbers, values: NDArray[np.floating]) -> tuple[Numbers, NDArray[np.floating]]:
    """Names in ascending order and the 0.75 quantile of the values of each, as :func:`numpy.quantile` interpolates."""
    order = np.lexsort((values, names))
    values = values[order]
    own, firsts, counts = np.unique(names[order], return_index=True, return_counts=True)
    at = 0.75 * (counts - 1)
    below = at.astype(np.int64)
    share = (at - below).astype(values.dtype)
    low, high = values[firsts + below], values[firsts + np.minimum(below + 1, counts - 1)]
    return own, np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))


def frame_widths(images: Tensor, most: float) -> Tensor:
    """Uniform lines at the borders, black or white: their number ``(N, 4)`` at the top, bottom, left and right.

    A line is uniform when its values span at most 1.5 of 255 grey levels, and belongs to the frame while it is within as much
    of the outermost line. Lines that reach further than ``most`` of the side are no frame: the image is empty there.

    >>> image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)); image[..., :2, :] = 0.0
    >>> frame_widths(image, 0.3).tolist()
    [[2, 0, 0, 0]]
    """
    planes = images[:, 0]
    counts = []
    for axis in (1, 2):
        low, high = planes.amin(3 - axis), planes.amax(3 - axis)
        for lows, highs in ((low, high), (low.flip(1), high.flip(1))):
            first = (lows[:, :1] + highs[:, :1]) / 2
            extreme = (first <= FLAT) | (first >= 1.0 - FLAT)
            alike = ((highs - lows) <= FLAT) & ((lows - first).abs() <= FLAT) & extreme
            run = alike.long().cumprod(1).sum(1)
            counts.append(torch.where(run <= most * planes.shape[axis], run, 0))
    return torch.stack(counts, 1)


def frame_masks(widths: Tensor, shape: torch.Size) -> Tensor:
    """Frames ``(N, 1, H, W)`` boolean of these widths ``(N, 4)`` at the top, bottom, left and right."""
    rows, columns = (torch.arange(length, device=widths.device)[None] for length in shape)
    top, bottom, left, right = (width[:, None] for width in widths.unbind(1))
    outer_rows = (rows < top) | (rows >= shape[0] - bottom)
    outer_columns = (columns < left) | (columns >= shape[1] - right)
    return (outer_rows[:, :, None] | outer_columns[:, None, :])[:, None]
