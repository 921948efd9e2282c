"""The gradient of what has none: the defence forwards, the identity backwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, altered: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
        return altered.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's signature
        return gradients[0], None


def straight_through(images: Tensor, altered: Tensor) -> Tensor:
    """Give ``altered`` exactly, with the gradient of ``images``.

    Rounding has a gradient of 0 almost everywhere, which masks the gradient of the model and lets it look robust. A defence
    that leaves an image nearly as it was has nearly the identity for a derivative, and that is what an attack is given:
    ``d altered / d images = 1``.

    Args:
        images: What went into the defence, ``(N, 1, ...)``.
        altered: What came out of it, of the same shape.

    Reference: backward pass differentiable approximation, Athalye, Carlini and Wagner 2018, arXiv:1802.00420.

    >>> images = torch.tensor([0.2, 0.7], requires_grad=True)
    >>> straight_through(images, images.detach().round()).square().sum().backward()
    >>> images.grad
    tensor([0., 2.])
    """
    passed: Tensor = _StraightThrough.apply(images, altered.detach())  # type: ignore[no-untyped-call]
    return passed
