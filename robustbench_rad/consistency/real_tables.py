"""Tables of any non-negative numbers that fit printed figures: a linear program answers exactly."""

from __future__ import annotations

from collections.abc import Mapping

from robustbench_rad.consistency.figures import FIGURES, Printed
from robustbench_rad.consistency.report import Reach, Report, conclude

# Ranges a hair wider than their whole are what a solver gives for no restriction.
_HAIR = 1e-7


def real_tables(printed: Mapping[str, Printed], notes: tuple[str, ...]) -> Report:
    """Whether any table fits, and what the figures leave one another."""
    possible = _feasible(printed)
    figures = tuple(_real_reach(name, printed, possible) for name in printed)
    return conclude(figures, possible=possible, restricted=_restricted(figures), notes=notes)


def _restricted(figures: tuple[Reach, ...]) -> bool:
    ranges = [(figure.low, figure.high) for figure in figures]
    return any(low is not None and high is not None and (low > _HAIR or high < 1 - _HAIR) for low, high in ranges)


def _real_reach(name: str, printed: Mapping[str, Printed], possible: bool) -> Reach:
    others = {other: value for other, value in printed.items() if other != name}
    low, high = (_extreme(name, others, 1), _extreme(name, others, -1)) if _feasible(others) else (None, None)
    return Reach(name=name, printed=printed[name], low=low, high=high, agrees=None if low is None else possible)


def _feasible(printed: Mapping[str, Printed]) -> bool:
    """Each figure must have a denominator above 0; the set of tables is convex, so one witness for each suffices."""
    return all(_extreme(name, printed, 0) is not None for name in printed)


def _extreme(name: str, printed: Mapping[str, Printed], sign: int) -> float | None:
    """Least (sign 1) or greatest (sign -1) value of a figure under the others, by the transformation of Charnes and Cooper.

    Figures do not change when all counts are multiplied, so the figure's own denominator may be set to 1; what is left is
    linear. Sign 0 asks only whether there is any.

    Reference:
        Charnes and Cooper 1962, Programming with linear fractional functionals, doi:10.1002/nav.3800090303.
    """
    import numpy as np
    from scipy.optimize import linprog

    numerator, denominator = (np.array(row, dtype=float) for row in FIGURES[name])
    rows = [np.zeros(4)]
    for other, value in printed.items():
        top, bottom = (np.array(row, dtype=float) for row in FIGURES[other])
        rows += [value.low * bottom - top, top - value.high * bottom]
    found = linprog(
        sign * numerator, A_ub=np.array(rows), b_ub=np.zeros(len(rows)), A_eq=denominator[None], b_eq=np.ones(1)
    )
    # + 0.0: no negative zero
    return sign * float(found.fun or 0.0) + 0.0 if found.success else None
