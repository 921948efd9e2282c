"""Saliency maps of all findings from one forward pass: Grad-CAM, and the input gradient where there are no layers.

Maps are signed, float32, detached, and do not depend on the other images of a batch. They explain the margin of a finding,
its log-odds at the locked threshold, so one-logit, multi-label and softmax heads are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.classifier import Classifier, untouched
from robustbench_rad.errors import ModelError
from robustbench_rad.saliency.layers import TargetLayer, frozen, hooked


def maps(
    classifier: Classifier, display: Tensor, layer: TargetLayer | None, findings: Sequence[int] | None = None
) -> Tensor:
    """Maps of the best method the model allows: Grad-CAM at ``layer``, or the input gradient without one.

    Returns:
        ``(N, K, h, w)``, at the resolution of the layer (of the image for the input gradient); see :func:`resized`.
    """
    if layer is None:
        return input_gradient(classifier, display, findings=findings)
    return grad_cam(classifier, display, layer, findings=findings)


def grad_cam(
    classifier: Classifier, display: Tensor, layer: TargetLayer, *, findings: Sequence[int] | None = None
) -> Tensor:
    """Grad-CAM of several findings with one forward pass and one short backward pass each.

    ``map_k(i) = sum_c alpha_kc A_c(i)`` with ``alpha_kc = mean_i d margin_k / d A_c(i)``; ``A`` are the layer's
    activations. The backward passes start at the output and end at the layer, so they are as cheap as the head.

    Args:
        classifier: The model.
        display: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` in [0, 1].
        layer: Where; from :func:`robustbench_rad.saliency.layers.target_layer`.
        findings: Indices; None for all.

    Returns:
        Signed maps ``(N, K, h, w)`` at the layer's resolution; ``clamp_min(0)`` gives the usual unsigned ones.

    Raises:
        ModelError: The layer did not run, or no gradient reaches it.

    Reference: Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74.
    """
    capture = _Capture(module=layer.module(classifier))
    with untouched(classifier.module), frozen(classifier.module), torch.enable_grad():
        with hooked({capture.module: capture}):
            margins = classifier.margins(display.detach())
        activation = capture.activation(layer.name)
        places = layer.places(activation.detach().float(), display.shape[2:])
        gradients = _per_finding(margins, activation, findings)
        found = [_weighted(places, layer.places(gradient, display.shape[2:])) for gradient in gradients]
    return torch.stack(found, dim=1)


def _weighted(activation: Tensor, gradient: Tensor) -> Tensor:
    """Sum of the channels, each weighted with the mean of its gradient."""
    weights = gradient.float().flatten(2).mean(2)
    return torch.einsum("nc,nc...->n...", weights, activation)


@dataclass(kw_only=True)
class _Capture:
    """A forward hook that cuts the graph at its layer and keeps the activation."""

    module: nn.Module
    kept: list[Tensor] = field(default_factory=list)

    def __call__(self, _module: nn.Module, _inputs: Any, output: object) -> Tensor | None:  # noqa: ANN401 - a hook
        if not isinstance(output, Tensor):
            return None
        leaf = output.detach().requires_grad_()
        self.kept[:] = [leaf]  # of a layer that runs more than once, the last call counts
        return leaf.clone()  # what follows may work in place

    def activation(self, name: str) -> Tensor:
        if not self.kept:
            raise ModelError(
                f"layer {name!r} gave no tensor during the forward pass",
                hint="Set saliency_layer in [model] to a layer that runs and returns one tensor.",
            )
        return self.kept[0]


def input_gradient(
    classifier: Classifier, display: Tensor, *, findings: Sequence[int] | None = None, blur_fraction: float = 0.02
) -> Tensor:
    """Absolute gradient of each finding's margin with respect to the image, smoothed.

    Args:
        classifier: The model; needs no access to its layers.
        display: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` in [0, 1].
        findings: Indices; None for all. One forward pass, and one backward pass each.
        blur_fraction: Standard deviation of the Gaussian, as a fraction of the shorter side; 0 for none.

    Returns:
        ``(N, K, H, W)``, at least 0.

    Raises:
        ModelError: The margins do not depend on the image through gradients.

    Reference: Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034.
    """
    image = display.detach().clone().requires_grad_()
    with untouched(classifier.module), frozen(classifier.module), torch.enable_grad():
        gradients = _per_finding(classifier.margins(image), image, findings)
    sigma_px = blur_fraction * min(display.shape[-2:])
    return torch.cat([blurred(gradient.float().abs(), sigma_px) for gradient in gradients], dim=1)


def _per_finding(margins: Tensor, wanted: Tensor, findings: Sequence[int] | None) -> list[Tensor]:
    """Gradient of each finding's margin; zero where the margin is constant.

    Summing over the batch is safe: the margin of a case depends on its own image only.
    """
    if not margins.requires_grad:
        raise ModelError(
            "no gradient reaches the image or the layer, so no saliency map can be made",
            hint="Load the model without torch.no_grad() or inference mode in its forward pass.",
        )
    chosen = range(margins.shape[1]) if findings is None else findings
    return [_gradient(margins[:, finding].sum(), wanted) for finding in chosen]


def _gradient(output: Tensor, wanted: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(output, wanted, retain_graph=True, allow_unused=True)
    return torch.zeros_like(wanted) if gradient is None else gradient.detach()


def blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur along the last two axes, with replicated borders; sigma 0 returns the images.

    >>> blurred(torch.ones(1, 1, 5, 5), 1.0).mean().round(decimals=4).item()
    1.0
    """
    if sigma_px <= 0:
        return images
    radius = max(1, round(3 * sigma_px))
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma_px).square())
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    padded = functional.pad(flat, (radius, radius, radius, radius), mode="replicate")
    across = functional.conv2d(padded, kernel.reshape(1, 1, 1, -1))
    return functional.conv2d(across, kernel.reshape(1, 1, -1, 1)).reshape(images.shape)


def resized(found: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps ``(N, K, ...)`` at another resolution: linear when growing, area averages when shrinking."""
    if all(side <= given for side, given in zip(sides, found.shape[2:], strict=True)):
        return functional.interpolate(found, tuple(sides), mode="area")
    mode = "trilinear" if len(sides) == 3 else "bilinear"
    return functional.interpolate(found, tuple(sides), mode=mode, align_corners=False)
