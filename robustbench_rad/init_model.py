"""A look at a model: load it as an audit would, and try which input it takes and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.classifier import tensor_of, untouched
from robustbench_rad.errors import ModelError
from robustbench_rad.init_hints import Hints, read_hints
from robustbench_rad.init_text import Note, decide, guessed, seen
from robustbench_rad.loading import build_module
from robustbench_rad.plan import InputSection, ModelSection
from robustbench_rad.programs import is_program, load_program
from robustbench_rad.weights import file_sha256, fit, read_weights

DEFAULT_SIDE = 224
SIDES = (DEFAULT_SIDE, 256, 299, 320, 384, 512, 28, 32, 64, 96, 128)
VOLUME_SIDES = (64, 96, 128, 32)
LARGEST_SQUARE = 512  # larger images are not what a network of this kind is given
LEAST_SPREAD = 0.5
MOST_OUTPUTS = 1000
NAME_ATTRIBUTES = ("pathologies", "class_names", "classes", "label_names", "labels", "targets", "findings")
SCALES = (0.3, 1.0, 20.0, 1e4)  # of noise images; the last drive logits out of [0, 1]


@dataclass(frozen=True, kw_only=True)
class ModelLook:
    """What the model is.

    Attributes:
        factory: As given.
        weights: As given; "" for none.
        sha256: Of the weights or program file.
        channels: Channels of its input, and how they are known.
        size: Input size, and how it is known; () when no size that was tried worked.
        outputs: Number of outputs; 0 when it could not be run.
        kind: logits or probabilities, and how it is known.
        sums_to_one: Its outputs are a distribution over classes.
        names: Names of outputs that the module itself carries.
        mean: Normalisation that the module itself carries.
        std: As ``mean``.
        hints: Words around the factory.
    """

    factory: str
    weights: str = ""
    sha256: str = ""
    channels: tuple[int, Note]
    size: tuple[tuple[int, ...], Note]
    outputs: int = 0
    kind: tuple[str, Note] = ("logits", guessed("the model could not be run"))
    sums_to_one: bool = False
    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    hints: Hints = Hints()  # noqa: RUF009 - frozen


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One size that was tried."""

    channels: int
    size: tuple[int, ...]
    outputs: Tensor | None
    problem: str = ""


def look_at_model(factory: str, weights: str, *, square: int | None) -> ModelLook:
    """Load a model from the current folder and try it.

    Args:
        factory: ``module:function``, ``file.py:function`` or a program file.
        weights: Weights file; "" for none.
        square: Side of the images when all are squares of one size.

    Raises:
        ModelError: It cannot be loaded, or it is no classifier.
    """
    module, file = _load(factory, weights)
    hints = Hints() if is_program(factory) else read_hints(factory, Path.cwd())
    declared, source = _declared_shape(module, hints)
    conv = _first_conv(module)
    known = (conv.in_channels, seen("the first convolution")) if conv is not None else _channels(declared, source)
    with untouched(module), torch.no_grad():
        trials = _trials(module, declared, known[0], square=square, conv=conv)
        taken = [trial for trial in trials if trial.outputs is not None]
        values = _outputs_on_noise(module, taken[0]) if taken else None
    channels = known if not taken or taken[0].channels == known[0] else (taken[0].channels, seen("tried"))
    configuration = _configuration(module)
    return ModelLook(
        factory=factory,
        weights=weights,
        sha256=file_sha256(file) if file else "",
        channels=channels,
        size=_size(trials, declared, source, square),
        outputs=_width(taken[0].outputs) if taken else 0,
        kind=_kind(values),
        sums_to_one=values is not None and _is_distribution(values),
        names=_names(module),
        mean=_numbers(configuration.get("mean")),
        std=_numbers(configuration.get("std")),
        hints=hints,
    )


def _load(factory: str, weights: str) -> tuple[nn.Module, Path | None]:
    """The module in evaluation mode, and the file its weights came from."""
    here = Path.cwd()
    if is_program(factory):
        if weights:
            raise ModelError(f"--weights {weights}: {factory} already holds the whole model", hint="Leave it out.")
        path = here / factory
        if not path.is_file():
            raise ModelError(f"--model {factory}: no such file", hint=f"The path is taken relative to {here}.")
        return load_program(path, device=torch.device("cpu"), allow_pickle=False).eval(), path
    section = ModelSection(
        factory=factory, head="sigmoid", findings=["any"], input=InputSection(size=(1, 1), range=(0.0, 1.0))
    )
    module = build_module(section, base=here)
    file = here / weights if weights else None
    if file is not None:
        fit(module, read_weights(file).state, path=file)
    return module.float().eval(), file


def _first_conv(module: nn.Module) -> nn.modules.conv._ConvNd | None:
    return next((layer for layer in module.modules() if isinstance(layer, nn.modules.conv._ConvNd)), None)


def _configuration(module: nn.Module) -> Mapping[str, Any]:
    """What timm and its like write on their models."""
    found = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    return found if isinstance(found, Mapping) else {}


