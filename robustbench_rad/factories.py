"""Finding and calling the user's own Python: ``module:function`` or ``path/to/file.py:function``.

Used for models and for data sets. The current directory and the plan's folder can be imported from while the user's
code is imported and called; ``sys.path`` is as before afterwards.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from robustbench_rad.errors import RobustbenchRadError, suggestion


@contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Put ``folders`` in front of ``sys.path`` for the time of the block."""
    before = list(sys.path)
    sys.path[:0] = [str(folder.resolve()) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def call_factory(
    text: str, *, base: Path, arguments: Mapping[str, Any], kind: type[RobustbenchRadError], key: str = "model.factory"
) -> Any:  # noqa: ANN401 - whatever the user's function returns
    """Import what ``text`` names and call it with ``arguments``.

    Args:
        text: ``module:function``, ``module:Class.method`` or ``path/to/file.py:function``.
        base: The plan's folder; files are relative to it.
        arguments: Keyword arguments of the call.
        kind: Error class to raise (ModelError or DataError).
        key: The plan's key that holds ``text``, for messages.

    Raises:
        RobustbenchRadError: Of class ``kind``: not found, cannot be imported, or raised when called.
    """
    with (
        _importing(text, base=base, kind=kind, key=key) as function,
        explained(f"{key} = {text!r}: calling it failed", kind, "Call it in Python by itself to see why."),
    ):
        return function(**arguments)


def import_named(text: str, *, base: Path, kind: type[RobustbenchRadError], key: str) -> Callable[..., Any]:
    """Import what ``text`` names, a function or another object that can be called; see :func:`call_factory`."""
    with _importing(text, base=base, kind=kind, key=key) as found:
        return found


@contextmanager
def _importing(text: str, *, base: Path, kind: type[RobustbenchRadError], key: str) -> Iterator[Callable[..., Any]]:
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise kind(
            f"{key} = {text!r}: expected 'module:function' or 'path/to/file.py:function'",
            hint=f'For example {key} = "my_package.models:build".',
        )
    folders = [Path.cwd(), base]
    if place.endswith(".py"):
        folders.insert(0, (base / place).parent)
    with importable(*folders):
        module = _module(place, base, kind=kind, key=key)
        yield _attribute(module, name, kind=kind, key=key, place=place)


def _module(place: str, base: Path, *, kind: type[RobustbenchRadError], key: str) -> ModuleType:
    if place.endswith(".py"):
        path = (base / Path(place).expanduser()).resolve()
        if not path.is_file():
            raise kind(f"{key}: no such file: {path}", hint=f"The path is taken relative to {base.resolve()}.")
        with explained(f"{key}: {path.name} cannot be imported", kind, "Run it with Python by itself to see why."):
            return _load_file(path)
    hint = "Is the package installed in this environment, or the folder that holds it the current one?"
    with explained(f"{key}: the module {place!r} cannot be imported", kind, hint):
        return importlib.import_module(place)


def _load_file(path: Path) -> ModuleType:
    """Import a file under a private name, registered so that dataclasses and copies of its classes work."""
    name = f"_robustbench_rad_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # only for a suffix no loader knows
        raise ImportError(f"not a Python file: {path}")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    return module


def _attribute(
    module: ModuleType, name: str, *, kind: type[RobustbenchRadError], key: str, place: str
) -> Callable[..., Any]:
    try:
        found = functools.reduce(getattr, name.split("."), module)
    except AttributeError as error:
        known = [given for given, value in vars(module).items() if callable(value) and not given.startswith("_")]
        raise kind(f"{key}: {place} has no {name!r}", hint=suggestion(name, known)) from error
    if not callable(found):
        raise kind(
            f"{key}: {place}:{name} is a {type(found).__name__}, expected a function",
            hint="Name a function or class that returns the object when it is called.",
        )
    result: Callable[..., Any] = found
    return result


@contextmanager
def explained(what: str, kind: type[RobustbenchRadError], hint: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one message that names the line."""
    try:
        yield
    except RobustbenchRadError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise kind(f"{what}: {type(error).__name__}: {error} ({where})", hint=hint) from error
