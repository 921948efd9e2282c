"""The few figures by which the demo's models are chosen and described; the audit itself measures with intervals."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.demo.dataset import PhantomSet


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, batch: int = 100) -> Tensor:
    """Logits ``(N,)`` of images ``(N, 1, H, W)``."""
    return torch.cat([model(part)[:, 0] for part in torch.split(images, batch)])


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Share of (positive, negative) pairs in the right order, ties count half.

    >>> auroc(torch.tensor([1.0, 2.0, 3.5, 3.0, 4.0, 5.0]), torch.tensor([0, 0, 0, 1, 1, 1]))
    0.8888888955116272
    """
    chosen = positive.bool()
    difference = scores[chosen][:, None] - scores[~chosen][None, :]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())


def within_labels(scores: Tensor, attribute: Tensor, labels: Tensor) -> float:
    """AUROC of the score for an attribute among cases of the same label, mean of both labels; 0.5 is independence."""
    strata = [labels == value for value in (0, 1)]
    return sum(auroc(scores[rows], attribute[rows]) for rows in strata) / 2


def youden_threshold(scores: Tensor, labels: Tensor) -> float:
    """Probability at which sensitivity + specificity is largest, half-way to the next lower score."""
    order = scores.argsort(descending=True)
    ranked, positive = scores[order], labels[order].double()
    youden = positive.cumsum(0) / positive.sum() - (1 - positive).cumsum(0) / (1 - positive).sum()
    best = int(youden[:-1].argmax())
    return float(torch.sigmoid((ranked[best] + ranked[best + 1]) / 2))


def without_anatomy(data: PhantomSet, margin_px: int = 2) -> Tensor:
    """Images whose lungs (the union over all patients, dilated) show the mean image of the set."""
    atlas = data.lungs.any(0, keepdim=True).float()
    atlas = functional.max_pool2d(atlas, 2 * margin_px + 1, stride=1, padding=margin_px)
    mean = data.images.mean(0, keepdim=True)
    return data.images * (1 - atlas) + mean * atlas
