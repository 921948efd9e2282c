"""What the calls would cost at the cheapest threshold: chosen on the cases, and corrected for the choice."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.statistics.clusters import check_patients, count_patients
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.operating_point import Costs, cost_curve, expected_cost
from robustbench_rad.statistics.patient_bootstrap import case_weights, corrected_limits
from robustbench_rad.statistics.proportions import proportion

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def least_cost(
    labels: ArrayLike,
    margins: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    prevalence: float,
    costs: Costs,
    seed: int,
    draws: int = 200,
    confidence: float = 0.95,
) -> tuple[float, Estimate]:
    """Cheapest threshold on these cases, and the least cost per case that any threshold could have.

    The least of many noisy costs is too favourable. Interval: the patient bootstrap of the minimum, moved by what the
    choice gains in it, joined with the interval of the cost at that threshold; never beyond the cost of calling none or
    all, which a threshold can always have.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        margins: ``(N,)``; a case is called when its margin reaches the threshold.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        prevalence: π.
        costs: Of a miss and of a false alarm.
        seed: Of the draws.
        draws: Bootstrap samples.
        confidence: Two-sided confidence level.

    Returns:
        Threshold (infinite: call none) and cost per case.

    Raises:
        StatisticsError: One class only, or a NaN margin with a known label.

    >>> at, cost = least_cost([1, 1, 0, 0] * 50, [2.0, 0.5, 1.0, -1.0] * 50, range(200), 200,
    ...                       prevalence=0.5, costs=Costs(miss=1, false_alarm=1), seed=0)
    >>> at, cost.value, cost.lower < 0.25 < cost.upper
    (0.5, 0.25, True)
    """
    truth, margin = np.asarray(labels, dtype=np.float64), np.asarray(margins, dtype=np.float64)
    threshold, value = cost_curve(truth, margin, prevalence, costs).least
    patient = check_patients(patients, len(truth), n_patients)
    called = margin >= threshold
    fixed = expected_cost(
        proportion(called, truth == 1, patient, n_patients, confidence=confidence),
        proportion(~called, truth == 0, patient, n_patients, confidence=confidence),
        prevalence,
        costs,
    )
    drawn = _bootstrap(truth, margin, patient, prevalence, costs, draws=draws, seed=seed)
    degrees = min(count_patients(patient[truth == label]) for label in (0.0, 1.0)) - 1
    lower, upper = corrected_limits(value, drawn, degrees=degrees, confidence=confidence)
    return threshold, Estimate(
        value=value,
        lower=max(min(lower, fixed.lower), 0.0),
        upper=max(min(max(upper, fixed.upper), costs.of_constant(prevalence)), value),
        confidence=confidence,
        method="patient bootstrap, corrected for the choice",
        influence=fixed.influence,
    )


def _bootstrap(
    truth: Floats, margin: Floats, patients: Indices, prevalence: float, costs: Costs, *, draws: int, seed: int
) -> Floats:
    """``(draws,)`` least costs of samples of patients; NaN where a sample holds one class only."""
    order = np.flatnonzero(~np.isnan(truth))
    order = order[np.argsort(margin[order], kind="stable")]
    positive, ranked = truth[order] == 1, margin[order]
    below = np.r_[0, np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, len(ranked)]
    drawn = np.full(draws, np.nan)
    for draw, weight in enumerate(case_weights(patients[order], draws=draws, seed=seed)):
        missed = np.r_[0.0, np.cumsum(np.where(positive, weight, 0.0))]
        cleared = np.r_[0.0, np.cumsum(np.where(positive, 0.0, weight))]
        if missed[-1] > 0 and cleared[-1] > 0:
            miss, alarm = missed[below] / missed[-1], 1 - cleared[below] / cleared[-1]
            drawn[draw] = (prevalence * costs.miss * miss + (1 - prevalence) * costs.false_alarm * alarm).min()
    return drawn
