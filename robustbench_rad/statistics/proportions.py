"""Sensitivity, specificity, flip rate: proportions and their differences, clustered by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv
from scipy.stats import binomtest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, effective_size
from robustbench_rad.statistics.estimate import Estimate, difference, normal_quantile


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """What counting once says about every interval of a proportion.

    Attributes:
        value: Share of successes.
        cases: Valid cases.
        size: Independent cases they are worth.
        influence: ``(C,)`` per patient, zero for patients not used.
    """

    value: float
    cases: int
    size: float
    influence: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedShares:
    """What counting once says about every interval of a paired difference.

    Attributes:
        first: Share of successes of the first.
        second: Of the second, same cases.
        changed: Share of cases in which they differ.
        patients: Patients with a valid case.
    """

    first: Share
    second: Share
    changed: Share
    patients: int


def proportion(
    successes: ArrayLike, valid: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Share of successes among the valid cases.

    Wilson's interval on the effective number of cases (all cases, when each patient has one); Clopper-Pearson when none
    or all succeeded.

    Args:
        successes: ``(N,)`` boolean.
        valid: ``(N,)`` boolean, the cases that count.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No valid case, or successes that are not boolean.

    >>> e = proportion([True] * 56 + [False] * 10, [True] * 66, range(66), 66)
    >>> round(e.value, 4), round(e.lower, 4), round(e.upper, 4)
    (0.8485, 0.7431, 0.9156)
    """
    return share_interval(share(successes, valid, patients, n_patients), confidence=confidence)


def share(successes: ArrayLike, valid: ArrayLike, patients: ArrayLike, n_patients: int) -> Share:
    """Count once; see :func:`proportion` for the arguments."""
    success, patient = _valid(successes, valid, patients, n_patients)
    return _share(success, patient, n_patients)


def share_interval(counted: Share, *, confidence: float) -> Estimate:
    """Interval of a share that is counted already; see :func:`proportion`."""
    value, size = counted.value, counted.size
    if value in (0.0, 1.0):
        method, (lower, upper) = "Clopper-Pearson", clopper_pearson(value * size, size, confidence=confidence)
    else:
        method, (lower, upper) = "Wilson", wilson(value, size, confidence=confidence)
    return Estimate(
        value=value,
        lower=lower,
        upper=upper,
        confidence=confidence,
        method=method if size == counted.cases else f"{method}, effective n {size:.1f}",
        influence=counted.influence,
    )


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    valid: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Difference of two proportions of the same cases, ``first - second``, with Newcombe's hybrid score interval.

    Clustered through the effective numbers of cases and the correlation of the influences. Where the two are equal in
    every case, the zero is still an estimate: the interval is that of no discordant case in n_eff (Clopper-Pearson),
    both ways.

    Args:
        first: ``(N,)`` boolean, e.g. correct on the clean image.
        second: ``(N,)`` boolean, e.g. correct on the altered image.
        valid: ``(N,)`` boolean.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: As :func:`proportion`.

    Reference:
        Newcombe 1998, Improved confidence intervals for the difference between binomial proportions based on paired
        data, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.
    """
    return paired_interval(paired_shares(first, second, valid, patients, n_patients), confidence=confidence)


def paired_shares(
    first: ArrayLike, second: ArrayLike, valid: ArrayLike, patients: ArrayLike, n_patients: int
) -> PairedShares:
    """Count once; see :func:`paired_difference` for the arguments."""
    a, patient = _valid(first, valid, patients, n_patients)
    b, _ = _valid(second, valid, patients, n_patients)
    changed = _share((a != b).astype(np.float64), patient, n_patients)
    return PairedShares(
        first=_share(a, patient, n_patients),
        second=_share(b, patient, n_patients),
        changed=changed,
        patients=count_patients(patient),
    )


def paired_interval(pair: PairedShares, *, confidence: float) -> Estimate:
    """Interval of a paired difference that is counted already; see :func:`paired_difference`."""
    if pair.changed.value > 0:
        a, b = (share_interval(part, confidence=confidence) for part in (pair.first, pair.second))
        return difference(a, b, degrees=pair.patients - 1).within(-1.0, 1.0)
    upper = share_interval(pair.changed, confidence=confidence).upper
    return Estimate(
        value=0.0,
        lower=-upper,
        upper=upper,
        confidence=confidence,
        method="Clopper-Pearson, no discordant case",
        influence=np.zeros(len(pair.first.influence)),
    )


def wilson(value: float, size: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)``, inside [0, 1].

    Args:
        value: Observed proportion p.
        size: Number of cases n, possibly effective and so not whole.
        confidence: Two-sided confidence level.

    Reference:
        Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(limit, 4) for limit in wilson(81 / 263, 263)]
    [0.2553, 0.3662]
    """
    _check_size(value, size)
    z = normal_quantile(confidence)
    centre = (value + z * z / (2 * size)) / (1 + z * z / size)
    half = z * float(np.sqrt(value * (1 - value) / size + z * z / (4 * size * size))) / (1 + z * z / size)
    # Rounding would otherwise leave 1 + 2e-16, or a limit on the wrong side of the proportion it belongs to.
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))


