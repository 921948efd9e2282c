"""Any trained classifier behind one face: images in, margins at the locked operating point out.

The margin of a finding is its log-odds minus the log-odds of its locked threshold; the finding is called when the
margin is at least 0. Attacks, shifts and statistics work on margins only, so one-logit, multi-label and softmax heads
look the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustbench_rad.errors import ModelError


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

    def display_spacing(self, spacing_mm: Sequence[float], native: Sequence[int]) -> tuple[float, ...]:
        """Millimetres per display pixel, of an image of ``native`` pixels whose own spacing is given.

        >>> InputSpec(size=(224, 224)).display_spacing((0.2, 0.2), (2240, 1120))
        (2.0, 1.0)
        >>> InputSpec(size=(224, 224), resize=Resize.PAD).display_spacing((0.2, 0.2), (2240, 1120))
        (2.0, 2.0)
        """
        scales = [given / target for given, target in zip(native, self.size, strict=True)]
        if self.resize is not Resize.STRETCH and tuple(native) != self.size:
            scales = [max(scales) if self.resize is Resize.PAD else min(scales)] * len(scales)
        return tuple(spacing * scale for spacing, scale in zip(spacing_mm, scales, strict=True))

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
        return _interpolate_volume(images, size, spec)
    if spec.interpolation == "nearest":
        return functional.interpolate(images, size=size, mode="nearest")
    return functional.interpolate(
        images, size=size, mode=spec.interpolation, align_corners=False, antialias=spec.antialias
    )


def _interpolate_volume(images: Tensor, size: tuple[int, ...], spec: InputSpec) -> Tensor:
    """Within slices first, then across them: torch has no antialiased or cubic interpolation of volumes."""
    n, channels, depth = images.shape[:3]
    planes = _interpolate(images.flatten(0, 1).flatten(0, 1)[:, None], size[1:], spec)
    columns = planes.reshape(n * channels, 1, depth, size[1] * size[2])
    return _interpolate(columns, (size[0], size[1] * size[2]), spec).reshape(n, channels, *size)


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
        groups: For softmax: per finding the indices of its classes. For sigmoid: per finding the index of its output;
            none when the outputs are the findings, in that order.
        classes: Number of outputs, when it is not the number of findings.
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
        return self.classes or len(self.findings)

    def log_odds(self, outputs: Tensor) -> Tensor:
        """Log-odds ``(N, K)`` of the findings from raw outputs ``(N, width)``.

        A group of softmax classes has the log-odds of its summed probability,
        ``logsumexp(z over the group) - logsumexp(z over the rest)``.
        """
        if self.kind is not Head.SOFTMAX:
            if self.groups:
                outputs = outputs[:, [index for group in self.groups for index in group]]
            return outputs if self.outputs is Outputs.LOGITS else _logit(outputs)
        scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(_SMALLEST).log()
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
            scores = outputs if self.outputs is Outputs.LOGITS else outputs.clamp_min(_SMALLEST).log()
            largest = torch.stack([_largest_class_margin(scores, g) for g in self.groups], dim=1)
            margins = torch.where(offset.isnan(), largest, margins)
        return margins


_SMALLEST = 1e-37  # probability; its logarithm and the gradient 1/p are still finite in float32


def _group_log_odds(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].logsumexp(1) - scores[:, rest].logsumexp(1)


def _largest_class_margin(scores: Tensor, group: Sequence[int]) -> Tensor:
    rest = [index for index in range(scores.shape[1]) if index not in group]
    return scores[:, list(group)].amax(1) - scores[:, rest].amax(1)


def _logit(probabilities: Tensor) -> Tensor:
    """Logit in float64, so that probabilities near 0 and 1 keep their order."""
    p = probabilities.double().clamp(_SMALLEST, 1 - 1e-12)
    return (p.log() - (-p).log1p()).float()


def _logit_float(p: float) -> float:
    return p if math.isnan(p) else math.log(p) - math.log1p(-p)


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """Something a reader of the report must know about the model: shown by the preflight as a warning."""

    name: str
    detail: str


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
        caveats: What was assumed when it was loaded.
    """

    module: nn.Module
    input: InputSpec
    head: HeadSpec
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    hookable: bool = True
    weights_sha256: str = ""
    caveats: tuple[Caveat, ...] = ()

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
        raw = tensor_of(self.module(self.input.network(display))).float()
        if raw.ndim != 2:
            raw = raw.reshape(raw.shape[0] if raw.ndim else 1, -1)
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
        """Penultimate activations ``(N, F)``: see :meth:`margins_and_features`."""
        return self.margins_and_features(display)[1]

    def margins_and_features(self, display: Tensor) -> tuple[Tensor, Tensor]:
        """Margins ``(N, K)`` and penultimate activations ``(N, F)`` of one pass, without gradient.

        The activations are what goes into the last linear layer, or the global average of what goes into the last
        convolution.

        Raises:
            ModelError: The model gives no access to its layers, or has no last linear or convolution layer.
        """
        captured: dict[bool, tuple[nn.Module, Tensor]] = {}  # the last layer of the head's width, and of any other

        def capture(layer: nn.Module, inputs: tuple[Any, ...], _output: object) -> None:
            captured[_width(layer) == self.head.width] = (layer, inputs[0].detach())

        handles = [layer.register_forward_hook(capture) for layer in self._linear_layers()]
        try:
            with torch.no_grad():
                margins = self.margins(display)
        finally:
            for handle in handles:
                handle.remove()
        if not captured:
            raise _no_layers()
        return margins, _flat(*(captured.get(True) or captured[False]))

    @property
    def has_features(self) -> bool:
        """Whether penultimate features can be read."""
        try:
            return bool(self._linear_layers())
        except ModelError:
            return False

    def last_linear(self) -> nn.Module:
        """The layer whose outputs are the model's outputs.

        Raises:
            ModelError: No access to layers, or none found.
        """
        layers = self._linear_layers()
        fitting = [layer for layer in layers if _width(layer) == self.head.width]
        return (fitting or layers)[-1]

    def _linear_layers(self) -> list[nn.Module]:
        kinds = (nn.Linear, nn.modules.conv._ConvNd)
        layers: list[nn.Module] = [layer for layer in self.module.modules() if isinstance(layer, kinds)]
        if not self.hookable or not layers:
            raise _no_layers()
        return layers


