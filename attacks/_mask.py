"""Mask policies: which pixels of an image an attack may touch."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.conditions import Batch, Unit
from robustbench_rad.masks import hull_mask

VOID_HU = -950.0  # darker is air, also inside the patient
AIR_SHARE = 0.05  # of the display range, where there are no HU
BORDER_SHARE = 0.1  # of each side
LESION_MARGIN_PX = 2  # a lesion's rim belongs to it


class MaskPolicy(StrEnum):
    """Which pixels may be touched.

    IMAGE: all of them; the strongest adversary, and the default: an attack may hide in air as well.
    BODY: the patient without the air around.
    NO_AIR: no air, neither around nor inside the patient.
    ANATOMY: the declared anatomy.
    LESION_PROTECTED: all but the declared lesions, so that an attack that hides a finding cannot erase the disease itself.
    LESION_ONLY: the declared lesions.
    BORDER: a frame of a tenth of each side, where markers and text stand.
    """

    IMAGE = "image"
    BODY = "body"
    NO_AIR = "no-air"
    ANATOMY = "anatomy"
    LESION_PROTECTED = "lesion-protected"
    LESION_ONLY = "lesion-only"
    BORDER = "border"


def allowed_pixels(policy: MaskPolicy, batch: Batch) -> tuple[Tensor | None, str]:
    """Pixels ``(N, 1, ...)`` that may be touched, None for all; and why a case may have none, in words."""
    match policy:
        case MaskPolicy.IMAGE:
            return None, ""
        case MaskPolicy.BODY:
            return _body(batch), "no pixel is brighter than air"
        case MaskPolicy.NO_AIR:
            return batch.images > _air(batch, VOID_HU), "no pixel is brighter than air"
        case MaskPolicy.ANATOMY:
            return _declared(batch, batch.anatomy), "no anatomy mask is declared, or it is empty or of another size"
        case MaskPolicy.LESION_ONLY:
            return _declared(batch, batch.lesion), "no lesion is declared, or its mask is empty"
        case MaskPolicy.LESION_PROTECTED:
            return _outside_lesion(batch), "no lesion is declared for a case with a positive label"
        case MaskPolicy.BORDER:
            return _border(batch.images), "the image is too small for a border"


def beside_lesions(policy: MaskPolicy, batch: Batch) -> tuple[Tensor | None, str]:
    """What a policy allows without known lesions and their rim: for attacks that cover what is there."""
    allowed, why = allowed_pixels(policy, batch)
    if batch.lesion is None or policy is MaskPolicy.LESION_ONLY:
        return allowed, why
    outside = ~grown(batch.lesion, LESION_MARGIN_PX)
    return outside if allowed is None else allowed & outside, why or "the lesion leaves no pixel"


def _air(batch: Batch, threshold_hu: float) -> float:
    """Image value below which a pixel is air."""
    if batch.limits_unit is not Unit.HU:
        return AIR_SHARE
    low, high = batch.limits
    return (threshold_hu - low) / (high - low)  # below 0, and no pixel is air, where the window begins above air


def _body(batch: Batch) -> Tensor:
    """The hull of the patient, holes filled; see :func:`robustbench_rad.masks.hull_mask`."""
    low, high = batch.limits if batch.limits_unit is Unit.HU else (0.0, 1.0)
    unit = Unit.HU if batch.limits_unit is Unit.HU else Unit.SIGNAL
    return torch.stack([hull_mask(low + image * (high - low), unit) for image in batch.images])


def _declared(batch: Batch, mask: Tensor | None) -> Tensor:
    return torch.zeros_like(batch.images, dtype=torch.bool) if mask is None else mask


def _outside_lesion(batch: Batch) -> Tensor:
    """Everything but the lesion and its rim; nothing where a positive case does not say where its lesion is."""
    lesion = _declared(batch, batch.lesion)
    said = lesion.flatten(1).any(1) | ~(batch.labels == 1).any(1)
    return ~grown(lesion, LESION_MARGIN_PX) & said.reshape(-1, *[1] * (lesion.ndim - 1))


def grown(mask: Tensor, pixels: int) -> Tensor:
    """A boolean mask ``(N, 1, ...)`` grown by a box of ``2 pixels + 1`` in every direction.

    >>> grown(torch.tensor([[[[0, 0, 1, 0, 0]]]]).bool(), 1).int().tolist()
    [[[[0, 1, 1, 1, 0]]]]
    """
    pool = functional.max_pool3d if mask.ndim == 5 else functional.max_pool2d
    return pool(mask.float(), 2 * pixels + 1, stride=1, padding=pixels) > 0.5


def _border(images: Tensor) -> Tensor:
    """A frame in the plane; in a volume, of every slice."""
    height, width = images.shape[-2:]
    rows, columns = max(1, round(BORDER_SHARE * height)), max(1, round(BORDER_SHARE * width))
    frame = torch.ones_like(images, dtype=torch.bool)
    frame[..., rows : height - rows, columns : width - columns] = False
    return frame
