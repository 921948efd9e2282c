"""Smooth fields over an image or a volume: polynomials and receive coils, in coordinates from -1 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import torch

from robustbench_rad import seeds

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


def coordinates(shape: Sequence[int], device: torch.device) -> list[Tensor]:
    """Coordinates of the pixel centres along each axis of ``(H, W)`` or ``(D, H, W)``, broadcastable; 0 for one pixel."""
    axes = [(torch.arange(n, device=device, dtype=torch.float32) * 2.0 + 1.0) / n - 1.0 for n in shape]
    return [axis.reshape([-1 if i == k else 1 for i in range(len(shape))]) for k, axis in enumerate(axes)]


def legendre(x: Tensor, order: int) -> list[Tensor]:
    """Legendre polynomials P₀ to P_order.

    >>> [value.item() for value in legendre(torch.tensor(0.5), 3)]
    [1.0, 0.5, -0.125, -0.4375]
    """
    values = [torch.ones_like(x), x]
    for n in range(1, order):
        values.append(((2 * n + 1) * x * values[n] - n * values[n - 1]) / (n + 1))
    return values[: order + 1]


def polynomial_fields(batch: Batch, order: int, *parts: object) -> Tensor:
    """Random polynomials without a constant, ``Σ c Pᵢ Pⱼ Pₖ`` over 1 ≤ i + j + k ≤ order, in the shape of the images.

    The coefficients are standard normal over (i + j + k), so that the field is smooth.
    """
    shape = batch.images.shape[2:]
    basis = [legendre(axis, order) for axis in coordinates(shape, batch.device)]
    powers = [p for p in product(range(order + 1), repeat=len(shape)) if 1 <= sum(p) <= order]
    fields = []
    for seed in batch.seeds:
        draw = torch.randn(len(powers), generator=seeds.generator("cpu", seed, *parts)).tolist()
        field = torch.zeros(tuple(shape), device=batch.device)
        for weight, power in zip(draw, powers, strict=True):
            term = torch.ones((), device=batch.device)
            for axis, degree in zip(basis, power, strict=True):
                term = term * axis[degree]
            field = field + weight / sum(power) * term
        fields.append(field)
    return torch.stack(fields)[:, None]


def surface_coil_fields(batch: Batch, *parts: object) -> Tensor:
    """Logarithm of the sensitivity ``1 / r²`` of one coil per case, beside the image, in the shape of the images."""
    fields = []
    rows, columns = coordinates(batch.images.shape[-2:], batch.device)
    for seed in batch.seeds:
        angle = 2.0 * torch.pi * torch.rand((), generator=seeds.generator("cpu", seed, *parts)).to(batch.device)
        squared = (rows - 1.5 * angle.sin()).square() + (columns - 1.5 * angle.cos()).square()
        fields.append((-squared.log()).expand(batch.images.shape[2:]))
    return torch.stack(fields)[:, None]
