"""Any trained classifier behind one face: images in, margins at the locked operating point out.

The margin of a finding is its log-odds minus the log-odds of its locked threshold; the finding is called when the margin is
at least 0. Attacks, shifts and statistics work on margins only, so one-logit, multi-label and softmax heads look the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.errors import ModelError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class Head(StrEnum):
    """What the last layer means."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    SINGLE_LOGIT = "single-logit"


class Outputs(StrEnum):
    """Whether the model gives logits or probabilities."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


class Resize(StrEnum):
    """How an image is brought to the model's size."""

    STRETCH = "stretch"
    PAD = "pad"
    CROP = "crop"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What the model was trained on.

    Attributes:
        size: Height and width (or depth, height, width) of the model's input.
        channels: Channels of the network; the one grey plane is replicated to them.
        range: Physical values mapped to 0 and 1 of display space (radiograph, MR).
        window_hu: Lower and upper end of the CT window mapped to 0 and 1; excludes ``range``.
        mean: Per-channel mean subtracted in network space.
        std: Per-channel divisor in network space.
        resize: How the aspect ratio is treated.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
        antialias: Low-pass before shrinking.
    """

    size: tuple[int, ...]
    channels: int = 1
    range: tuple[float, float] = (0.0, 1.0)
    window_hu: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Resize = Resize.STRETCH
    interpolation: str = "bilinear"
    antialias: bool = True

    @property
    def limits(self) -> tuple[float, float]:
        """Physical values of display 0 and display 1."""
        return self.window_hu or self.range

    def display(self, physical: Tensor) -> Tensor:
        """Bring physical images to display space; differentiable.

        Args:
            physical: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` in the unit of :attr:`limits`.

        Returns:
            ``(N, 1, *size)`` float32 in [0, 1]; outside the window the value is clipped as the viewer clips it.
        """
        low, high = self.limits
        windowed = ((physical.float() - low) / (high - low)).clamp(0.0, 1.0)
        return self.resized(windowed).clamp(0.0, 1.0)

    def resized(self, images: Tensor) -> Tensor:
        """Bring images of any size to :attr:`size`, without touching the value range (bicubic may overshoot)."""
        size = self.size
        if tuple(images.shape[2:]) == size:
            return images
        if self.resize is not Resize.STRETCH:
            images, size = _fit_aspect(images, self.size, self.resize)
        return _centre(_interpolate(images, size, self), self.size)

    def network(self, display: Tensor) -> Tensor:
        """Replicate the grey plane to the network's channels and normalise."""
        shape = (1, self.channels, *[1] * (display.ndim - 2))
        mean = display.new_tensor(self.mean).expand(self.channels).reshape(shape)
        std = display.new_tensor(self.std).expand(self.channels).reshape(shape)
        return (display - mean) / std


def _fit_aspect(images: Tensor, size: tuple[int, ...], resize: Resize) -> tuple[Tensor, tuple[int, ...]]:
    scales = [target / given for target, given in zip(size, images.shape[2:], strict=True)]
    scale = min(scales) if resize is Resize.PAD else max(scales)
    return images, tuple(max(1, round(given * scale)) for given in images.shape[2:])


def _interpolate(images: Tensor, size: tuple[int, ...], spec: InputSpec) -> Tensor:
    if images.ndim == 5:
        mode = "trilinear" if spec.interpolation != "nearest" else "nearest"
        align = None if mode == "nearest" else False
        return functional.interpolate(images, size=size, mode=mode, align_corners=align)
    if spec.interpolation == "nearest":
        return functional.interpolate(images, size=size, mode="nearest")
    return functional.interpolate(
        images, size=size, mode=spec.interpolation, align_corners=False, antialias=spec.antialias
    )


def _centre(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pad with 0 or crop, symmetrically, to ``size``."""
    pads: list[int] = []
    for given, target in zip(reversed(images.shape[2:]), reversed(size), strict=True):
        missing = target - given
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(images, pads) if any(pads) else images


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """How the model's outputs become findings.

    Attributes:
        kind: Sigmoid, softmax or one logit.
        outputs: Logits or probabilities.
        findings: K names.
        groups: For softmax: per finding the indices of its classes.
        classes: For softmax: number of classes.
        thresholds: K locked operating points on the probability scale; NaN: the largest class decides.
    """

    kind: Head
    outputs: Outputs
    findings: tuple[str, ...]
    thresholds: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...] = ()
    classes: int = 0

    @property
    def width(self) -> int:
        """Number of outputs the model must have."""
        return self.classes if self.kind is Head.SOFTMAX else len(self.findings)

    def log_odds(self, outputs: Tensor) -> Tensor:
        """Log-odds ``(N, K)`` of the findings from raw outputs ``(N, width)``.

        A group of softmax classes has the log-odds of its summed probability,
        ``logsumexp(z over the group) - logsumexp(z over the rest)``.
        """
        if self.kind is not Head.SOFTMAX:
            return outputs if self.outputs is Outputs.LOGITS else _logit(outputs)
        scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(1e-12).log()
        return torch.stack([_group_log_odds(scores, group) for group in self.groups], dim=1)

    def margins(self, outputs: Tensor) -> Tensor:
        """Margins ``(N, K)``: log-odds minus log-odds of the threshold.

        Where no threshold is declared (softmax, one class), the margin is the logit of the class minus the largest
        other logit.
        """
        log_odds = self.log_odds(outputs)
        offset = outputs.new_tensor([_logit_float(t) for t in self.thresholds])
        margins = log_odds - offset
        if self.kind is Head.SOFTMAX and any(math.isnan(t) for t in self.thresholds):
            scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(1e-12).log()
            largest = torch.stack([_largest_class_margin(scores, g) for g in self.groups], dim=1)
            margins = torch.where(offset.isnan(), largest, margins)
        return margins


def _group_log_odds(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].logsumexp(1) - scores[:, rest].logsumexp(1)


def _largest_class_margin(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].amax(1) - scores[:, rest].amax(1)


def _logit(probabilities: Tensor) -> Tensor:
    """Logit in float64, so that probabilities near 0 and 1 keep their order."""
    p = probabilities.double().clamp(1e-12, 1 - 1e-12)
    return (p.log() - (-p).log1p()).float()


def _logit_float(p: float) -> float:
    return p if math.isnan(p) else math.log(p) - math.log1p(-p)


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A module with its input and head declared.

    Attributes:
        module: The user's model, in evaluation mode.
        input: What it was trained on.
        head: How its outputs become findings.
        device: Where it lives.
        hookable: False for TorchScript and exported programs: no features, no Grad-CAM.
        weights_sha256: Hash of the weights file (or of the parameters), for the record.
    """

    module: nn.Module
    input: InputSpec
    head: HeadSpec
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    hookable: bool = True
    weights_sha256: str = ""

    @property
    def findings(self) -> tuple[str, ...]:
        """K names."""
        return self.head.findings

    @property
    def thresholds(self) -> Tensor:
        """``(K,)`` locked operating points, probability scale; NaN where the largest class decides."""
        return torch.tensor(self.head.thresholds)

    def display(self, physical: Tensor) -> Tensor:
        """Physical images to display space; differentiable. See :meth:`InputSpec.display`."""
        return self.input.display(physical)

    def outputs(self, display: Tensor) -> Tensor:
        """Raw outputs ``(N, width)`` float32 of display images.

        Raises:
            ModelError: The output is not a tensor (or a tuple, dict or object holding one) of the declared width.
        """
        raw = _tensor_of(self.module(self.input.network(display)))
        raw = raw.float().reshape(raw.shape[0], -1) if raw.ndim != 2 else raw.float()
        if raw.shape != (display.shape[0], self.head.width):
            raise ModelError(
                f"model output: expected shape ({display.shape[0]}, {self.head.width}) for a {self.head.kind} head "
                f"with {len(self.findings)} findings, got {tuple(raw.shape)}",
                hint="Check head, findings and classes in [model], and that one batch row is one case.",
            )
        return raw

    def margins(self, display: Tensor) -> Tensor:
        """Margins ``(N, K)`` float32; differentiable with respect to ``display``."""
        return self.head.margins(self.outputs(display))

    def features(self, display: Tensor) -> Tensor:
        """Penultimate activations ``(N, F)``: what goes into the last linear layer, or its global average.

        Raises:
            ModelError: The model gives no access to its layers, or has no last linear or convolution layer.
        """
        layer = self.last_linear()
        captured: list[Tensor] = []

        def capture(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            captured.append(inputs[0].detach())

        handle: RemovableHandle = layer.register_forward_pre_hook(capture)
        try:
            with torch.no_grad():
                self.outputs(display)
        finally:
            handle.remove()
        values = captured[-1].float()
        while values.ndim > 2:
            values = values.mean(-1) if isinstance(layer, nn.modules.conv._ConvNd) else values[:, 0]
        return values

    def last_linear(self) -> nn.Module:
        """The layer whose outputs are the model's outputs.

        Raises:
            ModelError: No access to layers, or none found.
        """
        if self.hookable:
            kinds = (nn.Linear, nn.modules.conv._ConvNd)
            layers = [layer for layer in self.module.modules() if isinstance(layer, kinds)]
            if layers:
                return layers[-1]
        raise ModelError(
            "the model gives no access to its layers, so penultimate features cannot be read",
            hint="Load it from a factory with weights instead of TorchScript or an exported program.",
        )


def _tensor_of(output: object) -> Tensor:
    """Find the tensor in what a model returned: a tensor, a tuple, a dict or an object with ``.logits``."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits") and isinstance(output.logits, Tensor):
        return output.logits
    if isinstance(output, Mapping):
        for key in ("logits", "out", "output", "probabilities"):
            if isinstance(output.get(key), Tensor):
                return _tensor_of(output[key])
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
    if isinstance(output, Sequence) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(
        f"model output: expected a tensor, a tuple, a dict with 'logits' or an object with .logits, got {type(output).__name__}",
        hint="Wrap the model in a factory that returns one tensor of shape (N, outputs).",
    )


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Run the module in evaluation mode and leave mode, gradients, buffers and random state as they were."""
    modes = {name: child.training for name, child in module.named_modules()}
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        if any(modes.values()):
            module.eval()
        try:
            yield
        finally:
            for name, child in module.named_modules():
                child.training = modes[name]
            for name, parameter in module.named_parameters():
                parameter.grad = gradients[name]
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    if not torch.equal(buffer, buffers[name]):
                        buffer.copy_(buffers[name])
