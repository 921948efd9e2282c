"""An estimate: a number, its interval, and what each patient contributed to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from robustbench_rad.errors import StatisticsError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its confidence interval.

    Attributes:
        value: Point estimate.
        lower: Lower limit, at most ``value``.
        upper: Upper limit, at least ``value``.
        confidence: Two-sided confidence level of the interval.
        method: Name of the interval.
        influence: ``(C,)`` one number per patient of the audit's common index, zero for patients not used, such that
            the variance of ``value`` is ``C / (C - 1) * sum(influence ** 2)``. None when it cannot be resampled.
    """

    value: float
    lower: float
    upper: float
    confidence: float = 0.95
    method: str = ""
    influence: Floats | None = field(default=None, compare=False, repr=False)

    @property
    def standard_error(self) -> float:
        """Square root of the clustered variance; NaN without an influence."""
        return float("nan") if self.influence is None else float(np.sqrt(covariance(self.influence, self.influence)))

    def affine(self, *, scale: float = 1.0, offset: float = 0.0) -> Estimate:
        """Return ``offset + scale * self``, limits and influence with it.

        >>> rate = Estimate(value=0.8, lower=0.7, upper=0.875)
        >>> miss = rate.affine(scale=-1, offset=1)
        >>> round(miss.value, 3), round(miss.lower, 3), round(miss.upper, 3)
        (0.2, 0.125, 0.3)
        """
        ends = offset + scale * self.lower, offset + scale * self.upper
        return replace(
            self,
            value=offset + scale * self.value,
            lower=min(ends),
            upper=max(ends),
            influence=None if self.influence is None else scale * self.influence,
        )

    def within(self, low: float, high: float) -> Estimate:
        """Return it with limits that lie where the truth can lie.

        >>> few = Estimate(value=0.5, lower=-0.2, upper=1.2).within(-1.0, 1.0)
        >>> few.lower, few.upper
        (-0.2, 1.0)
        """
        return replace(self, lower=max(low, self.lower), upper=min(high, self.upper))

    def folded(self, *, centre: float) -> Estimate:
        """Return the distance ``|self - centre|``; the lower limit is 0 when the interval holds ``centre``.

        >>> auc = Estimate(value=0.47, lower=0.40, upper=0.55)
        >>> far = auc.folded(centre=0.5)
        >>> round(far.value, 3), round(far.lower, 3), round(far.upper, 3)
        (0.03, 0.0, 0.1)
        """
        low, high = self.lower - centre, self.upper - centre
        sign = 1.0 if self.value >= centre else -1.0
        return replace(
            self,
            value=abs(self.value - centre),
            lower=max(0.0, low, -high),
            upper=max(abs(low), abs(high)),
            influence=None if self.influence is None else sign * self.influence,
        )


def difference(first: Estimate, second: Estimate, *, degrees: float | None = None) -> Estimate:
    """Difference of two estimates made on the same, overlapping or separate patients.

    The limits are recovered from the two intervals (MOVER) with the correlation r of the influences:
    ``L = d - sqrt((a - l_a)² + (u_b - b)² - 2 r (a - l_a)(u_b - b))``, U likewise. So the difference inherits the good
    small-sample behaviour of its parts: of two Wilson intervals it is Newcombe's hybrid score interval, paired (r ≠ 0)
    or unpaired (r = 0). With ``degrees`` each side is at least the Student limit of the influence of the difference,
    which keeps the level where the parts are skewed and strongly correlated.

    Args:
        first: Estimate a.
        second: Estimate b, same confidence, same patient index.
        degrees: Degrees of freedom of the Student limit; None: MOVER alone.

    Raises:
        StatisticsError: The two have different confidence levels.

    Reference:
        Zou and Donner 2008, Construction of confidence limits about effect measures, doi:10.1002/sim.3095.

    >>> a = Estimate(value=0.8, lower=0.7, upper=0.9)
    >>> b = Estimate(value=0.6, lower=0.5, upper=0.7)
    >>> d = difference(a, b)
    >>> round(d.value, 3), round(d.lower, 4), round(d.upper, 4)
    (0.2, 0.0586, 0.3414)
    """
    if first.confidence != second.confidence:
        raise StatisticsError(
            f"difference of estimates: expected one confidence level, got {first.confidence} and {second.confidence}"
        )
    value = first.value - second.value
    influence = None
    r = least = 0.0
    if first.influence is not None and second.influence is not None:
        influence = first.influence - second.influence
        r = _correlation(first.influence, second.influence)
        if degrees is not None:
            least = student_quantile(first.confidence, degrees) * float(np.sqrt(covariance(influence, influence)))
    below = max(least, _hypotenuse(first.value - first.lower, second.upper - second.value, r))
    above = max(least, _hypotenuse(first.upper - first.value, second.value - second.lower, r))
    return Estimate(
        value=value,
        lower=value - below,
        upper=value + above,
        confidence=first.confidence,
        method=f"MOVER of {first.method}" if first.method else "MOVER",
        influence=influence,
    )


def student(value: float, influence: Floats, *, degrees: float, confidence: float, method: str) -> Estimate:
    """An estimate with Student's interval ``value ± t SE``, SE from the influence of the patients.

    Args:
        value: Point estimate.
        influence: ``(C,)`` as :attr:`Estimate.influence`.
        degrees: Degrees of freedom of the standard error.
        confidence: Two-sided confidence level.
        method: Name of the interval.

    >>> e = student(1.0, np.array([0.1, -0.1, 0.0]), degrees=2, confidence=0.95, method="Student")
    >>> round(e.lower, 3), round(e.upper, 3)
    (0.255, 1.745)
    """
    half = student_quantile(confidence, degrees) * float(np.sqrt(covariance(influence, influence)))
    return Estimate(
        value=value, lower=value - half, upper=value + half, confidence=confidence, method=method, influence=influence
    )


def covariance(first: Floats, second: Floats) -> float:
    """Covariance of two estimates from their influences, ``C / (C - 1) * first @ second``."""
    count = len(first)
    return float(first @ second) * count / (count - 1) if count > 1 else 0.0


def normal_quantile(confidence: float) -> float:
    """Two-sided standard normal quantile.

    >>> round(normal_quantile(0.95), 6)
    1.959964
    """
    if not 0 < confidence < 1:
        raise StatisticsError(f"confidence: expected a number between 0 and 1, got {confidence}")
    return float(ndtri((1 + confidence) / 2))


def student_quantile(confidence: float, degrees: float) -> float:
    """Two-sided Student quantile; ``degrees`` below 1 count as 1, infinity gives the normal quantile.

    >>> round(student_quantile(0.95, 9), 4)
    2.2622
    """
    if not np.isfinite(degrees):
        return normal_quantile(confidence)
    return float(stdtrit(max(degrees, 1.0), (1 + confidence) / 2))


def _correlation(first: Floats, second: Floats) -> float:
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return 0.0 if scale == 0 else float(np.clip(first @ second / scale, -1, 1))


def _hypotenuse(a: float, b: float, r: float) -> float:
    return float(np.sqrt(max(0.0, a * a + b * b - 2 * r * a * b)))
