"""Which metadata column names the scanner, and in which order scanners count; light, for the judgement needs it too."""

from __future__ import annotations

from collections.abc import Mapping

USUAL_COLUMN = "scanner"
IN_ORDER = "in order of cases"


def scanner_column(column: str, roles: Mapping[str, str]) -> str:
    """The metadata column that names the scanner: the one asked for, else the first that is declared as a nuisance.

    >>> scanner_column("scanner", {"view": "risk_factor", "device": "nuisance"})
    'device'
    """
    nuisances = [name for name, role in roles.items() if role == "nuisance"]
    return column if column in roles or column != USUAL_COLUMN or not nuisances else nuisances[0]


def by_count(counts: Mapping[str, int]) -> list[str]:
    """Names of scanners, commonest first, equal ones by name; cases without a name are of no scanner.

    >>> by_count({"B": 3, "A": 3, "C": 9, "": 20})
    ['C', 'A', 'B']
    """
    return sorted((name for name in counts if name), key=lambda name: (-counts[name], name))