def _declared_shape(module: nn.Module, hints: Hints) -> tuple[tuple[int, ...], str]:
    """Channels and size that the model or the words around it declare."""
    given = _numbers(_configuration(module).get("input_size"))
    if len(given) in (3, 4):
        return tuple(int(side) for side in given), "the model's own configuration"
    return hints.shape, f"the text of {hints.source}"


def _channels(declared: Sequence[int], source: str) -> tuple[int, Note]:
    return (declared[0], guessed(source)) if declared else (1, guessed("no convolution says it"))


def _trials(
    module: nn.Module,
    declared: tuple[int, ...],
    channels: int,
    *,
    square: int | None,
    conv: nn.modules.conv._ConvNd | None,
) -> list[Trial]:
    """Try sizes, the likeliest first, until two are taken: then the model takes any."""
    dimensions = 3 if isinstance(conv, nn.Conv3d) or len(declared) == 4 else 2
    sides = VOLUME_SIDES if dimensions == 3 else SIDES
    prepared = [square] if square and square <= LARGEST_SQUARE and dimensions == 2 else []
    sizes = dict.fromkeys(
        [*([declared[1:]] if declared else []), *((side,) * dimensions for side in [*prepared, *sides])]
    )
    kinds = [channels] if conv is not None else [channels, 1, 3]
    trials: list[Trial] = []
    for count in dict.fromkeys(kinds):
        for size in sizes:
            trials.append(_try(module, count, size))
            if sum(trial.outputs is not None for trial in trials) == 2:
                return trials
        if any(trial.outputs is not None for trial in trials):
            break
    return trials


def _try(module: nn.Module, channels: int, size: tuple[int, ...]) -> Trial:
    images = torch.rand((2, channels, *size), generator=torch.Generator().manual_seed(0))
    try:
        outputs = tensor_of(module(images)).float()
    except ModelError:
        raise
    except Exception as error:  # the user's model may raise anything on a size it was not made for
        reason = str(error).strip().partition("\n")[0]
        return Trial(channels=channels, size=size, outputs=None, problem=f"{type(error).__name__}: {reason}")
    if outputs.shape[:1] != (2,) or outputs[0].numel() > MOST_OUTPUTS:
        raise ModelError(
            f"model output: expected (N, outputs) from a classifier, got {tuple(outputs.shape)} for 2 images",
            hint="Wrap the model in a factory that returns one row of outputs per image.",
        )
    return Trial(channels=channels, size=size, outputs=outputs.reshape(2, -1))


def _width(outputs: Tensor | None) -> int:
    return 0 if outputs is None else outputs.shape[1]


def _outputs_on_noise(module: nn.Module, trial: Trial) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (2, trial.channels, *trial.size)
    batches = [scale * torch.randn(shape, generator=generator) for scale in SCALES]
    return torch.cat([tensor_of(module(batch)).float().reshape(2, -1) for batch in batches])


def _is_distribution(values: Tensor) -> bool:
    inside = bool(((values >= 0) & (values <= 1)).all())
    return inside and values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < 1e-3).all())


def _kind(values: Tensor | None) -> tuple[str, Note]:
    """Logits leave [0, 1] on strong noise; probabilities never do."""
    if values is None:
        return "logits", guessed("the model could not be run")
    if not bool(values.isfinite().all()):
        return "logits", guessed("outputs are NaN or infinite on noise images")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        return "logits", seen(f"from {low:.4g} to {high:.4g} on noise images")
    if high - low < LEAST_SPREAD:
        return "probabilities", decide(
            f"logits | probabilities: from {low:.4g} to {high:.4g} on noise, which tells little"
        )
    return "probabilities", guessed(f"from {low:.4g} to {high:.4g} on noise images, never outside [0, 1]")


def _size(
    trials: Sequence[Trial], declared: tuple[int, ...], source: str, square: int | None
) -> tuple[tuple[int, ...], Note]:
    taken = [trial.size for trial in trials if trial.outputs is not None]
    if not taken:
        return (), guessed(f"none of {len(trials)} sizes tried was taken: {trials[0].problem}")
    size = taken[0]
    if declared and size == declared[1:]:
        return size, guessed(f"{source}; the model takes it")
    if len(taken) == 1:
        return size, seen(f"the only one of {len(trials)} sizes tried that the model takes")
    if square and size == (square, square):
        return size, guessed("the size of the images; the model takes other sizes too")
    return size, guessed("usual; the model takes other sizes too")


def _names(module: nn.Module) -> tuple[str, ...]:
    for attribute in NAME_ATTRIBUTES:
        value = getattr(module, attribute, None)
        if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name for name in value):
            return tuple(value)
    return ()


def _numbers(value: object) -> tuple[float, ...]:
    given = value if isinstance(value, list | tuple) else ()
    return tuple(float(item) for item in given) if all(isinstance(item, int | float) for item in given) else ()
