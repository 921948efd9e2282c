"""From a plan to a Classifier: factory or program file, weights, device, thresholds.

What cannot be used is an error that says what to do. What can be used but not fully trusted (a threshold nobody
declared, a program without layers) becomes a caveat of the classifier, which the preflight shows as a warning.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from robustbench_rad.classifier import Caveat, Classifier, Head, HeadSpec, InputSpec, Outputs, Resize
from robustbench_rad.defences.chain import defended
from robustbench_rad.errors import ModelError
from robustbench_rad.factories import call_factory
from robustbench_rad.plan import InputSection, ModelSection, Plan
from robustbench_rad.programs import ExportedModel, is_program, load_program
from robustbench_rad.weights import file_sha256, fit, module_sha256, read_weights, require_file, verify_sha256

DEFAULT_THRESHOLD = 0.5


def load_classifier(plan: Plan, *, device: str | torch.device = "auto", allow_pickle: bool = False) -> Classifier:
    """Load the plan's model in evaluation mode, behind the defences that the plan declares.

    Args:
        plan: A validated plan.
        device: ``auto`` (CUDA when there is any), ``cpu``, ``cuda``, ``cuda:1``, …
        allow_pickle: Unpickle whole modules, which runs code from the file.

    Raises:
        ModelError: The model cannot be loaded; says what was expected, what came, and what to do.
    """
    target = choose_device(device)
    load = _from_program if is_program(plan.model.factory) else _from_factory
    classifier = load(plan, target, allow_pickle=allow_pickle)
    return defended(classifier, plan.model.defences, seed=plan.seed)


def wrap_classifier(
    module: nn.Module,
    *,
    input: InputSpec,
    head: HeadSpec,
    device: str | torch.device | None = None,
    hookable: bool | None = None,
    weights_sha256: str = "",
    caveats: tuple[Caveat, ...] = (),
) -> Classifier:
    """Put a module that is already in memory behind the face of a Classifier.

    The module stays the caller's: its mode is not changed; run it inside
    :func:`~robustbench_rad.classifier.untouched`.

    Args:
        module: Any module that takes ``(N, channels, *size)``.
        input: What it was trained on.
        head: How its outputs become findings.
        device: Where to move it; default: where it is.
        hookable: Whether hooks see its layers; default: unless it is TorchScript or an exported program.
        weights_sha256: Hash for the record; default: over parameters and buffers.
        caveats: What a reader must know about it.
    """
    opaque = isinstance(module, ExportedModel | torch.jit.ScriptModule)
    target = _device_of(module) if device is None else choose_device(device)
    return Classifier(
        module=module if device is None else module.to(target),
        input=input,
        head=head,
        device=target,
        hookable=not opaque if hookable is None else hookable,
        weights_sha256=weights_sha256 or module_sha256(module),
        caveats=caveats,
    )


def _from_factory(plan: Plan, device: torch.device, *, allow_pickle: bool) -> Classifier:
    section = plan.model
    path = None if section.weights is None else plan.path(section.weights)
    if section.sha256 and path is None:
        raise ModelError(
            "model.sha256 is given, but there is no weights file to check",
            hint="Name the file in model.weights, or take model.sha256 out.",
        )
    if path is not None:
        require_file(path, "model.weights")
        if section.sha256:
            verify_sha256(path, section.sha256)
    module = build_module(section, base=plan.base)
    caveats = [*threshold_caveats(section), *output_caveats(section)]
    if path is None:
        caveats.append(_NO_WEIGHTS)
    else:
        checkpoint = read_weights(path, allow_pickle=allow_pickle)
        fit(module, checkpoint.state, path=path)
        if checkpoint.others:
            caveats.append(_several(path, checkpoint.key, checkpoint.others))
    module.float().eval()
    return wrap_classifier(
        module,
        input=input_spec(section.input),
        head=head_spec(section),
        device=device,
        weights_sha256=file_sha256(path) if path else "",
        caveats=tuple(caveats),
    )


def _from_program(plan: Plan, device: torch.device, *, allow_pickle: bool) -> Classifier:
    section = plan.model
    path = plan.path(section.factory)
    require_file(path, "model.factory")
    if section.weights is not None or section.arguments:
        key = "weights" if section.weights is not None else "arguments"
        raise ModelError(
            f"model.{key}: {path.name} already holds the whole model", hint=f"Take model.{key} out of the plan."
        )
    if section.sha256:
        verify_sha256(path, section.sha256)
    module = load_program(path, device=device, allow_pickle=allow_pickle).eval()
    caveats = [*threshold_caveats(section), *output_caveats(section), *program_caveats(module)]
    return wrap_classifier(
        module,
        input=input_spec(section.input),
        head=head_spec(section),
        device=device,
        weights_sha256=file_sha256(path),
        caveats=tuple(caveats),
    )


def build_module(section: ModelSection, *, base: Path) -> nn.Module:
    """Call the factory; random initial weights are the same in every run.

    Raises:
        ModelError: Not found, raised, or returned something else than a module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = call_factory(section.factory, base=base, arguments=section.arguments, kind=ModelError)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model.factory = {section.factory!r}: expected a torch.nn.Module, it returned {_described(module)}",
            hint="Return the module itself from the factory.",
        )
    return module


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (not an instance of it)"
    return "None" if value is None else f"a {type(value).__name__}"