def _width(layer: nn.Module) -> int:
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return width if isinstance(width, int) else 0


def _flat(layer: nn.Module, values: Tensor) -> Tensor:
    """One row per case: averaged over positions before a convolution, the first (class) token before a linear layer."""
    values = values.float()
    if isinstance(layer, nn.modules.conv._ConvNd):
        return values.flatten(2).mean(-1)
    return values if values.ndim == 2 else values.flatten(1, -2)[:, 0]


def _no_layers() -> ModelError:
    return ModelError(
        "the model gives no access to its layers, so penultimate features cannot be read",
        hint="Load it from a factory with weights instead of TorchScript or an exported program.",
    )


def tensor_of(output: object) -> Tensor:
    """Find the tensor in what a model returned: a tensor, a tuple, a dict or an object with ``.logits``."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits") and isinstance(output.logits, Tensor):
        return output.logits
    if isinstance(output, Mapping):
        for key in ("logits", "out", "output", "probabilities"):
            if isinstance(output.get(key), Tensor):
                return tensor_of(output[key])
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
    if isinstance(output, Sequence) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ModelError(
        "model output: expected a tensor, a tuple, a dict with 'logits' or an object with .logits, "
        f"got {type(output).__name__}",
        hint="Wrap the model in a factory that returns one tensor of shape (N, outputs).",
    )


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Run the module in evaluation mode and leave mode, gradients, buffers and random state as they were."""
    modes = {name: child.training for name, child in module.named_modules()}
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng(devices=_cuda_devices(module)):
        if any(modes.values()):
            module.eval()
        for parameter in module.parameters():
            parameter.grad = None  # a backward inside would otherwise add to the caller's gradient in place
        try:
            yield
        finally:
            for name, child in module.named_modules():
                child.training = modes.get(name, child.training)
            for name, parameter in module.named_parameters():
                parameter.grad = gradients.get(name)
            _restore(module, buffers)


def _restore(module: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name in buffers and not torch.equal(buffer, buffers[name]):
                buffer.copy_(buffers[name])


def _cuda_devices(module: nn.Module) -> list[int]:
    """CUDA devices the module lives on; asking for others would start them."""
    tensors = [*module.parameters(), *module.buffers()]
    return sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
