"""The parts of the Brier score with intervals: miscalibration, discrimination, uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from robustbench_rad.statistics.calibration import brier
from robustbench_rad.statistics.calibration_error import brier_parts
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, effective_size
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.means import ALIKE, alike_limits
from robustbench_rad.statistics.patient_bootstrap import case_weights
from robustbench_rad.statistics.proportions import proportion

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

MOST_UNCERTAIN = 0.25


@dataclass(frozen=True, kw_only=True)
class BrierEstimates:
    """Brier score = miscalibration - discrimination + uncertainty, each with its interval.

    Attributes:
        score: Mean of ``(p - y)²``.
        miscalibration: What recalibration would save.
        discrimination: What the recalibrated score saves against always saying the prevalence.
        uncertainty: ``ȳ (1 - ȳ)``.
    """

    score: Estimate
    miscalibration: Estimate
    discrimination: Estimate
    uncertainty: Estimate


def brier_estimates(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    draws: int = 200,
    confidence: float = 0.95,
) -> BrierEstimates:
    """Brier score and its CORP parts, clustered by patient.

    Isotonic recalibration fits the noise too, which lifts miscalibration and discrimination alike. A patient bootstrap
    shows by how much and the limits are moved by it; their width is that of the bootstrap or of the influence
    ``(p - y)² - (g - y)²`` (g recalibrated), the larger. Uncertainty: the image of the prevalence's Wilson interval.
    Where nothing varies, as when every probability is 0 or 1 and right, the limits are those of no event in the
    effective number of cases.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        probabilities: ``(N,)`` in [0, 1] where the label is known.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the draws.
        draws: Bootstrap samples.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients, or a probability outside [0, 1].

    Reference:
        Dimitriadis, Gneiting and Jordan 2021, Stable reliability diagrams for probabilistic classifiers,
        doi:10.1073/pnas.2016191118.

    >>> parts = brier_estimates([1, 0, 0, 0, 0, 1, 1, 1, 1, 0], [0.3] * 5 + [0.7] * 5, range(10), 10, seed=0)
    >>> [round(part.value, 6) for part in (parts.miscalibration, parts.discrimination, parts.uncertainty)]
    [0.01, 0.09, 0.25]
    """
    truth, p = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    score = brier(truth, p, patients, n_patients, confidence=confidence)
    found = brier_parts(truth, p)
    known = ~np.isnan(truth)
    patient = check_patients(patients, len(truth), n_patients)[known]
    truth, p = truth[known], p[known]
    size = effective_size(truth, patient)
    # The rarer outcome carries most of the variance, so its patients set the degrees of freedom.
    degrees = min(count_patients(patient[truth == label]) for label in np.unique(truth)) - 1
    half = student_quantile(confidence, degrees) * score.standard_error
    score = replace(score, lower=max(score.value - half, 0.0), upper=min(score.value + half, 1.0))
    level, place = np.unique(p, return_inverse=True)
    fitted = _recalibrated(truth, place)
    best = (fitted - truth) ** 2
    overfit = _overfit(truth - fitted, p, place, patient, draws=draws, seed=seed)
    chance = float(np.quantile(_overfit(truth - p, p, place, patient, draws=draws, seed=seed), (1 + confidence) / 2))
    drawn = np.array([_saved(truth, level, place, weight) for weight in case_weights(patient, draws=draws, seed=seed)])
    gains = (p - truth) ** 2 - best, (truth - truth.mean()) ** 2 - best
    parts = _Parts(patient=patient, n_patients=n_patients, size=size, degrees=degrees, bias=float(overfit.mean()))
    return BrierEstimates(
        score=_never_certain(score, size, 1.0),
        miscalibration=parts.estimate(
            found.miscalibration, drawn[:, 0], gains[0], 1.0, shown=found.miscalibration > chance, confidence=confidence
        ),
        discrimination=parts.estimate(
            found.discrimination, drawn[:, 1], gains[1], MOST_UNCERTAIN, shown=True, confidence=confidence
        ),
        uncertainty=_uncertainty(truth, patient, n_patients, confidence),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """What the intervals of both parts of a score rest on.

    Attributes:
        patient: ``(n,)`` patient index.
        n_patients: C, patients of the audit.
        size: Effective number of cases.
        degrees: Of freedom.
        bias: What overfitting adds to a part.
    """

    patient: Indices
    n_patients: int
    size: float
    degrees: float
    bias: float

    def estimate(
        self, value: float, samples: Floats, gain: Floats, ceiling: float, *, shown: bool, confidence: float
    ) -> Estimate:
        """A part with its interval, from bootstrap ``samples`` and the ``gain`` of each case; from 0 where not ``shown``."""
        influence = cluster_influence((gain - gain.mean()) / len(gain), self.patient, self.n_patients)
        error = max(float(samples.std(ddof=1)), float(np.sqrt(covariance(influence, influence))))
        half = student_quantile(confidence, self.degrees) * error
        centre = value - self.bias
        made = Estimate(
            value=value,
            lower=min(max(centre - half, 0.0), value) if shown else 0.0,
            upper=max(min(centre + half, ceiling), value),
            confidence=confidence,
            method="patient bootstrap, corrected for overfitting",
            influence=influence,
        )
        return _never_certain(made, self.size, ceiling)


def _overfit(residual: Floats, p: Floats, place: Indices, patients: Indices, *, draws: int, seed: int) -> Floats:
    """``(draws,)`` what isotonic recalibration would save by chance were the model calibrated.

    Outcomes are ``p`` plus the residuals with one random sign per patient (wild cluster bootstrap), so images of a
    patient err together as they do in the data.
    """
    count = np.bincount(place).astype(np.float64)
    level = np.bincount(place, weights=p) / count
    _, owner = np.unique(patients, return_inverse=True)
    generator = np.random.default_rng(seed)
    saved = np.empty(draws)
    for draw in range(draws):
        sign = generator.integers(0, 2, int(owner.max()) + 1) * 2.0 - 1.0
        noise = np.bincount(place, weights=residual * sign[owner]) / count
        change = isotonic_regression(level + noise, weights=count).x - level
        saved[draw] = count @ (2 * noise * change - change**2) / len(p)
    return saved


def _saved(truth: Floats, level: Floats, place: Indices, weight: Floats) -> tuple[float, float]:
    """Miscalibration and discrimination of weighted cases, from sums by equal probability."""
    count = np.bincount(place, weights=weight)
    positive = np.bincount(place, weights=weight * truth)
    used = count > 0
    count, positive, level = count[used], positive[used], level[used]
    total, prevalence = count.sum(), positive.sum() / count.sum()
    fitted = isotonic_regression(positive / count, weights=count).x
    # sum w (q - y)² = sum w q² - 2 q w y + w y, of which the last is the same for every q.
    best = float(fitted @ (count * fitted - 2 * positive))
    given, constant = float(level @ (count * level - 2 * positive)), -float(total * prevalence**2)
    return max((given - best) / total, 0.0), max((constant - best) / total, 0.0)


def _recalibrated(truth: Floats, place: Indices) -> Floats:
    count = np.bincount(place).astype(np.float64)
    fitted = isotonic_regression(np.bincount(place, weights=truth) / count, weights=count).x
    return np.asarray(fitted[place], dtype=np.float64)


def _uncertainty(truth: Floats, patients: Indices, n_patients: int, confidence: float) -> Estimate:
    """``ȳ (1 - ȳ)`` over the interval of the prevalence."""
    share = proportion(truth == 1, np.ones(len(truth), dtype=np.bool_), patients, n_patients, confidence=confidence)
    ends = [limit * (1 - limit) for limit in (share.lower, share.upper)]
    influence = None if share.influence is None else (1 - 2 * share.value) * share.influence
    return Estimate(
        value=share.value * (1 - share.value),
        lower=min(ends),
        upper=MOST_UNCERTAIN if share.lower <= 0.5 <= share.upper else max(ends),
        confidence=confidence,
        method=f"of the prevalence, {share.method}",
        influence=influence,
    )


def _never_certain(estimate: Estimate, size: float, ceiling: float) -> Estimate:
    """Where no case differs from another, any unseen share up to Clopper-Pearson's bound still may."""
    if estimate.upper - estimate.lower > 1e-9:
        return estimate
    lower, upper = alike_limits(estimate.value, size, (0.0, ceiling), confidence=estimate.confidence)
    return replace(estimate, lower=lower, upper=upper, method=ALIKE)
