"""What a call means where the finding is rarer, and what the calls cost: at a declared prevalence and declared costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.calibration import predictive_values
from robustbench_rad.statistics.estimate import Estimate, difference

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a missed finding and a false alarm cost, in any one unit.

    Attributes:
        miss: Of a positive that is not called.
        false_alarm: Of a negative that is called.
    """

    miss: float
    false_alarm: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.miss, self.false_alarm]).all() and min(self.miss, self.false_alarm) >= 0):
            raise StatisticsError(f"costs: expected numbers of at least 0, got {self.miss} and {self.false_alarm}")

    def of_constant(self, prevalence: float) -> float:
        """Cost per case of the better of calling none and calling all: what a model must undercut."""
        return min(prevalence * self.miss, (1 - prevalence) * self.false_alarm)


@dataclass(frozen=True, kw_only=True, eq=False)
class CostCurve:
    """Expected cost per case against the threshold.

    Attributes:
        thresholds: ``(T,)`` margins at which a case is called from there on, rising; the last one calls none.
        costs: ``(T,)`` cost per case.
    """

    thresholds: Floats
    costs: Floats

    @property
    def least(self) -> tuple[float, float]:
        """Threshold of least cost, the lowest of several, and its cost: optimistic, for it was chosen on these cases."""
        place = int(np.argmin(self.costs))
        return float(self.thresholds[place]), float(self.costs[place])


def predictive_value_estimates(
    sensitivity: Estimate, specificity: Estimate, prevalence: float
) -> tuple[Estimate, Estimate]:
    """PPV and NPV at a prevalence π with intervals.

    ``PPV = 1 / (1 + R (1 - π)/π)`` with ``R = (1 - sp)/se``, ``NPV = 1 / (1 + R π/(1 - π))`` with ``R = (1 - se)/sp``. The
    limits of R are those of MOVER for a ratio, from the two intervals and the correlation of the influences (a patient
    may have both labels); they hold where a rate is 0 or 1.

    Args:
        sensitivity: se with its interval, not simultaneous with anything else.
        specificity: sp likewise, same confidence.
        prevalence: π, inside (0, 1).

    Raises:
        StatisticsError: A prevalence outside (0, 1), different confidence levels, or no case that would be called so.

    Reference:
        Donner and Zou 2012, Closed-form confidence intervals for functions of the normal mean and standard deviation,
        Stat Methods Med Res 21:347.

    >>> se, sp = Estimate(value=0.85, lower=0.75, upper=0.92), Estimate(value=0.9, lower=0.88, upper=0.92)
    >>> ppv, npv = predictive_value_estimates(se, sp, 0.03)
    >>> [round(x, 4) for x in (ppv.value, ppv.lower, ppv.upper, npv.value)]
    [0.2082, 0.174, 0.2498, 0.9949]
    """
    if not 0 < prevalence < 1:
        raise StatisticsError(f"prevalence: expected a share between 0 and 1, got {prevalence}")
    if sensitivity.confidence != specificity.confidence:
        raise StatisticsError("predictive values: expected one confidence level")
    values = predictive_values(sensitivity.value, specificity.value, prevalence)
    odds = (1 - prevalence) / prevalence
    ppv = _from_ratio(values[0], specificity.affine(scale=-1, offset=1), sensitivity, odds)
    npv = _from_ratio(values[1], sensitivity.affine(scale=-1, offset=1), specificity, 1 / odds)
    return ppv, npv


def expected_cost(sensitivity: Estimate, specificity: Estimate, prevalence: float, costs: Costs) -> Estimate:
    """Cost per case at the operating point, ``π (1 - se) miss + (1 - π) (1 - sp) false_alarm``, limits by MOVER.

    >>> se, sp = Estimate(value=0.85, lower=0.75, upper=0.92), Estimate(value=0.9, lower=0.88, upper=0.92)
    >>> cost = expected_cost(se, sp, 0.03, Costs(miss=20, false_alarm=1))
    >>> round(cost.value, 4), round(cost.lower, 4), round(cost.upper, 4)
    (0.187, 0.1407, 0.2501)
    """
    if not 0 <= prevalence <= 1:
        raise StatisticsError(f"prevalence: expected a share, got {prevalence}")
    missed = sensitivity.affine(scale=-prevalence * costs.miss, offset=prevalence * costs.miss)
    saved = specificity.affine(scale=(1 - prevalence) * costs.false_alarm, offset=-(1 - prevalence) * costs.false_alarm)
    return difference(missed, saved)


