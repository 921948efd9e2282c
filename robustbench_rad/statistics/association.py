"""Does the score tell an attribute (scanner, site, marker) once the label is known?

Within each label the AUC of the score for the attribute is ½ when the score depends on the attribute only through the label;
a marginal association is no evidence, since prevalence differs between scanners.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import Ranking, rank, score_limits, symmetric_variance
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.estimate import Estimate, covariance
from robustbench_rad.statistics.multiplicity import joint_confidence

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Association:
    """Which value of an attribute the score tells best.

    Attributes:
        estimate: Label-conditional AUC of that value against the rest, at the joint confidence of all values.
        level: The value.
        levels: Every value with its estimate.
    """

    estimate: Estimate
    level: float
    levels: dict[float, Estimate]


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
    return _pool(strata, confidence)


def strongest_association(
    labels: ArrayLike,
    scores: ArrayLike,
    values: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Association:
    """Each value of an attribute against the rest, jointly; the one furthest from ½ leads.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``.
        values: ``(N,)`` code of the value, NaN unknown.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the multipliers for the joint level.
        confidence: Joint confidence level.

    Raises:
        StatisticsError: Fewer than two values, or none that can be told apart within a label.
    """
    code = np.asarray(values, dtype=np.float64)
    known = np.unique(code[~np.isnan(code)]).tolist()
    if len(known) < 2:
        raise StatisticsError(f"attribute: expected two values or more, got {len(known)}")

    def against_rest(value: float, level: float) -> Estimate:
        trait = np.where(np.isnan(code), np.nan, code == value)
        return conditional_auc(labels, scores, trait, patients, n_patients, confidence=level)

    first = {}
    for value in known[:1] if len(known) == 2 else known:  # of two values, one against the other says it all
        with contextlib.suppress(StatisticsError):
            first[value] = against_rest(value, confidence)
    if not first:
        raise StatisticsError("no label in which two values of the attribute occur, so dependence cannot be told")
    influences = [e.influence for e in first.values() if e.influence is not None]
    joint = joint_confidence(np.stack(influences), confidence, seed=seed)
    levels = {value: against_rest(value, joint) for value in first}
    level = max(levels, key=lambda value: abs(levels[value].value - 0.5))
    return Association(estimate=levels[level], level=level, levels=levels)


def permutation_p(
    labels: ArrayLike,
    scores: ArrayLike,
    attribute: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = 2000,
) -> float:
    """P-value of no dependence: the attribute is permuted among patients that have the same labels.

    Two-sided on the deviation of the pooled rank sum; the observed order counts as one draw, so the test keeps its level
    for any number of patients. Patients stay whole, with all their images.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        scores: ``(N,)``.
        attribute: ``(N,)`` 1, 0 or NaN (ignored); one value per patient.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the permutations.
        draws: Number of permutations.

    Raises:
        StatisticsError: A patient with two values of the attribute, or no case.
    """
    truth, trait = _binary(labels, "labels"), _binary(attribute, "attribute")
    patient = check_patients(patients, len(truth), n_patients)
    known = ~np.isnan(truth) & ~np.isnan(trait)
    if not known.any():
        raise StatisticsError("no case with a known label and attribute")
    truth, trait, patient, values = truth[known], trait[known], patient[known], np.asarray(scores, float)[known]
    sums, owner, group = _by_patient(truth, values, patient, n_patients)
    value = _one_value(trait, patient, owner)
    generator = np.random.default_rng(seed)
    # Patients with other labels keep their own mean: only what a permutation can change is counted.
    for pattern in np.unique(group):
        sums[group == pattern] -= sums[group == pattern].mean()
    deviations = np.empty(draws + 1)
    deviations[0] = sums @ value
    for draw in range(1, draws + 1):
        deviations[draw] = sums @ _permuted(value, group, generator)
    size = np.abs(deviations)
    return float((size >= size[0] - 1e-9 * np.abs(sums).sum()).mean())  # rounding must not undo a tie


def _by_patient(
    truth: Floats, scores: Floats, patients: NDArray[np.int64], n_patients: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Centred rank sums, index and label pattern (1 negatives, 2 positives, 3 both) of every patient used."""
    from scipy.stats import rankdata

    centred = np.zeros(len(truth))
    for label in (0.0, 1.0):
        stratum = truth == label
        if stratum.any():
            ranks = rankdata(scores[stratum]) / (stratum.sum() + 1)
            centred[stratum] = ranks - ranks.mean()
    sums = np.bincount(patients, weights=centred, minlength=n_patients)
    owner = np.unique(patients)
    has_negative = np.bincount(patients, weights=truth == 0, minlength=n_patients) > 0
    has_positive = np.bincount(patients, weights=truth == 1, minlength=n_patients) > 0
    pattern = has_negative.astype(np.int64) + 2 * has_positive.astype(np.int64)
    return np.asarray(sums[owner], dtype=np.float64), owner, pattern[owner]


def _one_value(trait: Floats, patients: NDArray[np.int64], owner: NDArray[np.int64]) -> Floats:
    count = np.bincount(patients)[owner]
    share = np.bincount(patients, weights=trait)[owner] / count
    if not np.isin(share, (0.0, 1.0)).all():
        raise StatisticsError(
            f"{int((~np.isin(share, (0.0, 1.0))).sum())} patients have both values of the attribute",
            hint="The permutation test needs one value per patient; the interval does not.",
        )
    return share


def _permuted(value: Floats, group: NDArray[np.int64], generator: np.random.Generator) -> Floats:
    shuffled = np.empty_like(value)
    for pattern in (1, 2, 3):
        members = np.flatnonzero(group == pattern)
        shuffled[members] = generator.permutation(value[members])
    return shuffled


def _pool(strata: list[Ranking], confidence: float) -> Estimate:
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
        method="pooled within labels, score-inverted Hanley-McNeil",
        influence=influence,
    )


def _binary(values: ArrayLike, name: str) -> Floats:
    number = np.asarray(values, dtype=np.float64)
    if number.ndim != 1 or not np.isin(number[~np.isnan(number)], (0.0, 1.0)).all():
        raise StatisticsError(f"{name}: expected a vector of 1, 0 or NaN")
    return number
