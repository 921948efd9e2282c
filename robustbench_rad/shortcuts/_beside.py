"""Finding what lies beside the patient on a display plane: markers and letters near the border, and uniform frames."""

from __future__ import annotations

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
    steep = _jumps(images).float().cpu().numpy()
    organs = _organs(anatomy, len(images))
    found = np.zeros(steep.shape, dtype=np.bool_)
    for contrast in (search.contrast * factor for factor in _FACTORS):
        ink = ((bright >= contrast) & (images >= search.brightness)).cpu().numpy()
        for row, organ in enumerate(organs):
            found[row, 0] |= _components(ink[row, 0], steep[row, 0], organ, search)
    return torch.from_numpy(found).to(images.device)


def _top_hat(images: Tensor, size: int) -> Tensor:
    half = size // 2
    padded = functional.pad(images, (half,) * 4, mode="replicate")
    eroded = -functional.max_pool2d(-padded, size, 1)
    opened = functional.max_pool2d(functional.pad(eroded, (half,) * 4, value=-1.0), size, 1)
    return images - opened


def _jumps(images: Tensor) -> Tensor:
    """The largest difference of every pixel from its four neighbours."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs()
    right = (images[..., 1:] - images[..., :-1]).abs()
    vertical = torch.maximum(functional.pad(down, (0, 0, 1, 0)), functional.pad(down, (0, 0, 0, 1)))
    return torch.maximum(vertical, torch.maximum(functional.pad(right, (1, 0)), functional.pad(right, (0, 1))))


def _organs(anatomy: Tensor | None, count: int) -> list[NDArray[np.bool_] | None]:
    """Masks of organs, None for a case without one or with an outline of the body."""
    if anatomy is None:
        return [None] * count
    masks: NDArray[np.bool_] = anatomy[:, 0].cpu().numpy().astype(np.bool_)
    return [mask if 0.0 < mask.mean() <= 0.5 else None for mask in masks]


def _components(
    ink: NDArray[np.bool_], steep: NDArray[np.float32], organ: NDArray[np.bool_] | None, search: Search
) -> NDArray[np.bool_]:
    found = np.zeros_like(ink)
    gap = max(round(_BETWEEN_LETTERS * min(ink.shape)), 1)
    for joined in (ink, ndimage.binary_dilation(ink, _JOINED, iterations=gap)):  # single letters, and words
        names, count = ndimage.label(joined, _JOINED)
        for name, (rows, columns) in enumerate(ndimage.find_objects(names, count), start=1):
            part = (names[rows, columns] == name) & ink[rows, columns]
            if not _has_the_size_and_place(part, rows.start, columns.start, ink.shape, search):
                continue
            on_organ = organ is not None and bool((organ[rows, columns] & part).any())
            if not on_organ and _rim_steepness(part, steep[rows, columns]) >= search.steepness:
                found[rows, columns] |= part
    return found


def _has_the_size_and_place(
    part: NDArray[np.bool_], top: int, left: int, shape: tuple[int, ...], search: Search
) -> bool:
    """Whether a component is as large as letters, near the border, and does not run along it like an edge of the image."""
    side = min(shape)
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    if not len(rows):
        return False
    top, left = top + int(rows[0]), left + int(columns[0])
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    long, short = max(height, width) / side, min(height, width) / side
    sized = search.least <= long <= search.longest and 0.4 * search.least <= short <= search.tallest
    hollow = long > search.tallest and part.sum() < 0.15 * height * width  # a wire, the edge of a bone
    centre = (top + height / 2) / shape[0], (left + width / 2) / shape[1]
    near = min(*centre, 1 - centre[0], 1 - centre[1]) <= search.border
    outermost = min(top, left, shape[0] - top - height, shape[1] - left - width) <= 0 and long > 5 * short
    return sized and near and not hollow and not outermost


def _rim_steepness(part: NDArray[np.bool_], steep: NDArray[np.float32]) -> float:
    """Jump of brightness that a quarter of the outermost pixels of a component reach."""
    padded = np.pad(part, 1)
    rim = part & ~ndimage.binary_erosion(padded)[1:-1, 1:-1]
    return float(np.quantile(steep[rim], 0.75))


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