def cost_curve(labels: ArrayLike, margins: ArrayLike, prevalence: float, costs: Costs) -> CostCurve:
    """Cost per case at every threshold that the margins allow.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        margins: ``(N,)``; a case is called when its margin reaches the threshold.
        prevalence: π.
        costs: Of a miss and of a false alarm.

    Raises:
        StatisticsError: One class only, or a NaN margin with a known label.

    >>> curve = cost_curve([1, 1, 0, 0], [2.0, 0.5, 1.0, -1.0], 0.5, Costs(miss=1, false_alarm=1))
    >>> curve.thresholds.tolist(), curve.costs.tolist()
    ([-1.0, 0.5, 1.0, 2.0, inf], [0.5, 0.25, 0.5, 0.25, 0.5])
    """
    truth, margin = np.asarray(labels, dtype=np.float64), np.asarray(margins, dtype=np.float64)
    positive, negative = np.sort(margin[truth == 1]), np.sort(margin[truth == 0])
    if not (len(positive) and len(negative)) or np.isnan(margin[~np.isnan(truth)]).any():
        raise StatisticsError("cost curve: expected both classes and a margin for every known label")
    thresholds = np.append(np.unique(np.r_[positive, negative]), np.inf)
    missed = np.searchsorted(positive, thresholds, "left") / len(positive)
    alarmed = 1 - np.searchsorted(negative, thresholds, "left") / len(negative)
    spent = prevalence * costs.miss * missed + (1 - prevalence) * costs.false_alarm * alarmed
    return CostCurve(thresholds=thresholds, costs=np.asarray(spent, dtype=np.float64))


def _from_ratio(value: float, numerator: Estimate, denominator: Estimate, odds: float) -> Estimate:
    """Estimate ``1 / (1 + odds numerator / denominator)``."""
    if np.isnan(value):
        raise StatisticsError("predictive value: no case would be called so")
    low, high = _ratio_limits(numerator, denominator)
    influence = None
    if numerator.influence is not None and denominator.influence is not None:
        # With v = d / (d + o n): dv = o (n dd - d dn) / (d + o n)².
        whole = denominator.value + odds * numerator.value
        change = numerator.value * denominator.influence - denominator.value * numerator.influence
        influence = odds * change / whole**2
    return Estimate(
        value=value,
        lower=min(1 / (1 + odds * high), value),
        upper=max(1 / (1 + odds * low), value),
        confidence=numerator.confidence,
        method=f"MOVER ratio of {numerator.method}" if numerator.method else "MOVER ratio",
        influence=influence,
    )


def _ratio_limits(numerator: Estimate, denominator: Estimate) -> tuple[float, float]:
    """The ratios r at which MOVER's interval of ``numerator - r denominator`` just holds 0."""
    n, d = numerator.value, denominator.value
    r = _correlation(numerator, denominator)
    a, b, c = _quadratic(n, d, n - numerator.lower, denominator.upper - d, r)
    root = np.sqrt(max(b * b - a * c, 0.0))
    low = c / (b + root) if b + root > 0 else 0.0
    a, b, c = _quadratic(n, d, numerator.upper - n, d - denominator.lower, r)
    root = np.sqrt(max(b * b - a * c, 0.0))
    return max(float(low), 0.0), float((b + root) / a) if a > 0 else float("inf")


def _quadratic(n: float, d: float, below: float, above: float, r: float) -> tuple[float, float, float]:
    return d * d - above * above, n * d - r * below * above, n * n - below * below


def _correlation(first: Estimate, second: Estimate) -> float:
    if first.influence is None or second.influence is None:
        return 0.0
    scale = float(np.sqrt((first.influence @ first.influence) * (second.influence @ second.influence)))
    return float(np.clip(first.influence @ second.influence / scale, -1, 1)) if scale > 0 else 0.0
