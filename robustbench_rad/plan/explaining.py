"""What is wrong with a file, in words: key, what was expected, what came, nearest known key."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from robustbench_rad.errors import nearest, suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line per problem: key, what was expected, what came, nearest known key."""
    lines: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for problem in error.errors():
        place = [str(part) for part in problem["loc"] if not _is_tag(part)]
        key = ".".join(place)
        lines.setdefault(key, []).append(_expected(problem, root, place))
        if problem["type"] not in _SELF_EXPLAINING:
            given[key] = f", got {problem['input']!r}{_nearest(problem)}"
    return [
        f"{key}: {text}" if key else text
        for key, said in lines.items()
        if (text := " or ".join(dict.fromkeys(said)).replace(" or expected ", " or ") + given.get(key, ""))
    ]


_SELF_EXPLAINING = ("extra_forbidden", "missing", "value_error")


def _is_tag(part: int | str) -> bool:
    """Whether pydantic put the name of a type between the keys, as it does for alternatives."""
    return isinstance(part, str) and (
        "[" in part or part in ("str", "bool", "float") or part.startswith("constrained-")
    )


def _expected(problem: ErrorDetails, root: type[BaseModel], place: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key. {suggestion(place[-1], keys_at(root, place[:-1]))}"
    if problem["type"] == "missing":
        return "missing; it must be given"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "model_type" and "column" in (fields := keys_at(root, place)):
        return f"expected a table, e.g. {place[-1]} = {_named(problem['input'], fields)}"
    said = problem["msg"][:1].lower() + problem["msg"][1:]
    return said.replace("input should be", "expected").replace("valid array", "list").replace("an object", "a table")


def _nearest(problem: ErrorDetails) -> str:
    """The nearest of several words that were expected; "" where none is near, as the message names them all."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    near = nearest(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return "" if near is None else f". Did you mean {near!r}?"


def _named(given: object, fields: Sequence[str]) -> str:
    """A section in the form that it should have, of what was given in its place."""
    from robustbench_rad.anatomy_providers import NAMED

    name = given if isinstance(given, str) and given else "lung_mask"
    key = "provider" if "provider" in fields and name in NAMED else "column"
    return f"{{ {key} = {json.dumps(name, ensure_ascii=False)} }}"


def keys_at(model: type[BaseModel], place: Sequence[str] = ()) -> list[str]:
    """Keys that a file may hold in the table at ``place``."""
    for part in place:
        field = model.model_fields.get(part)
        nested = [kind for kind in _kinds(field.annotation if field else None) if _is_model(kind)]
        if not nested:
            continue
        model = nested[0]
    return [name for name, known in model.model_fields.items() if not known.exclude]  # excluded: no key of a file


def _kinds(annotation: object) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(kind for argument in arguments for kind in _kinds(argument))]


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
