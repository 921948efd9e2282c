"""Which layers of a model may be its last, and what goes into one."""

from __future__ import annotations

from torch import Tensor, nn

from robustbench_rad.errors import ModelError


def linear_layers(module: nn.Module, *, hookable: bool = True) -> list[nn.Module]:
    """Linear and convolution layers, in the order of the module.

    Raises:
        ModelError: The model is not ``hookable``, or has none.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    layers: list[nn.Module] = [layer for layer in module.modules() if isinstance(layer, kinds)]
    if not hookable or not layers:
        raise no_layers()
    return layers


def width_of(layer: nn.Module) -> int:
    """Number of outputs, or of output channels; 0 where the layer does not say."""
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return width if isinstance(width, int) else 0


def one_row_per_case(layer: nn.Module, values: Tensor) -> Tensor:
    """What goes into a layer, ``(N, F)``: averaged over positions (convolution), the first, class token (linear layer)."""
    values = values.float()
    if isinstance(layer, nn.modules.conv._ConvNd):
        return values.flatten(2).mean(-1)
    return values if values.ndim == 2 else values.flatten(1, -2)[:, 0]


def no_layers() -> ModelError:
    """The error of a model whose layers cannot be seen."""
    return ModelError(
        "the model gives no access to its layers, so penultimate features cannot be read",
        hint="Load it from a factory with weights instead of TorchScript or an exported program.",
    )
