"""From a TOML file, or nested mappings, to a plan."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.plan.explaining import explain, keys_at
from robustbench_rad.plan.plan import Plan


def read_plan(path: Path, *, root: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Read and validate a plan file.

    Args:
        path: The TOML file.
        root: Folder that relative paths are taken from; default: the plan's own folder.
        overrides: Top-level keys that replace the file's (from command-line flags).

    Raises:
        PlanError: Not readable, not TOML, or not a valid plan.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(
            f"{path}: cannot be read: {error.strerror}", hint="Write one with: robustbench-rad init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: not valid TOML: {error}") from error
    content.update({key: value for key, value in (overrides or {}).items() if value is not None})
    return make_plan(content, base=root or path.parent, source=str(path))


def make_plan(content: Mapping[str, Any], *, base: Path, source: str = "plan") -> Plan:
    """Validate a plan given as nested mappings.

    Raises:
        PlanError: Names source, key, what was expected and what came.
    """
    for key in ("base", "source"):
        if key in content:
            raise PlanError(f"{source}: {key}: unknown key. {suggestion(key, keys_at(Plan))}")
    try:
        plan = Plan.model_validate_json(json.dumps(content, default=str), strict=True)  # strict JSON: "1" is no number
    except ValidationError as error:
        raise PlanError("\n".join(f"{source}: {line}" for line in explain(error, Plan))) from error
    return plan.model_copy(update={"base": base, "source": source})
