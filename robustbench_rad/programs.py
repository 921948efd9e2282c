"""Models that come as one file: programs of ``torch.export`` (``.pt2``) and TorchScript.

Both give gradients with respect to the image; neither gives access to its layers.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.errors import ModelError
from robustbench_rad.weights import is_torchscript, load_torch

SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".torchscript", ".jit")


def is_program(factory: str) -> bool:
    """Whether ``model.factory`` names a file that holds the whole model."""
    return factory.lower().endswith(SUFFIXES)


class ExportedModel(nn.Module):
    """An exported program as an ordinary module: fixed in evaluation mode, any number of rows.

    Attributes:
        rows: The batch size the program was exported for; None when it takes any.
    """

    def __init__(self, program: nn.Module, *, rows: int | None) -> None:
        super().__init__()
        self.program = program
        self.rows = rows
        self.training = False
        for child in program.modules():
            child.training = False  # an exported graph has its mode baked in; eval() on it raises

    def train(self, mode: bool = True) -> ExportedModel:
        """Do nothing: the graph was frozen in the mode it was exported in."""
        del mode
        return self

    def forward(self, images: Tensor) -> Any:  # noqa: ANN401 - whatever the program returns
        """Run the program; when it takes ``rows`` rows only, in parts of that size, the last one filled up."""
        if self.rows is None or len(images) == self.rows:
            return self.program(images)
        from robustbench_rad.classifier import tensor_of

        parts = []
        for part in torch.split(images, self.rows):
            missing = self.rows - len(part)
            full = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])]) if missing else part
            parts.append(tensor_of(self.program(full))[: len(part)])
        return torch.cat(parts)


def load_program(path: Path, *, device: torch.device, allow_pickle: bool) -> nn.Module:
    """Load a ``.pt2`` or TorchScript file, or (only when allowed) a whole pickled module.

    Raises:
        ModelError: Not such a file, or one that would run code when it is read.
    """
    if path.suffix.lower() == ".pt2":
        return load_exported(path, device=device, allow_pickle=allow_pickle)
    if is_torchscript(path):
        return _load_torchscript(path, device)
    content = load_torch(path, allow_pickle=allow_pickle)
    if isinstance(content, nn.Module):
        return content.to(device)
    raise ModelError(
        f"model.factory: {path} holds weights, not a model",
        hint='Name a factory that builds the model, factory = "module:function", and this file in model.weights.',
    )


def _load_torchscript(path: Path, device: torch.device) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
        try:
            module: nn.Module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            detail = str(error).strip().partition("\n")[0]
            raise ModelError(f"{path}: not a readable TorchScript file: {detail}", hint="Export it again.") from error
    return module


def load_exported(path: Path, *, device: torch.device, allow_pickle: bool) -> ExportedModel:
    """Load a program that ``torch.export.save`` wrote.

    Raises:
        ModelError: Not such a file, made by another version of torch, or holding code.
    """
    from torch.export.passes import move_to_device_pass

    if not allow_pickle:
        _refuse_code(path)
    with _no_pickle(enabled=not allow_pickle):
        try:
            program = torch.export.load(path)
        except Exception as error:  # the reader raises many kinds, from AssertionError to KeyError
            detail = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelError(
                f"{path}: not a readable exported program: {detail}",
                hint=f"Save it with torch.export.save under torch {torch.__version__}, tensors only.",
            ) from error
    program = move_to_device_pass(program, device)
    return ExportedModel(program.module(), rows=static_rows(program))


def static_rows(program: torch.export.ExportedProgram) -> int | None:
    """Batch size a program was exported for; None when it is dynamic."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names and isinstance(node.meta.get("val"), Tensor):
            rows = node.meta["val"].shape[0]
            return rows if isinstance(rows, int) else None
    return None


def _refuse_code(path: Path) -> None:
    """Refuse what runs code while a ``.pt2`` is read: pickled objects, native libraries, odd symbolic expressions."""
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path}: not a readable exported program: not a zip archive", hint="Export it again.")
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            native = "aotinductor" in name or name.endswith((".so", ".dll", ".dylib", ".cubin"))
            if native or "opaque_obj" in name or "custom_obj" in name:
                raise _runs_code(path, name)
            if name.endswith(".json") and not _plain_expressions(archive.read(name)):
                raise _runs_code(path, f"{name}, a symbolic expression")


def _runs_code(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path}: reading it runs code that is in the file ({what})",
        hint="Export tensors only. If you trust where this file comes from, run again with --allow-pickle.",
    )


_SYMBOL = re.compile(r"Symbol\('[a-z]{1,4}\d+'")
_WORD = re.compile(r"(?:[a-z]{1,4}\d+|[A-Z]\w*|and|or|not|positive|negative|nonnegative|integer|\d[\d.e]*)\Z")
_SUSPECT = re.compile(r"__|[\"'\[\]{}@:;]|\.\s*[A-Za-z_]")


def _plain_expressions(text: bytes) -> bool:
    """Whether symbolic sizes are plain arithmetic over symbols: the reader evaluates them as Python."""
    try:
        found = [_SYMBOL.sub("Symbol(", expression) for expression in _values(json.loads(text), "expr_str")]
    except ValueError:
        return True  # not JSON: the reader will say so
    return all(
        not _SUSPECT.search(expression) and all(_WORD.match(word) for word in re.findall(r"[\w.]+", expression))
        for expression in found
    )


def _values(tree: object, key: str) -> Iterator[str]:
    """Every text under ``key`` in nested JSON."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _values(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value, key)


@contextmanager
def _no_pickle(*, enabled: bool) -> Iterator[None]:
    """Make every ``torch.load`` inside refuse objects; the reader of ``.pt2`` falls back to unpickling otherwise."""
    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(variable)
    if enabled:
        os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before
