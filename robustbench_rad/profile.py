"""Profiles: which checks are run, at which levels, and how they are judged; versioned TOML with a hash.

A check's table holds options of its condition (levels, steps: *measurement*) and keys of judgement (tolerance, critical_harm,
critical: *policy*); the two are hashed apart, so a finished run can be judged again under another policy.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.plan import Plan, Section, digest, explain
from robustbench_rad.registry import catalogue
from robustbench_rad.result import Domain

BUILT_IN = ("quick", "standard", "full")
SUITES = ("generic-c",)  # built in too, and shown only: they give no score
Multiplicity = Literal["check", "audit"]
POLICY_KEYS = frozenset({"tolerance", "critical_harm", "critical"})
NEEDS = {
    "volumes": "volumes (three numbers in [model.input] size)",
    "masks": "masks of the anatomy (a column in [data] anatomy)",
}
"""What a check of a profile may need of the data (``needs = "volumes"``): without it the check is no part of the audit."""


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """One check of the effective profile.

    Attributes:
        id: Check id.
        domain: Family it belongs to.
        options: Options of its condition.
        tolerance: δ per harm quantity; the key "" is the default of the check.
        critical_harm: Δ per harm quantity, likewise.
        critical: Whether failing it caps the score.
        profiled: Whether the profile itself holds it (checks a plan adds can only lower a score).
        enabled: False when the plan leaves it out; it then counts as missing, with 0 points.
        informational: Shown, never judged; it counts nowhere, not even as missing.
    """

    id: str
    domain: Domain
    options: Mapping[str, Any]
    tolerance: Mapping[str, float]
    critical_harm: Mapping[str, float]
    critical: bool
    profiled: bool = True
    enabled: bool = True
    informational: bool = False

    def delta(self, quantity: str) -> float:
        """Tolerance δ of a harm quantity, e.g. ``auroc``."""
        return self.tolerance[quantity] if quantity in self.tolerance else self.tolerance[""]

    def capital_delta(self, quantity: str) -> float:
        """Critical harm Δ of a harm quantity."""
        return self.critical_harm[quantity] if quantity in self.critical_harm else self.critical_harm[""]


class DomainSection(Section):
    """[domains.<name>]: weight of a domain in the score."""

    weight: Annotated[float, Field(ge=0)] = 1.0


class ProfileFile(Section):
    """A profile file."""

    name: str
    version: int
    sha256: str | None = None
    description: str = ""
    minimum_auroc: Annotated[float, Field(ge=0.5, le=1)] = 0.7
    multiplicity: Multiplicity = "check"
    domains: dict[Domain, DomainSection]
    checks: dict[str, dict[str, Any]]

    @property
    def content_sha256(self) -> str:
        """Hash of everything but the hash itself; comments and layout do not count."""
        # Left out where it is the default, so that saying nothing and saying the default are the same profile.
        usual = {"multiplicity"} if self.multiplicity == "check" else set()
        return digest(self.model_dump(mode="json", exclude={"sha256", *usual}))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The effective profile of an audit: the file plus what the plan overrides.

    Attributes:
        modified: Checks of the file that the plan changes or leaves out.
        without: Checks of the file that need what the data do not have, and what they need.
        multiplicity: Whether the intervals of one check hold together, or those of the whole audit.
    """

    name: str
    version: int
    sha256: str
    minimum_auroc: float
    weights: Mapping[Domain, float]
    checks: tuple[CheckSpec, ...]
    modified: tuple[str, ...] = ()
    without: tuple[tuple[str, str], ...] = ()
    multiplicity: Multiplicity = "check"

    @property
    def label(self) -> str:
        """Name and version, and whether the plan has changed it."""
        return f"{self.name} v{self.version}{', modified by the plan' if self.modified else ''}"

    def check(self, id: str) -> CheckSpec | None:
        """The check of that id, if the profile holds it."""
        return next((check for check in self.checks if check.id == id), None)

    @property
    def measurement(self) -> dict[str, Any]:
        """What is run: options of every condition."""
        return {check.id: dict(check.options) for check in self.checks if check.enabled and _is_run(check)}

    @property
    def policy(self) -> dict[str, Any]:
        """How it is judged."""
        return {
            "minimum_auroc": self.minimum_auroc,
            "multiplicity": self.multiplicity,
            "weights": {str(domain): weight for domain, weight in self.weights.items()},
            "checks": {
                check.id: [dict(check.tolerance), dict(check.critical_harm), check.critical, check.profiled]
                for check in self.checks
            },
            "options": {check.id: dict(check.options) for check in self.checks if check.options and not _is_run(check)},
        }


def _is_run(check: CheckSpec) -> bool:
    """Whether a check's options say what is measured; without a condition they say how the scores are looked at."""
    from robustbench_rad.checks import defaults

    return defaults(check.id).condition


