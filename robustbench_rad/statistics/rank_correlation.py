"""Does the score move with a continuous attribute (pixel spacing, kVp, age) once the label is known?

Within each label Spearman's correlation of score and attribute is 0 when the score depends on the attribute only through the
label. It sees dependence that rises or falls throughout; a score that is highest in the middle of the range escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LEAST = 4
"""Cases of a label with fewer say nothing of a correlation: its variance on Fisher's scale is 1 / (n - 3)."""

AUC_SCALE = 1 / np.sqrt(3)
"""For an attribute of two equal halves Spearman's correlation is √3 (AUC - ½), so this share of it is on the AUC's scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stratum:
    """Correlation within one label, and what each patient contributed."""

    value: float
    cases: int
    patients: int
    influence: Floats


def conditional_spearman(
    labels: ArrayLike,
    scores: ArrayLike,
    attribute: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Spearman's correlation of score and attribute within each label, pooled by the number of cases.

    ``sum_y (n_y - 1) rho_y / sum_y (n_y - 1)``, the inverse variances under no dependence; ties have mid-ranks. Interval:
    Student on Fisher's scale, with the patient-clustered variance of the influence (ranks are estimated too), and
    never narrower than ``1 / sqrt(sum_y (n_y - 3))``. A label in which score or attribute does not vary adds nothing.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``; not NaN where label and attribute are known.
        attribute: ``(N,)`` any numbers, NaN unknown (ignored).
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No label in which both vary in four cases of two patients or more, a NaN score, or an attribute
            that is infinite.

    References:
        Spearman 1904, doi:10.2307/1412159; Fisher 1915, doi:10.1093/biomet/10.4.507.

    >>> e = conditional_spearman([1] * 5 + [0] * 5, [1, 2, 3, 5, 4, 9, 8, 7, 6, 5], [*range(5), *range(5)], range(10), 10)
    >>> round(e.value, 6)  # 0.9 among the positives, -1 among the negatives
    -0.05
    """
    truth = np.asarray(labels, dtype=np.float64)
    score, trait = np.asarray(scores, dtype=np.float64), np.asarray(attribute, dtype=np.float64)
    if not truth.shape == score.shape == trait.shape or truth.ndim != 1:
        raise StatisticsError(
            f"correlation: expected vectors of one length, got {truth.shape}, {score.shape} and {trait.shape}"
        )
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth) & ~np.isnan(trait)
    if np.isnan(score[known]).any():
        raise StatisticsError(f"correlation: {int(np.isnan(score[known]).sum())} cases have no score")
    if np.isinf(trait[known]).any():
        raise StatisticsError("correlation: expected finite values of the attribute")
    strata = [
        _stratum(score[here], trait[here], patient[here], n_patients)
        for here in (known & (truth == label) for label in (1.0, 0.0))
        if _varies(score[here], trait[here], patient[here])
    ]
    if not strata:
        raise StatisticsError(
            f"no label in which score and attribute both vary in {LEAST} cases or more, so dependence cannot be told"
        )
    return _pool(strata, confidence)


def _varies(score: Floats, trait: Floats, patients: Indices) -> bool:
    return (
        len(score) >= LEAST
        and count_patients(patients) >= 2
        and bool((score != score[0]).any())
        and bool((trait != trait[0]).any())
    )


def _stratum(score: Floats, trait: Floats, patients: Indices, n_patients: int) -> _Stratum:
    """Correlation of mid-ranks with the influence of the ranks themselves: products are means over pairs of cases."""
    f, g = _mid_ranks(score), _mid_ranks(trait)
    products, parts = [], []
    for one, other, values, others in ((f, g, score, trait), (f, f, score, score), (g, g, trait, trait)):
        product = float((one * other).mean())
        # E[F(X) G(Y)] moves with a case through its own term and through the ranks of all cases above it in either.
        parts.append(one * other + _above(values, other) + _above(others, one) - 3 * product)
        products.append(product - 0.25)
    cross, f_spread, g_spread = products
    scale = float(np.sqrt(f_spread * g_spread))
    value = float(np.clip(cross / scale, -1.0, 1.0))
    per_case = parts[0] / scale - value / 2 * (parts[1] / f_spread + parts[2] / g_spread)
    return _Stratum(
        value=value,
        cases=len(score),
        patients=count_patients(patients),
        influence=cluster_influence(per_case / len(score), patients, n_patients),
    )


def _mid_ranks(values: Floats) -> Floats:
    """Empirical distribution function, ties half; its mean is ½."""
    return np.asarray((rankdata(values) - 0.5) / len(values), dtype=np.float64)


def _above(values: Floats, weights: Floats) -> Floats:
    """For each case the mean over all cases of ``weight * [its value is larger; half when equal]``."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    total = np.r_[0.0, np.cumsum(weights[order])]
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray(total[-1] - (total[left] + total[right]) / 2) / len(values)


def _pool(strata: list[_Stratum], confidence: float) -> Estimate:
    weights = np.array([stratum.cases - 1.0 for stratum in strata])
    weights /= weights.sum()
    value = float(weights @ [stratum.value for stratum in strata])
    influence = np.sum([w * s.influence for w, s in zip(weights, strata, strict=True)], axis=0)
    cases = sum(stratum.cases - 3 for stratum in strata)
    inside = 1 - 1 / max(cases, 2) ** 2  # a correlation of exactly 1 has no place on Fisher's scale
    centre = float(np.arctanh(np.clip(value, -inside, inside)))
    error = max(
        float(np.sqrt(covariance(influence, influence))) / (1 - np.tanh(centre) ** 2), 1 / float(np.sqrt(max(cases, 1)))
    )
    half = student_quantile(confidence, sum(stratum.patients - 1 for stratum in strata)) * error
    return Estimate(
        value=value,
        lower=min(float(np.tanh(centre - half)), value),
        upper=max(float(np.tanh(centre + half)), value),
        confidence=confidence,
        method="Spearman pooled within labels, clustered, Fisher's scale",
        influence=influence,
    )
