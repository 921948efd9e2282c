"""What a run measured, set against what a profile asks for: nothing that was not measured can pass.

A condition is known by its id, version, options and levels. One that was run with other options is another measurement; a
level that was not run is missing, and then a check may fail by the others but never pass.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from robustbench_rad.checks import defaults
from robustbench_rad.conditions import Condition, Level
from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.plan import Plan
from robustbench_rad.profile import CheckSpec, Profile
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain

NOT_MEASURED = "not measured in this run"
# Levels are compared one by one; a longer search only ranks what it found; columns say how scores are looked at.
_NO_OPTION = ("levels", "full_search", "columns")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A condition as it was run.

    Attributes:
        id: Condition id.
        version: Of its implementation.
        levels: Its ladder.
        options: Every other option, as plain data.
    """

    id: str
    version: int
    levels: tuple[Level, ...]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, condition: Condition) -> Self:
        """Describe a condition."""
        names = [f.name for f in fields(condition) if f.name not in _NO_OPTION and f.metadata.get("option", True)]
        options = json.loads(json.dumps({name: getattr(condition, name) for name in names}, default=str))
        return cls(
            id=condition.id, version=condition.version, levels=condition.levels, options=without_folders(options)
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_plain` gave."""
        levels = tuple(Level(name=name, value=value, unit=unit) for name, value, unit in plain["levels"])
        return cls(id=plain["id"], version=plain["version"], levels=levels, options=plain["options"])

    def to_plain(self) -> dict[str, Any]:
        """As plain data for a JSON file."""
        levels = [[level.name, level.value, level.unit] for level in self.levels]
        return {"id": self.id, "version": self.version, "levels": levels, "options": dict(self.options)}

    def difference(self, other: Self, *, here: str, there: str) -> str:
        """How the two were run differently, in words; "" when only their levels differ.

        >>> ten = Measured(id="a", version=1, levels=(), options={"steps": 10})
        >>> ten.difference(Measured(id="a", version=1, levels=(), options={"steps": 20}), here="run", there="profile")
        'steps 10 (run), 20 (profile)'
        """
        if self.version != other.version:
            return f"version {self.version} of the condition ({here}), {other.version} ({there})"
        names = sorted({*self.options, *other.options})
        pairs = [(name, self.options.get(name), other.options.get(name)) for name in names]
        return "; ".join(f"{name} {a} ({here}), {b} ({there})" for name, a, b in pairs if a != b)

    def level_like(self, wanted: Level) -> Level | None:
        """The level itself, else one of the same strength under another name, where a unit says what is strong.

        >>> bands = tuple(Level(name=f"{name} 0.1", value=0.1, unit="") for name in ("low-pass", "high-pass"))
        >>> Measured(id="a", version=1, levels=bands, options={}).level_like(bands[1]).name
        'high-pass 0.1'
        """
        if wanted in self.levels:
            return wanted
        same = (level for level in self.levels if (level.value, level.unit) == (wanted.value, wanted.unit))
        return next(same, None) if wanted.unit else None


def without_folders(value: Any) -> Any:  # noqa: ANN401 - plain data of any shape
    """Plain data with absolute paths shortened to their last part, for what is passed on.

    >>> without_folders({"weights": "/home/someone/previous.pt", "steps": [1, 2]})
    {'weights': 'previous.pt', 'steps': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How far a run serves a profile.

    Attributes:
        levels: Condition id → levels that are asked for and were measured.
        missing: Check id → why it cannot be judged at all.
        partial: Check id → why it cannot pass.
    """

    levels: Mapping[str, tuple[Level, ...]]
    missing: Mapping[str, str]
    partial: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether everything asked for was measured."""
        return not self.missing and not self.partial


def make_conditions(plan: Plan, profile: Profile) -> tuple[Condition, ...]:
    """Every condition that a profile asks for.

    Raises:
        PlanError: An option that the condition, or a check without one, does not know.
    """
    made = []
    for check in profile.checks:
        if check.enabled and defaults(check.id).condition:
            layer = {"layer": plan.model.saliency_layer} if check.domain is Domain.SALIENCY else {}
            given = {name: value for name, value in layer.items() if value is not None}
            made.append(entry(check.id).load().from_options({**check.options, **given}).bound(plan))
        elif check.options and not defaults(check.id).condition:
            _check_options(plan, check)
    return tuple(condition.among(tuple(made)) for condition in made)


def _check_options(plan: Plan, check: CheckSpec) -> None:
    """Refuse what a check without a condition does not know, before hours of measuring."""
    known = defaults(check.id).options
    for name in check.options:
        if not known:
            raise PlanError(f"[checks.{check.id!r}]: this check has no options, got {', '.join(check.options)}")
        if name not in known:
            raise PlanError(f"[checks.{check.id!r}]: unknown option {name!r}", hint=suggestion(name, known))
    importlib.import_module(defaults(check.id).judge).check_options(plan, check.options)


def coverage(wanted: Iterable[Measured], measured: Mapping[str, Measured]) -> Coverage:
    """Compare what is asked for with what was measured."""
    levels: dict[str, tuple[Level, ...]] = {}
    missing, partial = {}, {}
    for asked in wanted:
        found = measured.get(asked.id)
        different = found.difference(asked, here="measured", there="asked for") if found else ""
        if found is None or different:
            missing[asked.id] = f"{NOT_MEASURED}: {different or asked.id}"
            continue
        pairs = [(level, found.level_like(level)) for level in asked.levels]
        levels[asked.id] = tuple(there for _, there in pairs if there is not None)
        absent = ", ".join(str(level) for level, there in pairs if there is None)
        if absent and not levels[asked.id]:
            missing[asked.id] = f"{NOT_MEASURED}: {absent}"
        elif absent:
            partial[asked.id] = f"{NOT_MEASURED}: {absent}"
    return Coverage(levels=levels, missing=missing, partial=partial)
