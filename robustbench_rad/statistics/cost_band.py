"""What the calls cost at each of several thresholds, with a band that holds at all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence
from robustbench_rad.statistics.operating_point import Costs, expected_cost
from robustbench_rad.statistics.proportions import Share, share, share_interval

Floats = NDArray[np.float64]

QUANTILES = (0.1, 0.35, 0.65, 0.9)


def band_thresholds(labels: ArrayLike, margins: ArrayLike) -> Floats:
    """Thresholds that show the whole curve: quantiles of the positives, of the negatives, and the locked one, rising.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        margins: ``(N,)`` log-odds above the locked threshold, which lies at 0.

    Raises:
        StatisticsError: One class only, or a margin that is not finite where the label is known.

    >>> band_thresholds([1, 1, 0, 0], [2.0, 2.0, -1.0, -1.0]).tolist()
    [-1.0, 0.0, 2.0]
    """
    truth, margin = np.asarray(labels, dtype=np.float64), np.asarray(margins, dtype=np.float64)
    classes = [margin[truth == label] for label in (1.0, 0.0)]
    if not all(len(part) and np.isfinite(part).all() for part in classes):
        raise StatisticsError("cost curve: expected both classes and a finite margin for every known label")
    found = [np.quantile(part, QUANTILES, method="inverted_cdf") for part in classes]
    return np.unique(np.concatenate([*found, [0.0]]))


def cost_band(
    labels: ArrayLike,
    margins: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    thresholds: Sequence[float] | Floats,
    prevalence: float,
    costs: Costs,
    seed: int,
    confidence: float = 0.95,
) -> list[Estimate]:
    """Cost per case at thresholds that were not chosen by their cost, jointly (max-T over patients).

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        margins: ``(N,)``; a case is called when its margin reaches the threshold.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        thresholds: T of them.
        prevalence: π.
        costs: Of a miss and of a false alarm.
        seed: Of the multipliers.
        confidence: At which all T intervals hold together.

    Raises:
        StatisticsError: One class only.

    >>> band = cost_band([1, 1, 0, 0] * 50, [2.0, 0.5, 1.0, -1.0] * 50, range(200), 200, thresholds=[0.0, 0.75],
    ...                  prevalence=0.5, costs=Costs(miss=1, false_alarm=1), seed=0)
    >>> [round(cost.value, 6) for cost in band], band[0].confidence > 0.95
    ([0.25, 0.5], True)
    """
    truth, margin = np.asarray(labels, dtype=np.float64), np.asarray(margins, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    rates = [
        (share(margin >= at, truth == 1, patient, n_patients), share(margin < at, truth == 0, patient, n_patients))
        for at in thresholds
    ]
    first = [_cost(pair, prevalence, costs, confidence) for pair in rates]
    influences = [cost.influence for cost in first if cost.influence is not None]
    joint = joint_confidence(np.stack(influences), confidence, seed=seed) if len(influences) > 1 else confidence
    return [_cost(pair, prevalence, costs, joint) for pair in rates]


def _cost(rates: tuple[Share, Share], prevalence: float, costs: Costs, confidence: float) -> Estimate:
    sensitivity, specificity = (share_interval(rate, confidence=confidence) for rate in rates)
    return expected_cost(sensitivity, specificity, prevalence, costs)
