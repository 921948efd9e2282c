"""What a profile says of one check: options of its condition, tolerances, critical harms."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.result import Domain

POLICY_KEYS = frozenset({"tolerance", "critical_harm", "critical"})


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


def check_spec(id: str, table: Mapping[str, Any], *, profiled: bool = True, enabled: bool = True) -> CheckSpec:
    """A check as a table has it, defaults filled in.

    Args:
        id: Check id.
        table: Options of its condition and keys of judgement.
        profiled: Whether the table is in the profile itself.
        enabled: Whether the plan leaves it in.

    Raises:
        PlanError: Unknown check or key.
    """
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
