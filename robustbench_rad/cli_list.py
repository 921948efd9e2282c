"""``robustbench-rad list``: conditions and checks from their metadata, without importing them."""

from __future__ import annotations

import re
from typing import Any

from rich.table import Table
from rich.text import Text

from robustbench_rad.bridges import BRIDGES, SEPARATOR, Bridge
from robustbench_rad.checks import CheckDefaults, all_checks, defaults
from robustbench_rad.profile import BUILT_IN, read_profile
from robustbench_rad.registry import ALL_MODALITIES, BRIDGE_VERSION, catalogue
from robustbench_rad.result import Domain

JUDGED, SHOWN = "judged", "shown, not judged"
ON_DEMAND = "judged only where profile or plan states a tolerance"


def rows() -> list[dict[str, Any]]:
    """One row per check: id, domain, what it does, how it is judged, which profiles hold it; then one per bridge."""
    known = catalogue()
    profiles = {name: read_profile(name).checks for name in BUILT_IN}
    found = []
    for id, check in all_checks().items():
        condition = known.get(id)
        found.append(
            {
                "id": id,
                "domain": str(check.domain),
                "kind": condition.kind if condition else "",
                "version": condition.version if condition else None,
                "space": condition.space if condition else "",
                "unit": condition.unit if condition else "",
                "modalities": list(condition.modalities) if condition else [],
                "summary": condition.summary.replace("``", "") if condition else check.summary,
                "judged": check.summary,
                "tolerance": check.tolerance,
                "critical_harm": check.critical_harm,
                "use": _use(check),
                "reference": condition.reference if condition else "",
                "profiles": [name for name, checks in profiles.items() if id in checks],
            }
        )
    return found + [_bridged(bridge) for bridge in BRIDGES if bridge.version]


def asked(found: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """The rows whose id has ``what``, in capitals or not, where a word of it begins.

    >>> asked([{"id": "attack.pgd-linf"}, {"id": "torchattacks:…"}], "attack")
    [{'id': 'attack.pgd-linf'}]
    """
    begins = re.compile(rf"(?<![a-z0-9]){re.escape(what)}" if what[:1].isalnum() else re.escape(what), re.IGNORECASE)
    return [row for row in found if begins.search(row["id"])]


def parts(found: list[dict[str, Any]]) -> set[str]:
    """What the rows can be asked for by: every id, what it begins with, and its last word.

    >>> sorted(parts([{"id": "shift.ct.dose"}]))
    ['dose', 'shift', 'shift.ct', 'shift.ct.dose']
    """
    words = [row["id"].split(".") for row in found]
    return {".".join(id[:end]) for id in words for end in range(1, len(id) + 1)} | {id[-1] for id in words}


def _bridged(bridge: Bridge) -> dict[str, Any]:
    """The row of a library whose attacks can be named; none is imported to be listed."""
    check = defaults(bridge.example)
    return {
        "id": f"{bridge.prefix}{SEPARATOR}…",
        "domain": str(check.domain),
        "kind": "physical",
        "version": BRIDGE_VERSION,
        "space": "display",
        "unit": "of display range",
        "modalities": list(ALL_MODALITIES),
        "summary": bridge.summary,
        "judged": check.summary,
        "tolerance": check.tolerance,
        "critical_harm": check.critical_harm,
        "use": _use(check),
        "reference": bridge.reference,
        "profiles": [],
    }


def table(found: list[dict[str, Any]], *, verbose: bool) -> Table:
    """A rich table of the rows, by domain; it fits eighty columns."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column()
    domain = ""
    for row in sorted(found, key=lambda row: (list(Domain).index(Domain(row["domain"])), row["id"])):
        if row["domain"] != domain:
            domain = row["domain"]
            shown.add_row(Text(domain, style="bold"), "")
        shown.add_row(f"  {row['id']}", Text("\n".join(_lines(row, verbose=verbose))))
    return shown


def _lines(row: dict[str, Any], *, verbose: bool) -> list[str]:
    limited = 0 < len(row["modalities"]) < len(ALL_MODALITIES)
    lines = [row["summary"] + (f" ({', '.join(row['modalities'])})" if limited else "")]
    if verbose:
        lines += [
            f"{'judged' if row['use'] == JUDGED else 'shown'}: {row['judged']}",
            *([ON_DEMAND] if row["use"] == ON_DEMAND else []),
            *([_limits(row)] if row["use"] != SHOWN else []),
            f"profiles: {', '.join(row['profiles']) or 'none'}",
            row["reference"],
        ]
    return [line for line in lines if line]


def _use(check: CheckDefaults) -> str:
    """Whether a check is judged."""
    if not check.informational:
        return JUDGED
    return ON_DEMAND if check.judged_if_asked else SHOWN


def _limits(row: dict[str, Any]) -> str:
    return f"tolerance {_numbers(row['tolerance'])}; critical harm {_numbers(row['critical_harm'])}"


def _numbers(value: float | dict[str, float]) -> str:
    return (
        ", ".join(f"{name} {number:g}" for name, number in value.items()) if isinstance(value, dict) else f"{value:g}"
    )
