"""Does the score tell an attribute (scanner, site, marker) once the label is known?

Within each label the AUC of the score for the attribute is ½ when the score depends on the attribute only through the label;
a marginal association is no evidence, since prevalence differs between scanners.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import Ranking, rank, score_limits, symmetric_variance
from robustbench_rad.statistics.estimate import Estimate, covariance

Floats = NDArray[np.float64]


def conditional_auc(
    labels: ArrayLike,
    scores: ArrayLike,
    attribute: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """AUC of the score for a two-valued attribute within each label, pooled.

    ``sum_y w_y A_y / sum_y w_y``, the weights being the inverse variances of A_y under no dependence,
    ``12 m n / (m + n + 1)`` for m cases with and n without the attribute: they do not depend on the scores. Interval:
    the areas A with ``(pooled - A)² <= z² V(A)``, V the pooled Hanley-McNeil variance, widened to the patient-clustered
    DeLong variance where that is larger. A label in which only one value occurs adds nothing.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``; not NaN where label and attribute are known.
        attribute: ``(N,)`` 1, 0 or NaN (ignored).
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: No label in which both values occur, or as :func:`~robustbench_rad.statistics.auc.auc`.

    Reference:
        Spisak 2022, Statistical quantification of confounding bias in machine learning models,
        doi:10.1093/gigascience/giac082 (partial confounder test).

    >>> e = conditional_auc([1, 1, 1, 1, 0, 0], [4, 3, 2, 1, 8, 7], [1, 0, 0, 1, 0, 0], range(6), 6)
    >>> e.value
    0.5
    """
    truth, trait = _binary(labels, "labels"), _binary(attribute, "attribute")
    if truth.shape != trait.shape:
        raise StatisticsError(f"attribute: expected the shape of the labels {truth.shape}, got {trait.shape}")
    strata = []
    for label in (1.0, 0.0):
        within = np.where(truth == label, trait, np.nan)
        if {0.0, 1.0} <= set(within.tolist()):
            strata.append(rank(within, scores, patients, n_patients))
    if not strata:
        raise StatisticsError("no label in which both values of the attribute occur, so dependence cannot be told")
    return pooled(strata, "pooled within labels", confidence=confidence)


def pooled(strata: Sequence[Ranking], how: str, *, confidence: float) -> Estimate:
    """Areas of separate strata as one, weighted by their inverse variances under no dependence.

    See :func:`conditional_auc` for weights and interval.

    Args:
        strata: Rankings, one or more.
        how: What was pooled, in words.
        confidence: Two-sided confidence level.
    """
    precision = np.array([12 * s.positives * s.negatives / (s.positives + s.negatives + 1) for s in strata])
    weights = precision / precision.sum()
    value = float(weights @ [s.area for s in strata])
    influence = np.sum([w * s.influence for w, s in zip(weights, strata, strict=True)], axis=0)

    def model(area: float) -> float:
        parts = [symmetric_variance(area, s.positives, s.negatives) for s in strata]
        return float(weights**2 @ parts)

    degrees = sum(s.patients - 1 for s in strata)
    variance = covariance(influence, influence)
    lower, upper = score_limits(value, variance, model, degrees=degrees, confidence=confidence)
    return Estimate(
        value=value,
        lower=lower,
        upper=upper,
        confidence=confidence,
        method=f"{how}, score-inverted Hanley-McNeil",
        influence=influence,
    )


def _binary(values: ArrayLike, name: str) -> Floats:
    number = np.asarray(values, dtype=np.float64)
    if number.ndim != 1 or not np.isin(number[~np.isnan(number)], (0.0, 1.0)).all():
        raise StatisticsError(f"{name}: expected a vector of 1, 0 or NaN")
    return number