def read_profile(name: str, *, base: Path = Path()) -> ProfileFile:
    """Read a built-in profile by name, or a file of the user's own.

    Raises:
        PlanError: No such profile, or not a valid one.
    """
    if name in (*BUILT_IN, *SUITES):
        text = resources.files("robustbench_rad.profiles").joinpath(f"{name}.toml").read_text("utf-8")
    else:
        path = base / name
        if path.suffix != ".toml" or not path.is_file():
            raise PlanError(
                f"profile {name!r}: neither built in nor a file", hint=suggestion(name, [*BUILT_IN, *SUITES])
            )
        text = path.read_text("utf-8")
    return parse_profile(text, name)


def parse_profile(text: str, name: str) -> ProfileFile:
    """Read a profile from its text, and refuse one that is locked and was changed.

    Raises:
        PlanError: Not a valid profile, or not the one that was locked.
    """
    file = _validated(text, name)
    if file.sha256 is not None and file.sha256 != file.content_sha256:
        raise PlanError(
            f"profile {name}: the profile was changed after it was locked: sha256 says {file.sha256[:12]}…, its content is "
            f"{file.content_sha256[:12]}…",
            hint=f"Undo the change, or agree on the new one and lock it: robustbench-rad profile lock {name}",
        )
    return file


def lock_profile(text: str, name: str) -> tuple[str, str]:
    """Write the hash of a profile's content into its text.

    Args:
        text: TOML of the profile; locked before or not.
        name: For messages.

    Returns:
        The new text, all else as it was, and the hash.

    Raises:
        PlanError: Not a valid profile.
    """
    sha256 = _validated(text, name).content_sha256
    head, bracket, tables = text.partition("\n[")
    line = f'sha256 = "{sha256}"'
    head, found = re.subn(r"(?m)^\s*sha256\s*=.*$", line, head, count=1)
    if not found:
        head = re.sub(r"(?m)^\s*version\s*=.*$", lambda match: f"{match.group()}\n{line}", head, count=1)
    locked = head + bracket + tables
    parse_profile(locked, name)
    return locked, sha256


def _validated(text: str, name: str) -> ProfileFile:
    try:
        return ProfileFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"profile {name}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise PlanError("\n".join(f"profile {name}: {line}" for line in explain(error, ProfileFile))) from error


def effective_profile(plan: Plan, file: ProfileFile | None = None) -> Profile:
    """Merge a plan's ``[checks]`` into its profile, or into ``file`` where the profile has been read already.

    ``"check.id" = false`` leaves a check out (it then counts as missing); a table overrides key by key; a check the
    profile does not hold is added. Checks that have no meaning for the modality, or need what the data do not have, are no
    part of the effective profile, unless the plan asks for them.

    Raises:
        PlanError: Unknown check, one of another modality, or a change of a locked profile.
    """
    from robustbench_rad.checks import defaults

    _refuse_other_modality(plan)
    file = file or read_profile(plan.profile, base=plan.profile_folder)
    tables = {id: dict(table) for id, table in file.checks.items()}
    left_out = set()
    for id, override in plan.checks.items():
        defaults(id)  # raises PlanError for an unknown check, also for one that is switched off
        if override is False:
            left_out.add(id)
        elif override is not True:
            tables[id] = {**tables.get(id, {}), **override}
        else:
            tables.setdefault(id, {})
    meant = {id: table for id, table in tables.items() if id in plan.checks or _has_meaning(id, plan.data.modality)}
    without = [
        (id, table["needs"]) for id, table in meant.items() if id not in plan.checks and _is_lacking(plan, id, table)
    ]
    checks = [
        _spec(id, table, profiled=id in file.checks, enabled=id not in left_out)
        for id, table in meant.items()
        if id not in dict(without)
    ]
    return Profile(
        name=file.name,
        version=file.version,
        sha256=file.content_sha256,
        minimum_auroc=file.minimum_auroc,
        weights={domain: section.weight for domain, section in file.domains.items()},
        checks=tuple(checks),
        modified=_modified(plan, file),
        without=tuple(without),
        multiplicity=file.multiplicity,
    )


def _modified(plan: Plan, file: ProfileFile) -> tuple[str, ...]:
    """Checks of the profile that the plan changes; a locked profile allows none.

    Raises:
        PlanError: The profile is locked.
    """
    changed = tuple(
        id
        for id, override in plan.checks.items()
        if id in file.checks
        and override is not True
        and (override is False or {**file.checks[id], **override} != file.checks[id])
    )
    if changed and file.sha256 is not None:
        raise PlanError(
            f"profile {file.name} v{file.version} is locked, and the plan changes {', '.join(changed)}",
            hint="Take these tables out of [checks], or lock a profile of your own: robustbench-rad profile lock FILE",
        )
    return changed


