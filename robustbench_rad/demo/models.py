"""The demo's classifier: a small convolutional network that looks for one focal opacity."""

from __future__ import annotations

import math

from torch import Tensor, nn

WIDTHS = (8, 16, 32, 32)


class LesionCNN(nn.Module):
    """Four convolutions on a quarter-resolution grid, soft maximum per feature, one linear layer.

    A lesion fills a few of the 24 x 24 positions; their mean would drown it. The soft maximum
    ``log(mean(exp(b a))) / b`` keeps it and still gives every position a gradient. These gradients sum to 1 over the
    positions, so Grad-CAM on the last activation is the class activation map.
    """

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS, sharpness: float = 4.0) -> None:
        super().__init__()
        first, second, third, last = widths
        self.features = nn.Sequential(
            *_block(1, first, kernel=5, stride=2),
            *_block(first, second, kernel=3, stride=2),
            *_block(second, third, kernel=3),
            *_block(third, last, kernel=3, dilation=2),
        )
        self.head = nn.Linear(last, 1)
        self.sharpness = sharpness

    def forward(self, images: Tensor) -> Tensor:
        """Logit ``(N, 1)`` of "lesion" from images ``(N, 1, 96, 96)`` in [0, 1]."""
        return self.pooled(self.features(images - 0.5))

    def pooled(self, activation: Tensor) -> Tensor:
        """Logit ``(N, 1)`` from the activations ``(N, F, 24, 24)`` of the last convolution."""
        scaled = self.sharpness * activation.flatten(2)
        soft_maximum = (scaled.logsumexp(2) - math.log(scaled.shape[2])) / self.sharpness
        logit: Tensor = self.head(soft_maximum)
        return logit


def _block(inputs: int, outputs: int, *, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def lesion_cnn() -> LesionCNN:
    """The factory named in the demo's plans."""
    return LesionCNN()
