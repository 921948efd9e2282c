"""One face for every model: display images in; outputs, margins and features out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.classifier.head_spec import HeadSpec
from robustbench_rad.classifier.input_spec import InputSpec
from robustbench_rad.classifier.layers import linear_layers, no_layers, one_row_per_case, width_of
from robustbench_rad.classifier.outputs import tensor_of
from robustbench_rad.errors import ModelError


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
            captured[width_of(layer) == self.head.width] = (layer, inputs[0].detach())

        handles = [layer.register_forward_hook(capture) for layer in self._linear_layers()]
        try:
            with torch.no_grad():
                margins = self.margins(display)
        finally:
            for handle in handles:
                handle.remove()
        if not captured:
            raise no_layers()
        return margins, one_row_per_case(*(captured.get(True) or captured[False]))

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
        fitting = [layer for layer in layers if width_of(layer) == self.head.width]
        return (fitting or layers)[-1]

    def _linear_layers(self) -> list[nn.Module]:
        return linear_layers(self.module, hookable=self.hookable)
