"""Where the tensor is in what a model returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from robustbench_rad.errors import ModelError


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