def clopper_pearson(successes: float, size: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson's exact interval by beta quantiles; numbers may be effective and so not whole.

    Reference:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.

    >>> [round(limit, 4) for limit in clopper_pearson(5, 10)]
    [0.1871, 0.8129]
    """
    _check_size(successes / size if size else 0.0, size)
    tail = (1 - confidence) / 2
    failures = size - successes
    lower = float(betaincinv(successes, failures + 1, tail)) if successes > 0 else 0.0
    upper = float(betaincinv(successes + 1, failures, 1 - tail)) if failures > 0 else 1.0
    return lower, upper


def tango(lost: int, gained: int, pairs: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's score interval of a paired difference of proportions, ``(lost - gained) / pairs``.

    The differences Δ with ``|b - c - nΔ| <= z sqrt(n (2 q + Δ(1 - Δ)))``, q being the maximum-likelihood probability of
    the second discordant cell at Δ.

    Args:
        lost: b, pairs right first and wrong then.
        gained: c, pairs wrong first and right then.
        pairs: n, all pairs.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Counts that cannot be.

    Reference:
        Tango 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.

    >>> [round(limit, 4) for limit in tango(0, 0, 66)]
    [-0.055, 0.055]
    """
    if min(lost, gained) < 0 or lost + gained > pairs or pairs < 1:
        raise StatisticsError(f"Tango: {lost} lost and {gained} gained of {pairs} pairs cannot be")
    z, observed = normal_quantile(confidence), (lost - gained) / pairs

    def excess(delta: float) -> float:
        spread = 2 * _second_cell(delta, lost, gained, pairs) + delta * (1 - delta)
        return pairs * (observed - delta) ** 2 - z * z * max(spread, 0.0)

    inside = 1e-9  # without discordant pairs the observed difference itself is a root
    lower = -1.0 if observed == -1 else float(brentq(excess, -1.0, observed - inside))
    upper = 1.0 if observed == 1 else float(brentq(excess, observed + inside, 1.0))
    return lower, upper


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided McNemar p-value: are discordant pairs split evenly?

    >>> round(mcnemar(8, 1), 4)
    0.0391
    """
    return float(binomtest(lost, lost + gained, 0.5).pvalue) if lost + gained else 1.0


def _second_cell(delta: float, lost: int, gained: int, pairs: int) -> float:
    """Maximum-likelihood q₂₁ at a difference Δ: the larger root of Tango's quadratic."""
    linear = -lost - gained + (2 * pairs - lost + gained) * delta
    root = np.sqrt(max(linear * linear + 8 * pairs * gained * delta * (1 - delta), 0.0))
    return float((root - linear) / (4 * pairs))


def _valid(
    successes: ArrayLike, valid: ArrayLike, patients: ArrayLike, n_patients: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    success, chosen = np.asarray(successes), np.asarray(valid)
    if success.dtype != np.bool_ or chosen.dtype != np.bool_ or success.shape != chosen.shape or success.ndim != 1:
        raise StatisticsError(
            f"proportion: expected two boolean vectors of one length, got {success.dtype} {success.shape} "
            f"and {chosen.dtype} {chosen.shape}"
        )
    if not chosen.any():
        raise StatisticsError("proportion: no case to count")
    patient = check_patients(patients, len(success), n_patients)
    return success[chosen].astype(np.float64), patient[chosen]


def _share(success: NDArray[np.float64], patient: NDArray[np.int64], n_patients: int) -> Share:
    value = float(success.mean())
    return Share(
        value=value,
        cases=len(success),
        size=effective_size(success, patient, degrees=_degrees(success, patient)),
        influence=cluster_influence((success - value) / len(success), patient, n_patients),
    )


def _degrees(success: NDArray[np.float64], patients: NDArray[np.int64]) -> float:
    """What is rare carries the variance: patients with a success or patients with a failure, the fewer, minus 1."""
    return min(count_patients(patients[success == outcome]) for outcome in (0.0, 1.0)) - 1


def _check_size(value: float, size: float) -> None:
    if not (0 <= value <= 1 and size > 0):
        raise StatisticsError(f"proportion: expected 0 to 1 of at least one case, got {value} of {size}")
