"""A first plan from a look at data and model.

Nothing is guessed silently: each line of the plan says whether its value was seen, guessed, or is left to decide.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_rad.errors import PlanError
from robustbench_rad.init_data import DataLook, look_at_data
from robustbench_rad.init_sections import plan_sections
from robustbench_rad.init_text import Kind, Section, plain, render
from robustbench_rad.plan import make_plan


def write_plan(data: Path, plan: Path, *, model: str = "", weights: str = "", force: bool = False) -> list[str]:
    """Look at data and model, and write a commented plan.

    Args:
        data: Folder, manifest or archive.
        plan: The file to write.
        model: Factory or program file, relative to the current folder; "" for none.
        weights: Weights file, relative to the current folder; "" for none.
        force: Overwrite an existing plan.

    Returns:
        What was seen and guessed, what is to decide, and which keys must be filled in, one line each.

    Raises:
        PlanError: The plan exists, or cannot be written.
        DataError: Nothing usable in the data.
        ModelError: The model cannot be loaded.
    """
    _refuse(plan, model=model, weights=weights, force=force)
    look = look_at_data(data)
    sections = plan_sections(look, base=plan.parent, model=model, weights=weights)
    problems = _problems(sections, plan)
    text = render([*_head(plan), *_first_keys(problems)], sections)
    _write(plan, text)
    return [*_said(look, sections), *problems]


def _refuse(plan: Path, *, model: str, weights: str, force: bool) -> None:
    """Refuse before anything slow is done."""
    if plan.exists() and not (force and plan.is_file()):
        hint = "Give another name with --plan, or overwrite it with --force." if plan.is_file() else "Give a file name."
        raise PlanError(f"{plan}: exists already", hint=hint)
    if not plan.parent.is_dir():
        raise PlanError(f"{plan.parent}: no such folder to write the plan into", hint="Make it, or choose another.")
    if weights and not model:
        raise PlanError(f"--weights {weights}: needs --model", hint="Name the factory that builds the model.")


def _head(plan: Path) -> list[str]:
    return [
        "Written by robustbench-rad init after a look at the data and the model. Each comment says where a value is from:",
        "  seen: read from the files · guessed, check: likely, not certain · decide: only you can know",
        f"When it is right: robustbench-rad audit {plain(plan.name)}",
    ]


def _first_keys(problems: Sequence[str]) -> list[str]:
    return (
        ["", "Fill in first:", *(f"  {plain(problem.removeprefix('fill in: '))}" for problem in problems)]
        if problems
        else []
    )


def _problems(sections: Sequence[Section], plan: Path) -> list[str]:
    """What keeps the plan from being valid, by its own validation."""
    try:
        make_plan(tomllib.loads(render([], sections)), base=plan.parent, source=plan.name)
    except PlanError as error:
        return [f"fill in: {line.removeprefix(f'{plan.name}: ')}" for line in error.message.splitlines()]
    return []


def _said(look: DataLook, sections: Sequence[Section]) -> Iterator[str]:
    for failure in look.images.failures:
        yield f"seen: cannot be read: {plain(failure)}"
    noted = [(entry.note, entry.said(section.name)) for section in sections for entry in section.entries]
    for kind in Kind:  # what is left to decide comes last, where it is read
        yield from (line for note, line in noted if note is not None and note.kind is kind)


def _write(plan: Path, text: str) -> None:
    """Write under a temporary name first, so that a full disk leaves no half plan."""
    temporary = plan.with_name(f".{plan.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(plan)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlanError(
            f"{plan}: cannot be written: {error.strerror}", hint="Choose another place with --plan."
        ) from error
