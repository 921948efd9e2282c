"""Grad-CAM for 14 findings: one forward pass here, one call per label in captum; and whether the maps are the same.

Run ``python benchmarks/saliency.py``; prints a Markdown table. Times are process CPU time, the median of interleaved
repetitions, because wall time on shared cores measures the neighbours.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.saliency.layers import TargetLayer, target_layer
from robustbench_rad.saliency.maps import grad_cam, input_gradient

FINDINGS, CASES, SIDE, REPETITIONS = 14, 8, 128, 9


class Block(nn.Module):
    """A residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, h, w)`` to ``(N, outputs, h / stride, w / stride)``."""
        summed: Tensor = self.body(x) + self.skip(x)
        return summed.relu()


def residual_network() -> nn.Module:
    widths = (32, 32, 64, 128, 256)
    blocks = [Block(a, b, 2) for a, b in pairwise(widths)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], FINDINGS))
    return nn.Sequential(nn.Conv2d(1, widths[0], 5, 2, 2), nn.ReLU(inplace=True), *blocks, *head)


def classifier() -> Classifier:
    torch.manual_seed(0)
    names = tuple(f"finding {number}" for number in range(FINDINGS))
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=names, thresholds=(0.5,) * FINDINGS)
    return Classifier(module=residual_network().eval(), input=InputSpec(size=(SIDE, SIDE)), head=head)


def captum_grad_cam(model: Classifier, images: Tensor, layer: TargetLayer) -> Tensor:
    from captum.attr import LayerGradCam

    method = LayerGradCam(model.margins, layer.module(model))
    return torch.cat([method.attribute(images, target=finding).detach() for finding in range(FINDINGS)], dim=1)


def captum_input_gradient(model: Classifier, images: Tensor) -> Tensor:
    from captum.attr import Saliency

    method = Saliency(model.margins)
    leaf = images.clone().requires_grad_()
    return torch.cat([method.attribute(leaf, target=finding).detach() for finding in range(FINDINGS)], dim=1)


def compared(ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> tuple[float, float, float]:
    """Median CPU milliseconds of both, alternating, and the largest difference of their maps over the largest value."""
    expected = theirs()
    difference = float((ours() - expected).abs().max() / expected.abs().max())
    pairs = [(milliseconds(ours), milliseconds(theirs)) for _ in range(REPETITIONS)]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return mine, other, difference


def milliseconds(run: Callable[[], Tensor]) -> float:
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model, images = classifier(), torch.rand(CASES, 1, SIDE, SIDE)
    layer = target_layer(model)
    assert layer is not None
    rows = {
        f"Grad-CAM at `{layer.name}`": compared(
            lambda: grad_cam(model, images, layer), lambda: captum_grad_cam(model, images, layer)
        ),
        "input gradient": compared(
            lambda: input_gradient(model, images, blur_fraction=0.0), lambda: captum_input_gradient(model, images)
        ),
    }
    print(
        f"| {FINDINGS} findings, batch {CASES}, 1 x {SIDE} x {SIDE} | here, ms | captum, ms | ratio | largest difference |"
    )
    print("|---|---|---|---|---|")
    for name, (mine, other, difference) in rows.items():
        print(f"| {name} | {mine:.0f} | {other:.0f} | {other / mine:.1f} | {difference:.0e} |")


if __name__ == "__main__":
    main()
