"""Where a saliency map is read: the last layer that still knows places, found by itself or named by the user.

Convolutional networks: the last output ``(N, C, h, w)`` before global pooling. Vision transformers: the last layer of the
token stream whose patch tokens still reach the output; with a class token that lies before the last attention, because after
it the patches no longer count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.classifier import Classifier, untouched
from robustbench_rad.errors import ModelError, suggestion
from robustbench_rad.seeds import generator

MOST_PREFIX_TOKENS = 8  # one class token, one distillation token, a few registers


@dataclass(frozen=True, kw_only=True)
class TargetLayer:
    """A layer of a model by its dotted name, and the grid of places its output holds.

    Attributes:
        name: Name as in ``module.named_modules()``.
        tokens: Whether the output is ``(N, T, C)``, class tokens first, rather than ``(N, C, h, w)``.
    """

    name: str
    tokens: bool = False

    def module(self, classifier: Classifier) -> nn.Module:
        """The layer inside ``classifier``."""
        return classifier.module.get_submodule(self.name)

    def places(self, output: Tensor, sides: Sequence[int]) -> Tensor:
        """Bring an output (or its gradient) to ``(N, C, h, w)``.

        Args:
            output: What the layer returned.
            sides: Height and width (depth, height, width) of the image, for the shape of a grid of tokens.
        """
        if not self.tokens:
            return output
        grid = token_grid(output.shape[1], sides)
        if grid is None:
            raise ModelError(
                f"layer {self.name!r}: {output.shape[1]} tokens are not a grid over an image of {tuple(sides)}"
            )
        prefix = output.shape[1] - math.prod(grid)
        return output[:, prefix:].transpose(1, 2).reshape(output.shape[0], output.shape[2], *grid)


def token_grid(tokens: int, sides: Sequence[int]) -> tuple[int, ...] | None:
    """Rows and columns of a sequence of patch tokens with a few other tokens before it; None when none fits.

    >>> token_grid(197, (224, 224)), token_grid(1 + 4 + 8 * 16, (128, 256)), token_grid(224, (224, 224))
    ((14, 14), (8, 16), None)
    """
    if len(sides) != 2:
        return None
    for prefix in range(MOST_PREFIX_TOKENS + 1):
        patches = tokens - prefix
        rows = round(math.sqrt(max(patches, 0) * sides[0] / sides[1]))
        if rows > 1 and patches % rows == 0 and rows * sides[1] == (patches // rows) * sides[0]:
            return rows, patches // rows
    return None


def target_layer(classifier: Classifier, name: str = "") -> TargetLayer | None:
    """The layer whose places a Grad-CAM map shows.

    Args:
        classifier: The model.
        name: Dotted name chosen by the user (``saliency_layer`` in ``[model]``); "" finds one.

    Returns:
        The layer; None when the model gives no access to its layers or none of them holds places: then only gradients
        with respect to the image are left.

    Raises:
        ModelError: No layer of that name (the nearest one is said), or its output holds no places.
    """
    if not classifier.hookable:
        return None
    known = dict(classifier.module.named_modules())
    if name and name not in known:
        raise ModelError(f"saliency_layer: the model has no layer {name!r}", hint=suggestion(name, filter(None, known)))
    found = _candidates(classifier, [name] if name else [layer for layer in known if layer])
    if name and not found:
        raise ModelError(
            f"saliency_layer: the output of {name!r} holds no places: expected (N, C, h, w) or patch tokens (N, T, C)",
            hint="Name a layer before global pooling, or leave saliency_layer out.",
        )
    return _last_that_counts(found)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    layer: TargetLayer
    reaches_output: bool
    step: int


def _last_that_counts(found: list[_Candidate]) -> TargetLayer | None:
    """The last layer with a gradient at its places; the last of all for a model without any gradient."""
    if any(candidate.layer.tokens for candidate in found):
        # Attention matrices (N, heads, T, T) look like images; where there are patch tokens, only these are places.
        found = [candidate for candidate in found if candidate.layer.tokens]
    reaching = [candidate for candidate in found if candidate.reaches_output] or found
    return max(reaching, key=lambda candidate: candidate.step).layer if reaching else None


def _candidates(classifier: Classifier, names: Sequence[str]) -> list[_Candidate]:
    """Run one fixed noise image and look at what every named layer returns."""
    sides = classifier.input.size
    noise = torch.rand(1, 1, *sides, generator=generator("cpu", "saliency", "target layer"))
    outputs: dict[str, tuple[int, Tensor]] = {}

    def keep(name: str, _module: nn.Module, _inputs: Any, output: object) -> Tensor | None:  # noqa: ANN401 - a hook
        if not isinstance(output, Tensor) or not output.requires_grad:
            return None
        outputs[name] = (len(outputs) if name not in outputs else outputs[name][0], output)
        return output.clone()  # a layer that works in place must not overwrite what was kept

    modules = {name: classifier.module.get_submodule(name) for name in names}
    with untouched(classifier.module), frozen(classifier.module), torch.enable_grad():
        with hooked({module: partial(keep, name) for name, module in modules.items()}):
            margins = classifier.margins(noise.to(classifier.device).requires_grad_())
        kept = {name: value for name, value in outputs.items() if _is_place(value[1], modules[name], sides)}
        gradients = _gradients(margins, [output for _, output in kept.values()])
    return [
        _candidate(name, step, output, gradient, sides)
        for (name, (step, output)), gradient in zip(kept.items(), gradients, strict=True)
    ]


def _candidate(name: str, step: int, output: Tensor, gradient: Tensor | None, sides: Sequence[int]) -> _Candidate:
    layer = TargetLayer(name=name, tokens=output.ndim == 3)
    reaches = gradient is not None and bool(layer.places(gradient, sides).any())
    return _Candidate(layer=layer, reaches_output=reaches, step=step)


def _gradients(margins: Tensor, outputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not outputs or not margins.requires_grad:
        return [None] * len(outputs)
    weights = torch.rand(margins.shape, generator=generator("cpu", "saliency", "weights")).to(margins)
    return torch.autograd.grad((margins * weights).sum(), outputs, allow_unused=True)


def _is_place(output: Tensor, module: nn.Module, sides: Sequence[int]) -> bool:
    if output.shape[0] != 1:
        return False
    if output.ndim == 3 and len(sides) == 2:  # projections inside an attention block mix queries, keys and values
        return not isinstance(module, nn.Linear) and token_grid(output.shape[1], sides) is not None
    grid = output.shape[2:]
    return len(grid) == len(sides) and all(1 < places <= side for places, side in zip(grid, sides, strict=True))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient, so that no graph is kept for layers before the one that is looked at."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def hooked(hooks: dict[nn.Module, Any]) -> Iterator[None]:
    """Hold forward hooks, and remove each of them whatever happens."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