def choose_device(device: str | torch.device) -> torch.device:
    """Resolve ``auto`` and check that the device is there.

    Raises:
        ModelError: No such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r}: expected auto, cpu, cuda or cuda:N", hint="Try --device auto.") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {str(device)!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices",
            hint="Run with --device cpu, or install a CUDA build of torch and check the driver.",
        )
    return target


def _device_of(module: nn.Module) -> torch.device:
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


def input_spec(section: InputSection) -> InputSpec:
    """[model.input] as an InputSpec."""
    return InputSpec(
        size=section.size,
        channels=section.channels,
        range=section.range or (0.0, 1.0),
        window_hu=section.window_hu,
        mean=section.mean,
        std=section.std,
        resize=Resize(section.resize),
        interpolation=section.interpolation,
        antialias=section.antialias,
    )


def head_spec(section: ModelSection) -> HeadSpec:
    """Head, groups and thresholds of [model].

    A threshold that is not declared is 0.5, except for softmax, where NaN lets the largest class decide.
    """
    default = math.nan if section.head == "softmax" else DEFAULT_THRESHOLD
    index = {name: position for position, name in enumerate(section.classes)}
    groups = [tuple(index[name] for name in group) for group in section.groups.values()] if index else []
    return HeadSpec(
        kind=Head(section.head),
        outputs=Outputs(section.outputs),
        findings=section.names,
        thresholds=tuple(section.thresholds.get(name, default) for name in section.names),
        groups=tuple(groups),
        classes=len(section.classes),
    )


def threshold_caveats(section: ModelSection) -> Iterator[Caveat]:
    """Loud words where the operating point was not declared."""
    names = [name for name in section.names if name not in section.thresholds]
    if section.head != "softmax" and names:
        yield Caveat(
            name="operating point",
            detail=f"NO OPERATING THRESHOLD IS DECLARED for {', '.join(names)}: {DEFAULT_THRESHOLD} is used, which is "
            "hardly ever the threshold a model is deployed with. Sensitivity, specificity and every attack are about "
            "that threshold. Declare the locked one: [model] thresholds = { … }.",
        )


def output_caveats(section: ModelSection) -> Iterator[Caveat]:
    """What probabilities lose."""
    if section.outputs == "probabilities":
        yield Caveat(
            name="outputs",
            detail="The model gives probabilities: log-odds are recovered from them and are precision-limited near 0 "
            "and 1, where gradients vanish too. Give the model without its last sigmoid or softmax and declare "
            "outputs = 'logits'.",
        )


def program_caveats(module: nn.Module) -> Iterator[Caveat]:
    """What an exported program or TorchScript file cannot do."""
    if isinstance(module, ExportedModel | torch.jit.ScriptModule):
        yield Caveat(
            name="layers",
            detail="The file gives no access to its layers: Grad-CAM and feature checks are not available, saliency "
            "uses the gradient of the input. Load the model from a factory with weights to have them.",
        )
    if isinstance(module, ExportedModel) and module.rows is not None:
        yield Caveat(
            name="batch size",
            detail=f"The program was exported for batches of exactly {module.rows}: it is run in parts of that size, "
            "which is slow. Export it with a dynamic batch: dynamic_shapes = ({0: torch.export.Dim('batch')},).",
        )


_NO_WEIGHTS = Caveat(
    name="weights",
    detail="No weights file is declared: whatever weights the factory leaves in the model are audited. A factory that "
    "only builds the architecture gives an untrained model. Name the file in model.weights.",
)


def _several(path: Path, key: str, others: tuple[str, ...]) -> Caveat:
    return Caveat(
        name="weights",
        detail=f"{path.name} holds several sets of weights: {key!r} was used, {', '.join(map(repr, others))} was not. "
        "Save the one that is released by itself.",
    )


def source_sha256(plan: Plan, module: nn.Module) -> str:
    """Hash of the source files of the factory and of the model's classes: another code is another model.

    Classes of torch itself are left out, their version is in the record. A program has no source; its weights are all of it.
    """
    place = plan.model.factory.rpartition(":")[0]
    loaded = sys.modules.get(place)
    files: set[str | None] = {str(plan.path(place))} if place.endswith(".py") else {getattr(loaded, "__file__", None)}
    for kind in {type(child) for child in module.modules()}:
        if kind.__module__.partition(".")[0] != "torch":
            with suppress(TypeError, OSError):
                files.add(inspect.getsourcefile(kind))
    digests = {hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file and Path(file).is_file()}
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
