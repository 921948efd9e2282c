"""What an audit runs and how it judges: the profile file with the overrides of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_rad.errors import PlanError
from robustbench_rad.plan import Plan
from robustbench_rad.profile.file import Multiplicity, ProfileFile, read_profile
from robustbench_rad.profile.specs import CheckSpec, check_spec
from robustbench_rad.registry import catalogue
from robustbench_rad.result import Domain

NEEDS = {
    "volumes": "volumes (three numbers in [model.input] size)",
    "masks": "masks of the anatomy (a column or an atlas in [data] anatomy)",
}
"""What a check of a profile may need of the data (``needs = "volumes"``): without it the check is no part of the audit."""


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
        check_spec(id, table, profiled=id in file.checks, enabled=id not in left_out)
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
    has = {"volumes": len(plan.model.input.size) == 3, "masks": anatomy is not None and anatomy.provider is None}
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
