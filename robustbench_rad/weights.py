"""Trained weights: read without running code, found inside checkpoints, and fitted to a module key by key."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.errors import ModelError

NESTED_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "ema")
"""Where checkpoints keep the weights, in the order they are looked for: the trained ones before their average."""

PREFIXES = ("module.", "model.", "_orig_mod.", "net.")
"""Left by DataParallel, Lightning, torch.compile and wrappers."""

SHOWN = 8
SAVE_HINT = "Save the weights alone: torch.save(model.state_dict(), 'weights.pth'), or as safetensors."

State = Mapping[str, Tensor]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def module_sha256(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def verify_sha256(path: Path, expected: str) -> None:
    """Check a file against the plan's hash.

    Raises:
        ModelError: Another file than the plan names; holds both hashes.
    """
    given = file_sha256(path)
    if given != expected.lower():
        raise ModelError(
            f"{path}: expected SHA-256 {expected.lower()}, the file has {given}",
            hint="This is not the file the plan was written for. Fetch that one, or change model.sha256 on purpose.",
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights as a file holds them.

    Attributes:
        state: Tensors by name.
        key: Where in the file they were, e.g. ``state_dict``; "" for the top.
        others: Other sets of weights the file holds and that were not taken.
    """

    state: State
    key: str = ""
    others: tuple[str, ...] = ()


def read_weights(path: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Read a weights file.

    Args:
        path: ``.safetensors``, or anything ``torch.save`` wrote.
        allow_pickle: Unpickle objects other than tensors, which runs code from the file.

    Raises:
        ModelError: Missing, unreadable, needs unpickling, or holds no weights.
    """
    require_file(path, "model.weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else load_torch(path, allow_pickle=allow_pickle)
    if isinstance(content, nn.Module):
        content = content.state_dict()
    return unwrap(content, path)


def require_file(path: Path, key: str) -> None:
    """Raise ModelError unless ``path`` is a file."""
    if not path.is_file():
        raise ModelError(
            f"{key}: no such file: {path}", hint="Relative paths are taken from the plan's folder, or from --root."
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a readable safetensors file: {error}", hint="Copy or download it again."
        ) from error


def load_torch(path: Path, *, allow_pickle: bool) -> Any:  # noqa: ANN401 - whatever the file holds
    """``torch.load`` that refuses to run code, with the reason.

    Raises:
        ModelError: Not a torch file, or one that needs unpickling of objects.
    """
    if is_torchscript(path):
        raise ModelError(f"{path}: a TorchScript file, which holds the whole model", hint="Name it in model.factory.")
    try:
        return _load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        if not allow_pickle:
            raise _runs_code(path, str(error)) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error
    try:
        return _load(path, weights_only=False)
    except Exception as error:  # unpickling runs any code, which may raise anything
        raise _unreadable(path, error) from error


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load(path: Path, *, weights_only: bool) -> Any:  # noqa: ANN401 - whatever the file holds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an unusual pickle protocol: refused or allowed all the same
        return torch.load(path, map_location="cpu", weights_only=weights_only)


def _runs_code(path: Path, message: str) -> ModelError:
    found = re.search(r"GLOBAL (\S+)", message)
    what = found.group(1) if found else "more than torch.save writes for tensors"
    return ModelError(
        f"{path}: holds Python objects ({what}), not only tensors; reading them runs code that is in the file",
        hint=f"{SAVE_HINT} If you trust where this file comes from, run again with --allow-pickle.",
    )


def _unreadable(path: Path, error: Exception) -> ModelError:
    detail = str(error).partition("\n")[0][:200]
    return ModelError(f"{path}: cannot be read as weights: {type(error).__name__}: {detail}", hint=SAVE_HINT)


def unwrap(content: object, path: Path) -> Checkpoint:
    """Find the weights inside a checkpoint.

    >>> unwrap({"epoch": 3, "state_dict": {"w": torch.zeros(1)}}, Path("x.pth")).key
    'state_dict'
    """
    keys: list[str] = []
    others: list[str] = []
    while isinstance(content, Mapping) and not _is_state(content):
        found = [key for key in NESTED_KEYS if isinstance(content.get(key), Mapping | nn.Module)]
        if not found:
            break
        keys.append(found[0])
        others += [".".join([*keys[:-1], key]) for key in found[1:]]
        content = content[found[0]]
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or not _is_state(content):
        held = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        raise ModelError(
            f"{path}: expected tensors by name, or a dict with one of {', '.join(NESTED_KEYS)}; it holds: {held}",
            hint=SAVE_HINT,
        )
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return Checkpoint(state=state, key=".".join(keys), others=tuple(others))


def _is_state(content: Mapping[Any, Any]) -> bool:
    """Whether most of it is tensors: a step counter beside nested weights does not make a state dict."""
    tensors = sum(isinstance(value, Tensor) for value in content.values())
    nested = any(isinstance(content.get(key), Mapping) for key in NESTED_KEYS)
    return tensors > 0 and not nested


def strip_prefixes(state: State, wanted: Iterable[str]) -> State:
    """Take away the prefixes of wrappers as long as that makes more names match.

    >>> list(strip_prefixes({"module.model.w": torch.zeros(1)}, ["w"]))
    ['w']
    """
    names = set(wanted)
    best, queue, seen = dict(state), [dict(state)], {frozenset(state)}
    while queue:
        current = queue.pop()
        if len(names & set(current)) > len(names & set(best)):
            best = current
        for stripped in (_without(current, prefix) for prefix in PREFIXES):
            if frozenset(stripped) not in seen and len(stripped) == len(current):
                seen.add(frozenset(stripped))
                queue.append(stripped)
    return best


def _without(state: State, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items()}


def fit(module: nn.Module, state: State, *, path: Path) -> None:
    """Load weights into a module; every name and shape must match.

    Raises:
        ModelError: Lists missing and unexpected names and wrong shapes.
    """
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    if all(name.startswith("module.") for name in own):  # a DataParallel came from the factory
        own = {name.removeprefix("module."): value for name, value in own.items()}
        state = {f"module.{name}": value for name, value in strip_prefixes(state, own).items()}
        own = {f"module.{name}": value for name, value in own.items()}
    else:
        state = strip_prefixes(state, own)
    problems = mismatches(own, state)
    if problems:
        raise ModelError(
            "\n".join([f"{path}: the weights do not fit the model", *problems]),
            hint="Check that the factory builds the architecture these weights were trained with (model.arguments).",
        )
    module.load_state_dict(dict(state), strict=False)


def mismatches(own: State, state: State) -> list[str]:
    """Say what does not fit, one line per kind; empty when all does."""
    optional = "num_batches_tracked"  # absent from old checkpoints, of no use in evaluation mode
    missing = [name for name in own if name not in state and not name.endswith(optional)]
    unexpected = [name for name in state if name not in own and not name.endswith(optional)]
    shapes = [
        f"{name} (model {tuple(own[name].shape)}, file {tuple(state[name].shape)})"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    kinds = {"missing from the file": missing, "unexpected in the file": unexpected, "of another shape": shapes}
    return [f"  {len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    rest = f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
