"""What every question about numbers of cases needs: checked shares, quantiles, roots."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq
from scipy.special import ndtri

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile


def check_pair(first: float, second: float) -> None:
    """Refuse proportions that are alike, or not between 0 and 1."""
    if not (0 < first < 1 and 0 < second < 1) or first == second:
        raise StatisticsError(f"expected two different proportions between 0 and 1, got {first} and {second}")


def check_share(name: str, value: float) -> None:
    """Refuse a number that is not between 0 and 1."""
    if not 0 < value < 1:
        raise StatisticsError(f"{name}: expected a number between 0 and 1, got {value}")


def total_quantile(alpha: float, power: float) -> float:
    """``z_(1-α/2) + z_power``, by which a standard error becomes a detectable difference."""
    check_share("power", power)
    return normal_quantile(1 - alpha) + float(ndtri(power))


def where_found(lacking: Callable[[float], float], most: float) -> float | None:
    """Where a rising function of the drop crosses 0, between nothing and ``most``; None when it stays below."""
    low, high = 1e-9, most * (1 - 1e-9)
    if lacking(high) < 0:
        return None
    return low if lacking(low) >= 0 else float(brentq(lacking, low, high))


def size_of(excess: Callable[[float], float]) -> float:
    """Where a falling function of the number of positives crosses 0."""
    return float(brentq(excess, 1e-3, 1e12))
