"""Receive coils around the patient, and the noise amplification of parallel imaging with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_RING = 1.5  # radius of the ring of coils; the image reaches from -1 to 1
_WIDTH = 0.8  # radius of a coil


def sensitivities(rows: Tensor, columns: Tensor, coils: int, turn: Tensor) -> Tensor:
    """Complex sensitivities ``(…, coils)`` of coils on a ring, at coordinates from -1 to 1.

    The strength falls as that on the axis of a loop of radius a, ``(1 + d² / a²)^(-3/2)``; the phase is the direction to it.
    """
    angles = turn + 2.0 * math.pi * torch.arange(coils, device=rows.device) / coils
    down, right = (_RING * part - axis[..., None] for part, axis in ((angles.sin(), rows), (angles.cos(), columns)))
    strength = (1.0 + (down.square() + right.square()) / _WIDTH**2) ** -1.5
    return torch.polar(strength, torch.atan2(down, right))


def g_factor(shape: tuple[int, int], axis: int, *, acceleration: int, coils: int, turn: Tensor) -> Tensor:
    """Noise amplification ``(H, W)`` of SENSE, ``√([(SᴴS)⁻¹]ᵢᵢ [SᴴS]ᵢᵢ)``, at least 1.

    Args:
        shape: H and W.
        axis: Phase-encoding axis, -2 or -1, that is undersampled.
        acceleration: R, how many places fold onto one.
        coils: How many, at least R.
        turn: Angle of the first coil.

    Source:
        Pruessmann et al. 1999, SENSE: sensitivity encoding for fast MRI,
        10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S.
    """
    points = [(torch.arange(n, device=turn.device) * 2.0 + 1.0) / n - 1.0 for n in shape]
    rows, columns = torch.meshgrid(*points, indexing="ij")
    folded = []
    for number in range(acceleration):
        shift = 2.0 * number / acceleration
        place = [(point + shift + 1.0) % 2.0 - 1.0 if a == axis else point for a, point in ((-2, rows), (-1, columns))]
        folded.append(sensitivities(place[0], place[1], coils, turn).to(torch.complex128))
    system = torch.stack(folded, dim=-1)
    normal = system.mH @ system
    first = torch.linalg.inv(normal)[..., 0, 0].real * normal[..., 0, 0].real
    amplification: Tensor = first.clamp_min(1.0).sqrt().to(torch.float32)
    return amplification
