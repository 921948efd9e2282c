"""Twins of a model that know nothing: the same architecture with every parameter drawn anew.

A saliency map that stays the same when the model forgets everything shows the image, not the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robustbench_rad.classifier import Classifier
from robustbench_rad.errors import ModelError


def randomised_twin(classifier: Classifier, seed: int, calibration: Tensor) -> Classifier:
    """Copy the classifier and draw every parameter anew; the given one and global random state are left alone.

    The draws are made on the CPU, so that the twin of a seed is the same on every device. Batch-normalisation statistics are
    measured again on a few images: with those of the trained weights, or with none, the copy would not be a network as it
    is before training.

    Args:
        classifier: The trained model.
        seed: Seed of the draws.
        calibration: ``(C, 1, H, W)`` display images; fewer than two leave mean 0 and variance 1.

    Raises:
        ModelError: The model cannot be copied.
    """
    try:
        with torch.no_grad():  # a scripted module's copy would hang on the graph of the original
            module = copy.deepcopy(classifier.module).cpu()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"parameter randomisation: the model cannot be copied: {error}",
            hint="Load it from a factory with weights instead of an exported program.",
        ) from error
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        _forget(module)
    twin = replace(classifier, module=module.to(classifier.device).eval(), weights_sha256="")
    if len(calibration) > 1:
        _calibrate(twin, calibration.to(classifier.device))
    return twin


def _forget(module: nn.Module) -> None:
    """Reset what can reset itself, then draw the rest (bare parameters, weight norms) with its own mean and spread."""
    learned = {name: parameter.clone() for name, parameter in module.named_parameters()}
    for layer in module.modules():
        _reset(getattr(layer, "reset_parameters", None))
    for name, buffer in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # of layers that are no longer Python objects
            buffer.fill_(1.0 if name.endswith("running_var") else 0.0)
    for name, parameter in module.named_parameters():
        parameter.grad = None
        if parameter.is_floating_point() and torch.equal(parameter, learned[name]):
            _redraw(parameter)


def _reset(reset: Callable[[], object] | None) -> None:
    try:
        if reset is not None:
            reset()
    except TypeError:  # it wants arguments we do not know
        return


def _redraw(parameter: nn.Parameter) -> None:
    """Normal with the parameter's own mean and spread; a constant vector has nothing learned in it and stays."""
    if parameter.numel() == 1:
        parameter.normal_().mul_(float(parameter.abs()))
        return
    mean, spread = float(parameter.float().mean()), float(parameter.float().std())
    if spread > 0:
        parameter.normal_(mean, spread)


def _calibrate(twin: Classifier, calibration: Tensor) -> None:
    """Measure the batch-normalisation statistics of a twin in one pass; every other layer stays in evaluation mode."""
    layers = [layer for layer in twin.module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = None  # plain average
        layer.train()
    if layers:
        with torch.no_grad():
            twin.outputs(calibration)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
