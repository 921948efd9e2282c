"""Finding thin bright lines on a display plane: catheters, drains, wires, and the edges of ribs, which look alike.

A line is looked for in several directions. The plane is turned so that the direction is vertical; there a line is
four pieces in a row, each brighter than what lies beside it on either side, and each a little to the left or right of the one
before, so that bent lines are found too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.noise import noise_sd

LARGEST_SIDE = 256  # pixels of the shorter side that the search works on: a catheter is one or two of them wide
BESIDE_PX = 2  # how far from its middle the surroundings of a line are looked at
PIECES = 4
KNOWN = 0.6  # share of a piece that must be searchable
_TOGETHER = 2**21  # pixels that are turned at once
_NOWHERE = -1.0


@dataclass(frozen=True, kw_only=True)
class LineSearch:
    """What counts as a line.

    Attributes:
        length: Least length, as a share of the shorter side.
        contrast: Least brightness above both sides, in shares of the display range.
        noise_multiple: The same in standard deviations of what noise alone gives such a line.
        directions: Number of directions in half a turn.
        bend: How far a piece may lie beside the straight line, as a share of the shorter side.
        faintest: Least contrast of each of its pieces, and of all of them to the brighter side, as a share of that of the
            line; next to an edge one side is as bright.
    """

    length: float = 1 / 3
    contrast: float = 0.05
    noise_multiple: float = 4.0
    directions: int = 16
    bend: float = 0.012
    faintest: float = 0.5


def line_masks(images: Tensor, searched: Tensor, search: LineSearch) -> Tensor:
    """Thin bright lines ``(N, 1, H, W)`` boolean.

    The contrast of a line is the mean over its pieces of ``middle - (left + right) / 2``, two pixels to either side. It must
    reach ``contrast`` and ``noise_multiple * sigma * sqrt(1.5 / pixels)``, the standard deviation of such a mean in noise of
    standard deviation sigma; no piece may be fainter than a share of it, and neither side nearly as bright as the line.

    Args:
        images: ``(N, 1, H, W)`` in [0, 1].
        searched: Boolean of the same shape: where lines and their sides must lie.
        search: What counts.

    Reference: Freeman and Adelson 1991, doi:10.1109/34.93808 (filters in turned directions).

    >>> image = torch.full((1, 1, 48, 48), 0.3); image[..., 10:38, 20] = 0.5
    >>> found = line_masks(image, torch.ones_like(image, dtype=torch.bool), LineSearch())
    >>> bool(found[..., 12:36, 20].all()), float(found.float().mean()) < 0.1
    (True, True)
    """
    share = min(1.0, LARGEST_SIDE / min(images.shape[-2:]))
    cases = max(1, round(_TOGETHER / (2 * share**2 * images.shape[-2] * images.shape[-1])))
    parts = ((images[at : at + cases], searched[at : at + cases]) for at in range(0, len(images), cases))
    return torch.cat([_lines(some, where, search) for some, where in parts])


def _lines(images: Tensor, searched: Tensor, search: LineSearch) -> Tensor:
    shape, share = images.shape[-2:], LARGEST_SIDE / min(images.shape[-2:])
    if share < 1:
        small = [max(round(side * share), 1) for side in shape]
        images = functional.interpolate(images, small, mode="area")
        searched = functional.interpolate(searched.to(images), small, mode="area") > 0.5
    noise = noise_sd(images).nan_to_num(0.0)[:, None, None, None]
    found = torch.zeros_like(searched)
    for number in range(search.directions):
        found |= _in_direction(images, searched, math.pi * number / search.directions, noise, search)
    return functional.interpolate(found.to(images), shape, mode="nearest") > 0.5 if share < 1 else found


def _in_direction(images: Tensor, searched: Tensor, angle: float, noise: Tensor, search: LineSearch) -> Tensor:
    """Lines along one direction, which is turned to be vertical, and back."""
    height, width = images.shape[-2:]
    side = math.ceil(math.hypot(height, width))
    both = turned(torch.cat([images, searched.to(images)], 1), angle, (side, side))
    upright = _upright_lines(both[:, :1], both[:, 1:] > 0.99, noise, min(height, width), search)
    return turned(upright.to(images), -angle, (height, width)) > 0.5


def _upright_lines(plane: Tensor, known: Tensor, noise: Tensor, side: int, search: LineSearch) -> Tensor:
    """Vertical lines, as wide as what they are made of and a pixel on either side."""
    rows = max(round(search.length * side / PIECES), 2)
    least = (search.noise_multiple * noise * math.sqrt(1.5 / (PIECES * rows))).clamp_min(search.contrast)
    mean, darker = _piece_contrast(plane, known, rows)
    bend = max(round(search.bend * side), 1)
    places = [round((number - (PIECES - 1) / 2) * rows) for number in range(PIECES)]
    steps = [(place, 0) for place in places]
    pieces, sides = (_moved(one, steps, fill=_NOWHERE) for one in _best_within(mean, darker, bend))
    contrast, apart = (sum(parts[1:], parts[0]) / PIECES for parts in (pieces, sides))
    lines = (contrast >= least) & (torch.minimum(reduce(torch.minimum, pieces), apart) >= search.faintest * contrast)
    found = torch.zeros_like(known)
    some = lines.flatten(1).any(1).nonzero().flatten()  # few cases have a line in this direction
    if len(some):
        found[some] = _drawn(lines[some], (mean >= least / 2)[some], places, rows, bend)
    return found


def _drawn(lines: Tensor, bright: Tensor, places: Sequence[int], rows: int, bend: int) -> Tensor:
    """The pieces of the lines about these middles, where they are bright, and a pixel on either side."""
    middles = _moved(lines.float(), [(-place, 0) for place in places])
    pieces = reduce(torch.maximum, [_widened(middle, bend) * bright for middle in middles])
    reach = rows // 2
    return functional.max_pool2d(_widened(pieces, 1), (2 * reach + 1, 1), 1, (reach, 0)) > 0.5


def _piece_contrast(plane: Tensor, known: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Contrast of a vertical piece of a line to the mean and to the brighter of its sides; -1 where they are not searched."""
    seen = known.to(plane)
    share = _averaged_down(seen, rows)
    mean = _averaged_down(plane * seen, rows) / share.clamp_min(1e-6)
    beside = [(0, -BESIDE_PX), (0, BESIDE_PX)]
    left, right = _moved(mean, beside)
    nowhere = torch.minimum(share, torch.minimum(*_moved(share, beside))) < KNOWN
    to_mean, to_brighter = mean - (left + right) / 2, mean - torch.maximum(left, right)
    return to_mean.masked_fill_(nowhere, _NOWHERE), to_brighter.masked_fill_(nowhere, _NOWHERE)