def _is_lacking(plan: Plan, id: str, table: Mapping[str, Any]) -> bool:
    """Whether the data lack what a check of the profile needs.

    Raises:
        PlanError: It needs what nobody knows.
    """
    needs = table.get("needs")
    if needs is None:
        return False
    anatomy = plan.data.anatomy
    has = {"volumes": len(plan.model.input.size) == 3, "masks": anatomy is not None and anatomy.column is not None}
    if needs not in has:
        raise PlanError(f"[checks.{id!r}] needs: expected one of {', '.join(NEEDS)}, got {needs!r}")
    return not has[needs]


def _refuse_other_modality(plan: Plan) -> None:
    """A check that the plan itself asks for is not left out silently."""
    for id, override in plan.checks.items():
        if override is not False and not _has_meaning(id, plan.data.modality):
            raise PlanError(
                f"[checks.{id!r}]: is for {', '.join(catalogue()[id].modalities)}, the data are {plan.data.modality}",
                hint="Leave this check out of the plan, or correct data.modality.",
            )


def _has_meaning(id: str, modality: str) -> bool:
    known = catalogue()
    return id not in known or modality in known[id].modalities


def check_spec(id: str, table: Mapping[str, Any]) -> CheckSpec:
    """A check as a profile's table has it, defaults filled in.

    Raises:
        PlanError: Unknown check or key.
    """
    return _spec(id, table, profiled=True, enabled=True)


def _spec(id: str, table: Mapping[str, Any], *, profiled: bool, enabled: bool) -> CheckSpec:
    from robustbench_rad.checks import defaults

    default = defaults(id)
    options = {key: value for key, value in table.items() if key not in {*POLICY_KEYS, "needs"}}
    _refuse_misspelt(id, options)
    judged_by = sorted(POLICY_KEYS & set(table))
    informational = default.informational and not (default.judged_if_asked and judged_by)
    if informational and judged_by:
        raise PlanError(f"[checks.{id!r}]: shown, not judged: it takes no {', '.join(judged_by)}")
    spec = CheckSpec(
        id=id,
        domain=default.domain,
        options=options,
        tolerance=_by_quantity(id, "tolerance", table.get("tolerance", default.tolerance), default.tolerance),
        critical_harm=_by_quantity(
            id, "critical_harm", table.get("critical_harm", default.critical_harm), default.critical_harm
        ),
        critical=_flag(id, "critical", table.get("critical", False)),
        profiled=profiled,
        enabled=enabled,
        informational=informational,
    )
    _check_order(spec)
    return spec


def _refuse_misspelt(id: str, options: Mapping[str, Any]) -> None:
    """A misspelt key of judgement would otherwise be taken for an option of the condition."""
    for key in options:
        if difflib.get_close_matches(key, POLICY_KEYS, n=1, cutoff=0.8):
            raise PlanError(f"[checks.{id!r}]: unknown key {key!r}", hint=suggestion(key, POLICY_KEYS))


def _flag(id: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PlanError(f"[checks.{id!r}] {key}: expected true or false, got {value!r}")
    return value


def _by_quantity(id: str, key: str, value: object, default: float | Mapping[str, float]) -> dict[str, float]:
    """One number for all harms, or a table of some of them; the others keep their default."""
    known = dict(default) if isinstance(default, Mapping) else {"": default}
    if not isinstance(value, Mapping):
        return dict.fromkeys([*known, ""], _number(id, key, value, "the check"))
    for name in value:
        if name not in known:
            harms = [harm for harm in known if harm]
            hint = suggestion(name, harms) if harms else f"This check measures one harm: {key} = {default}"
            raise PlanError(f"[checks.{id!r}] {key}: {name!r} is not a harm of this check", hint=hint)
    return {**known, **{str(name): _number(id, key, number, name) for name, number in value.items()}}


def _number(id: str, key: str, value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PlanError(f"[checks.{id!r}] {key}: expected a number, got {value!r} for {what}")
    return float(value)


def _check_order(spec: CheckSpec) -> None:
    for name in sorted({*spec.tolerance, *spec.critical_harm} - {""}):
        _check_pair(spec.id, spec.delta(name), spec.capital_delta(name), f" for {name}")
    if "" in spec.tolerance and "" in spec.critical_harm:
        _check_pair(spec.id, spec.delta(""), spec.capital_delta(""), "")


def _check_pair(id: str, delta: float, capital_delta: float, what: str) -> None:
    if not delta < capital_delta:
        raise PlanError(
            f"[checks.{id!r}]: tolerance {delta:g} must be below critical_harm {capital_delta:g}{what}",
            hint="Points fall from 70 at the tolerance to 0 at the critical harm.",
        )
