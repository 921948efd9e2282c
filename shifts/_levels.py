"""Ladders of levels, and checks of options that several shifts share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robustbench_rad.conditions import Level, fraction

DOSE_FRACTIONS = (0.5, 0.25, 0.1, 0.05, 0.025)
"""Routine to beyond ultra-low; neighbours differ by more than the just noticeable 1.56 in dose."""


def dose_level(value: float | str, unit: str) -> Level:
    """Make a level from a dose fraction.

    Raises:
        ValueError: Not in (0, 1].
    """
    alpha = fraction(value)
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"expected a dose fraction above 0 and at most 1, got {value}")
    return Level(name=str(value), value=alpha, unit=unit)


def dose_ladder(unit: str) -> tuple[Level, ...]:
    """The five standard dose fractions, mildest first.

    >>> [str(level) for level in dose_ladder("of the dose")][:2]
    ['0.5 of the dose', '0.25 of the dose']
    """
    return tuple(dose_level(alpha, unit) for alpha in DOSE_FRACTIONS)


def require_positive(options: object, names: Sequence[str], *, zero: bool = False) -> None:
    """Check that options are finite numbers above zero, or not below it.

    Raises:
        ValueError: Names the option and what came.
    """
    for name in names:
        value = getattr(options, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ValueError(f"{name}: expected a number {'not below' if zero else 'above'} 0, got {value!r}")


def require_one_of(options: object, name: str, known: Sequence[str]) -> None:
    """Check that a text option is one of the known words.

    Raises:
        ValueError: Names the option, the words, and what came.
    """
    value = getattr(options, name)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
