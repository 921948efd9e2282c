"""How well the values of an attribute are told, with intervals and the p-value of no association."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import pooled
from robustbench_rad.statistics.auc import rank
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.probe.permutation import permutation_p, targets_of
from robustbench_rad.statistics.probe.ridge import FOLDS, Probe

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LEAST = 10
"""Patients of a value below which no fold would hold more than one."""
DRAWS = 499
SHARED = 2.0
"""A pair of cases of two folds stands in the fits of both, so without an association the areas of folds move together and the
variance of their sum is twice that of folds fitted on other cases. With one it is less, so this is safe."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How well the values of an attribute are told.

    Attributes:
        auc: Mean over the values of the AUC of a value against the rest; its limits are the means of their limits, as if they
            moved together, which is never too narrow.
        values: Number of each value that ten patients or more have → its AUC; of two only that of the second.
        best: Number of the value that is told best.
        p: Of no association, by permutation; NaN where none was asked for, or nothing could be exchanged.
        draws: Permutations that were made.
    """

    auc: Estimate
    values: dict[int, Estimate]
    best: int
    p: float = float("nan")
    draws: int = 0


def told(
    probe: Probe,
    codes: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> Told:
    """AUC of the probe for each value within each fold and label, pooled; and the p-value of no association within labels.

    Target: indicator of the value minus its share in the label. Permutation: values are exchanged among patients with about as
    many images of each label (see :func:`~robustbench_rad.statistics.permutation.how_often`), and among the images of one label
    of a patient with several values. Statistic: mean over the values
    of the correlation of prediction and target within fold and label. Draws stop once twenty were as large: the p-value is
    then ``20 / draws``, else ``(1 + larger) / (1 + draws)``.

    Args:
        probe: See :func:`prepare`.
        codes: ``(N,)`` number of the value, 0 and up, NaN unknown (ignored).
        labels: ``(N,)`` 1, 0 or NaN (ignored); all alike: one stratum.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the permutations.
        draws: Permutations at most; 0 for none.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two values with ten patients each.

    References:
        Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; Golub, Heath and Wahba 1979 (generalised cross-validation),
        doi:10.1080/00401706.1979.10489751; Besag and Clifford 1991, doi:10.1093/biomet/78.2.301.
    """
    truth = np.asarray(labels, dtype=np.float64)[probe.rows]
    code = np.asarray(codes, dtype=np.float64)[probe.rows]
    patient = check_patients(patients, len(np.asarray(labels)), n_patients)[probe.rows]
    shown = _told_apart(code, ~np.isnan(truth), patient)
    truth = np.where(np.isin(code, shown), truth, np.nan)
    known = ~np.isnan(truth)
    shown = shown[1:] if len(shown) == 2 else shown
    stratum = np.where(known, 2 * probe.fold + (truth == 1), -1)
    target = targets_of(code, truth, shown)
    prediction = probe.predict(target[:, None])[:, 0]
    found = {
        value: _area(prediction[:, place], code == value, stratum, patient, n_patients, confidence)
        for place, value in enumerate(shown)
    }
    usable = {value: area for value, area in found.items() if area is not None}
    if not usable:
        raise StatisticsError("no fold and label in which two values occur: more patients are needed")
    best = max(usable, key=lambda value: usable[value].value)
    result = Told(auc=mean_of(list(usable.values())), values=usable, best=best)
    if not draws:
        return result
    p, made = permutation_p(probe, code, truth, patient, stratum, shown, seed, draws)
    return replace(result, p=p, draws=made)


def mean_of(areas: Sequence[Estimate]) -> Estimate:
    """Mean of estimates with the means of their limits, as if they moved together, which is never too narrow."""
    value, lower, upper = (float(np.mean([getattr(a, name) for a in areas])) for name in ("value", "lower", "upper"))
    influence = np.mean([a.influence for a in areas if a.influence is not None], axis=0)
    return replace(areas[0], value=value, lower=lower, upper=upper, influence=influence)


def _told_apart(code: Floats, known: NDArray[np.bool_], patient: Indices) -> list[int]:
    """Values that ten patients or more have.

    Raises:
        StatisticsError: Fewer than two.
    """
    counts = {int(value): len(np.unique(patient[known & (code == value)])) for value in np.unique(code[known])}
    enough = [value for value, count in counts.items() if count >= LEAST]
    if len(enough) < 2:
        raise StatisticsError(
            f"{len(enough)} value{'s' * (len(enough) != 1)} with {LEAST} patients or more of a known label: two are needed"
        )
    return enough


def _area(
    score: Floats, has: NDArray[np.bool_], stratum: Indices, patient: Indices, n_patients: int, confidence: float
) -> Estimate | None:
    """Pooled over the strata that hold both; None where none does."""
    rankings = []
    for number in np.unique(stratum[stratum >= 0]):
        chosen = stratum == number
        if len(np.unique(has[chosen])) == 2:
            found = rank(has[chosen].astype(float), score[chosen], patient[chosen], n_patients)
            rankings.append(replace(found, influence=np.sqrt(SHARED) * found.influence))
    if not rankings:
        return None
    return pooled(rankings, f"{FOLDS} folds of patients, pooled within labels", confidence=confidence)
