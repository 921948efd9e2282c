"""Asking a model without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
