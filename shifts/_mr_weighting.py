"""How each case of a batch was weighted, from its header or from what is assumed, and a changed weighting of its image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._mr_contrast import Weighting, remapped, signal_ratios, tissue_nodes
from robustbench_rad.shifts._mr_inputs import foreground, header_numbers, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

NO_CONTRAST = "no three tissues of different brightness"


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

    Returns:
        Images, ``(N,)`` whether the case has three tissues, and ``(N,)`` measured: ``contrast_ratio``, the brightest over
        the middle tissue after, divided by the same before, by the signal equation; ``contrast_inverted``, 1 where tissues
        would change their order, which a monotone map stops at equal brightness.
    """
    images, possible, contrast, inverted = [], [], [], []
    for image, places, source, target in zip(batch.images, nodes, sources, targets, strict=True):
        ratios, ordered = signal_ratios(source, target)
        good = places.isfinite().all()
        safe = torch.where(good, places, torch.arange(1.0, 4.0, device=places.device))
        images.append(torch.where(good, remapped(image, safe, ratios), image))
        possible.append(good)
        contrast.append(ratios[2] / ratios[1])
        inverted.append(float(not ordered))
    changed = torch.stack(images)
    inside = foreground(batch.images)
    gain = tissue_mean(batch.images, inside) / tissue_mean(changed, inside)
    measured = {"contrast_ratio": changed.new_tensor(contrast), "contrast_inverted": changed.new_tensor(inverted)}
    return changed * per_case(gain, changed), torch.stack(possible), measured