def _averaged_down(plane: Tensor, rows: int) -> Tensor:
    """Mean of ``rows`` pixels of a column about each; zeros beyond the border.

    Sums of 1, 2, 4, … rows make that of any number.
    """
    doubled = functional.pad(plane, (0, 0, rows // 2, (rows - 1) // 2))
    height, start, total = plane.shape[-2], 0, torch.zeros_like(plane)
    for bit in range(rows.bit_length()):
        if rows >> bit & 1:
            total += doubled[..., start : start + height, :]
            start += 1 << bit
        if rows >> bit > 1:
            doubled = doubled[..., : -(1 << bit), :] + doubled[..., 1 << bit :, :]
    return total / rows


def _best_within(mean: Tensor, darker: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Of the pieces within so many columns the one of most contrast: its contrast to the mean and to the brighter side."""
    steps = [(0, by) for by in sorted(range(-columns, columns + 1), key=abs)]
    best, its_darker = mean, darker
    for one, other in zip(_moved(mean, steps, fill=_NOWHERE), _moved(darker, steps, fill=_NOWHERE), strict=True):
        better = one > best
        best, its_darker = torch.where(better, one, best), torch.where(better, other, its_darker)
    return best, its_darker


def _widened(plane: Tensor, columns: int) -> Tensor:
    """The largest value within so many columns."""
    return reduce(torch.maximum, _moved(plane, [(0, by) for by in range(-columns, columns + 1)], fill=_NOWHERE))


def _moved(plane: Tensor, steps: Sequence[tuple[int, int]], fill: float = 0.0) -> list[Tensor]:
    """The plane moved by so many pixels down and to the right; views of one copy."""
    height, width = plane.shape[-2:]
    most = [max(abs(step[axis]) for step in steps) for axis in (0, 1)]
    padded = functional.pad(plane, (most[1], most[1], most[0], most[0]), value=fill)
    corners = [(most[0] - down, most[1] - right) for down, right in steps]
    return [padded[..., top : top + height, left : left + width] for top, left in corners]


def turned(planes: Tensor, angle: float, shape: tuple[int, int]) -> Tensor:
    """Planes ``(N, C, H, W)`` turned about their centre by ``angle`` radians, on a grid of another shape; 0 outside.

    >>> turned(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), math.pi, (2, 2)).round().tolist()
    [[[[4.0, 3.0], [2.0, 1.0]]]]
    """
    height, width = planes.shape[-2:]
    down, right = (torch.arange(side, device=planes.device, dtype=planes.dtype) - (side - 1) / 2 for side in shape)
    y, x = torch.meshgrid(down, right, indexing="ij")
    cos, sin = math.cos(angle), math.sin(angle)
    grid = torch.stack([(cos * x - sin * y) * 2 / width, (sin * x + cos * y) * 2 / height], -1)
    expanded = grid.expand(len(planes), *grid.shape)
    return functional.grid_sample(planes, expanded, mode="bilinear", padding_mode="zeros", align_corners=False)


def moved_aside(found: Tensor, searched: Tensor, distance: float = 0.07) -> Tensor:
    """Lines moved to where none was found: to one of eight sides, the one where most of them lie in what was searched.

    Args:
        found: ``(N, 1, H, W)`` boolean.
        searched: Where lines were looked for, likewise.
        distance: How far, as a share of the shorter side.
    """
    step = max(round(distance * min(found.shape[-2:])), BESIDE_PX + 1)
    near = functional.max_pool2d(found.float(), 3, 1, 1) > 0
    steps = [(down, right) for down in (0, step, -step) for right in (step, -step, 0) if down or right]
    moved = torch.stack([(one > 0) & searched & ~near for one in _moved(found.float(), steps)])
    chosen = moved.flatten(2).sum(2).argmax(0)
    return moved[chosen, torch.arange(len(found), device=found.device)]
