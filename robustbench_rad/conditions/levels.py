"""How strong a condition is: named levels with their physical values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Level:
    """One named strength of a condition with its physical value."""

    name: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name} {self.unit}".strip()


def fraction(value: float | str) -> float:
    """Read a number or a fraction.

    Raises:
        ValueError: It is neither.

    >>> fraction("1/255") == 1 / 255
    True
    """
    try:
        numerator, _, denominator = str(value).partition("/")
        return float(numerator) / float(denominator) if "/" in str(value) else float(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f'expected a number or a fraction such as "1/255", got {value!r}') from None
