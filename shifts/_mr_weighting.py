"""How each case of a batch was weighted, from its header or from what is assumed, and a changed weighting of its image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._mr_contrast import (
    TISSUES,
    Weighting,
    class_ratios,
    remapped,
    signal_ratios,
    tissue_nodes,
    with_class_maps,
)
from robustbench_rad.shifts._mr_inputs import foreground, header_numbers, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

NO_CONTRAST = "no map of the tissues, and no three tissues of different brightness"


def weightings(batch: Batch, *, tesla: float, repetition_ms: float, echo_ms: float) -> tuple[list[Weighting], Tensor]:
    """Weighting of every case, and ``(N,)`` 1 where any of its numbers had to be assumed."""
    names = ("MagneticFieldStrength", "RepetitionTime", "EchoTime", "InversionTime")
    rows = list(zip(*(header_numbers(batch, name) for name in names), strict=True))
    known = [
        Weighting(
            tesla=_or(field, tesla), repetition_ms=_or(tr, repetition_ms), echo_ms=_or(te, echo_ms), inversion_ms=ti
        )
        for field, tr, te, ti in rows
    ]
    assumed = [float(any(math.isnan(value) for value in row[:3])) for row in rows]
    return known, torch.tensor(assumed, device=batch.device)


def _or(value: float, assumed: float) -> float:
    return value if math.isfinite(value) else assumed


def nodes_of(batch: Batch) -> Tensor:
    """Brightness of three tissues of every case, ``(N, 3)``."""
    inside = foreground(batch.images)
    return torch.stack([tissue_nodes(image, mask) for image, mask in zip(batch.images, inside, strict=True)])


def reweighted(
    batch: Batch, nodes: Tensor, sources: Sequence[Weighting], targets: Sequence[Weighting]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Images of another weighting at the same mean brightness, where that is possible, and the change of contrast.

    A case with a map of its tissues has every pixel scaled by the ratio of its class, at the same mean over all classes; pixels
    of no class (scalp, skull) stay as they are. Another has a monotone map of three brightnesses.

    Returns:
        Images, ``(N,)`` whether the case has a map or three brightnesses, and ``(N,)`` measured: ``contrast_ratio``, the
        brightest over the middle tissue after, divided by the same before, by the signal equation; ``contrast_inverted``, 1
        where tissues change their order, which a monotone map stops at equal brightness; ``classified_share`` of the
        foreground, 0 without a map.
    """
    inside = foreground(batch.images)
    maps, shares = class_maps(batch, inside)
    images, possible, contrast, inverted = [], [], [], []
    for row, (image, places, source, target) in enumerate(zip(batch.images, nodes, sources, targets, strict=True)):
        ratios, ordered = signal_ratios(source, target)
        good = places.isfinite().all()
        safe = torch.where(good, places, torch.arange(1.0, 4.0, device=places.device))
        changed = torch.where(good, remapped(image, safe, ratios), image)
        if maps is not None:
            known = shares[row] > 0.0
            by_class = _by_class(image, maps[row], image.new_tensor(class_ratios(source, target)))
            changed, good = torch.where(known, by_class, changed), good | known
        images.append(changed)
        possible.append(good)
        contrast.append(ratios[2] / ratios[1])
        inverted.append(float(not ordered))
    stacked = torch.stack(images)
    gain = tissue_mean(batch.images, inside) / tissue_mean(stacked, inside)
    gain = torch.where(shares > 0.0, torch.ones_like(gain), gain)
    measured = {
        "contrast_ratio": stacked.new_tensor(contrast),
        "contrast_inverted": stacked.new_tensor(inverted),
        "classified_share": shares,
    }
    return stacked * per_case(gain, stacked), torch.stack(possible), measured


def _by_class(image: Tensor, maps: Tensor, ratios: Tensor) -> Tensor:
    """Every class by its ratio, and all by one gain that keeps their mean; a constant for gradients."""
    sums = (maps * image.detach()).flatten(1).sum(1)
    gain = sums.sum() / (sums * ratios).sum().clamp_min(torch.finfo(image.dtype).tiny)
    return with_class_maps(image, maps, ratios * gain)


def class_maps(batch: Batch, inside: Tensor) -> tuple[Tensor | None, Tensor]:
    """One-hot maps of the tissues ``(N, 3, …)`` where any case has them, and their share ``(N,)`` of the foreground."""
    if batch.tissue is None:
        return None, batch.images.new_zeros(len(batch))
    maps = torch.cat([batch.tissue == code for code in range(1, len(TISSUES) + 1)], 1)
    classified = (maps.any(1, keepdim=True) & inside).flatten(1).sum(1)
    return maps.to(batch.images.dtype), classified / inside.flatten(1).sum(1)
