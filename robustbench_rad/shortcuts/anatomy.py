"""Pure tensor functions for regions of anatomy: atlas, dilation, soft edges, and continuing an image into a hole.

Images and masks are ``(N, 1, H, W)`` or ``(N, 1, D, H, W)``; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def atlas(counts: Tensor, cases: int, fraction: float) -> Tensor:
    """Pixels that are anatomy in at least ``fraction`` of the cases.

    Args:
        counts: ``(1, 1, ...)`` how many masks hold each pixel; integers, so that no order of summation matters.
        cases: How many masks were counted.
        fraction: In (0, 1]; a small one is nearly the union of all masks.

    Returns:
        Boolean mask of the shape of ``counts``.

    >>> atlas(torch.tensor([[[[0, 1, 20]]]]), cases=20, fraction=0.05).tolist()
    [[[[False, True, True]]]]
    """
    return (counts >= max(fraction * cases, 1)) & (counts > 0)


def dilated(masks: Tensor, radius_px: int) -> Tensor:
    """Grow masks by ``radius_px`` in every axis direction (square element, one pass per axis).

    >>> dilated(torch.tensor([[[[False, False, True, False]]]]), 1).tolist()
    [[[[False, True, True, True]]]]
    """
    size = 2 * radius_px + 1
    return _separable(masks.float(), lambda line: functional.max_pool1d(line, size, 1, radius_px)) > 0.5


def costophrenic_angles(region: Tensor) -> Tensor:
    """The two lower outer corners of the lungs, where fluid collects, from a mask of both lungs.

    Of the box that holds the mask: the lowest quarter and a tenth of its height below, the outer three tenths of its width
    on either side and a twelfth beyond.

    Args:
        region: ``(1, 1, H, W)`` boolean.

    Raises:
        ValueError: A volume, or an empty mask.

    >>> lungs = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    >>> lungs[..., 5:25, 8:32] = True
    >>> angles = costophrenic_angles(lungs)
    >>> angles[0, 0].any(1).nonzero().flatten()[[0, -1]].tolist(), angles[0, 0].any(0).nonzero().flatten()[[0, -1]].tolist()
    ([20, 26], [6, 33])
    """
    if region.ndim != 4 or not bool(region.any()):
        raise ValueError("costophrenic angles are found below a mask of the lungs on a plane")
    rows, columns = (region[0, 0].any(axis).nonzero().flatten() for axis in (1, 0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    height, width = bottom - top, right - left
    beyond, inner = round(width / 12), round(0.3 * width)
    angles = torch.zeros_like(region)
    lower = slice(bottom - round(0.25 * height), bottom + round(0.1 * height))
    angles[..., lower, max(0, left - beyond) : left + inner] = True
    angles[..., lower, right - inner : right + beyond] = True
    return angles


def feathered(masks: Tensor, radius_px: int) -> Tensor:
    """Soft weights: exactly 1 on the mask, falling to 0 within ``2 * radius_px`` outside of it.

    The mask is grown by the radius and then averaged over a box of the same radius. A box around a pixel of the mask
    lies wholly in the grown mask, so nothing of what the mask covers shines through.

    >>> feathered(torch.tensor([[[[True, False, False, False]]]]), 1)[0, 0, 0, 1:].round(decimals=2).tolist()
    [0.6700000166893005, 0.33000001311302185, 0.0]
    """
    size = 2 * radius_px + 1
    grown = dilated(masks, radius_px).float()
    return _separable(grown, lambda line: functional.avg_pool1d(line, size, 1, radius_px, count_include_pad=False))


def _separable(values: Tensor, filter_line: Callable[[Tensor], Tensor]) -> Tensor:
    for axis in range(2, values.ndim):
        lines = values.movedim(axis, -1)
        flat = filter_line(lines.reshape(-1, 1, lines.shape[-1]))
        values = flat.reshape(lines.shape).movedim(-1, axis)
    return values


def holds_border(mask: Tensor) -> bool:
    """Whether a mask ``(1, 1, ..., H, W)`` covers every pixel of the image's border, as an inverted mask does.

    >>> holds_border(torch.ones(1, 1, 4, 4, dtype=torch.bool))
    True
    """
    border = torch.ones_like(mask)
    border[..., 1:-1, 1:-1] = False
    return bool(mask[border].all())


def continued(images: Tensor, known: Tensor) -> Tensor:
    """Continue images smoothly into the region that is not known, from the known pixels alone.

    Pull-push: halve the image again and again by averages weighted with what is known, then fill each level from the
    coarser one. Pixels of weight 0 never enter, so nothing of the hidden region leaks.

    Args:
        images: ``(N, 1, ...)``.
        known: ``(N or 1, 1, ...)`` weights in [0, 1]; 0 is the hole.

    Returns:
        Images of the same shape; where ``known`` is 1 they are the given ones.

    Reference: Gortler, Grzeszczuk, Szeliski, Cohen, The Lumigraph, 1996, doi:10.1145/237170.237200.

    >>> continued(torch.tensor([[[[2.0, 9.0, 9.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0, 1.0]]]])).tolist()
    [[[[2.0, 2.0, 2.0, 2.0]]]]
    """
    sides = list(images.shape[2:])
    if max(sides) == 1:
        return images
    half = [(side + 1) // 2 for side in sides]
    share = functional.interpolate(known, half, mode="area")
    average = functional.interpolate(images * known, half, mode="area") / share.clamp_min(1e-12)
    coarse = continued(average, (share * 2 ** len(sides)).clamp(max=1.0))  # one known pixel makes a coarse one known
    mode = "trilinear" if len(sides) == 3 else "bilinear"
    return torch.lerp(functional.interpolate(coarse, sides, mode=mode, align_corners=False), images, known)


def blended(images: Tensor, fill: Tensor, weights: Tensor) -> Tensor:
    """``fill`` where the weights are 1, the image where they are 0; exact at both ends."""
    return images * (1.0 - weights) + fill * weights


def at_level_of(fill: Tensor, images: Tensor, known: Tensor) -> Tensor:
    """``fill`` as bright as each image: moved by the median of ``image - fill`` over the known pixels.

    A median, so that a letter, a frame or another posture in less than half of these pixels moves nothing.

    Args:
        fill: ``(N or 1, 1, ...)``.
        images: ``(N, 1, ...)``.
        known: ``(1, 1, ...)`` boolean; pixels that are not known never enter.

    >>> image = torch.tensor([[[[0.5, 0.6, 1.0, 0.9]]]])
    >>> at_level_of(image - 0.25, image, torch.tensor([[[[True, True, True, False]]]])).tolist() == image.tolist()
    True
    """
    difference = torch.where(known, images - fill, torch.nan).flatten(1)
    level = difference.nanmedian(1).values.nan_to_num(0.0)
    return fill + level.reshape(-1, *[1] * (images.ndim - 1))
