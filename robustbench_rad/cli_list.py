"""``robustbench-rad list``: conditions and checks from their metadata, without importing them."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from robustbench_rad.checks import all_checks
from robustbench_rad.profile import BUILT_IN, read_profile
from robustbench_rad.registry import catalogue


def rows() -> list[dict[str, Any]]:
    """One row per check: id, domain, what it does, how it is judged, which profiles hold it."""
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
                "summary": condition.summary if condition else check.summary,
                "judged": check.summary,
                "tolerance": check.tolerance,
                "critical_harm": check.critical_harm,
                "reference": condition.reference if condition else "",
                "profiles": [name for name, checks in profiles.items() if id in checks],
            }
        )
    return found


def table(found: list[dict[str, Any]], *, verbose: bool) -> Table:
    """A rich table of the rows."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "domain", "modalities", "what it does"):
        shown.add_column(column, no_wrap=column == "id")
    for row in found:
        modalities = ", ".join(row["modalities"]) if 0 < len(row["modalities"]) < 6 else "all"
        text = [row["summary"]]
        if verbose:
            text += [f"judged: {row['judged']}", f"δ {row['tolerance']}, Δ {row['critical_harm']}", row["reference"]]
        shown.add_row(row["id"], row["domain"], modalities, Text("\n".join(part for part in text if part)))
    return shown
