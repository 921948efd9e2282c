"""What recalibrating at each site would change: fitted on some of its patients, tried on the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.calibration import fit_line
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.folds import patient_folds

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Map = Callable[[Floats], Floats]

FOLDS = 5
METHODS = ("platt", "isotonic")


def recalibrated(
    labels: ArrayLike,
    logits: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    method: str,
    sites: Sequence[str] | None = None,
    seed: int,
    folds: int = FOLDS,
) -> Floats:
    """Probabilities after recalibration at each site, every case by a map that its patient had no part in.

    Patients of a site are dealt into folds in turn, positives first, so that every fold has some of either label where
    the site allows it. A map is fitted on the other folds. A site that has no patient of one label outside a fold
    cannot be recalibrated there: NaN.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (not fitted on, but recalibrated).
        logits: ``(N,)`` finite log-odds of the model.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        method: ``platt`` (slope and intercept) or ``isotonic``.
        sites: N names, "" where unknown (NaN); None: all cases are one site.
        seed: Of the order in which patients are dealt.
        folds: Number of folds.

    Returns:
        ``(N,)`` probabilities.

    Raises:
        StatisticsError: Logits that are not finite, an unknown method, or fewer than two folds.

    Reference:
        Platt 1999, Probabilistic outputs for support vector machines (with his smoothed targets, so that separated
        classes have a fit); Zadrozny and Elkan 2002, doi:10.1145/775047.775151 (isotonic).
    """
    truth, score = np.asarray(labels, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    patient = check_patients(patients, len(truth), n_patients)
    names = np.asarray(["all"] * len(truth) if sites is None else sites, dtype=np.str_)
    if method not in METHODS or folds < 2:
        raise StatisticsError(f"recalibration: expected {' or '.join(METHODS)} and two folds, got {method}, {folds}")
    if score.shape != truth.shape or names.shape != truth.shape or not np.isfinite(score).all():
        raise StatisticsError("recalibration: expected a finite logit and a site for every label")
    fit = _platt if method == "platt" else _isotonic
    found = np.full(len(truth), np.nan)
    for site in sorted(set(names.tolist()) - {""}):
        here = names == site
        fold = patient_folds(truth[here], patient[here], folds, seed)
        found[here] = _cross_fitted(truth[here], score[here], fold, folds, fit)
    return found


def _cross_fitted(
    truth: Floats, score: Floats, fold: Indices, folds: int, fit: Callable[[Floats, Floats], Map]
) -> Floats:
    found = np.full(len(truth), np.nan)
    for number in range(folds):
        held = fold == number
        train = ~held & ~np.isnan(truth)
        if held.any() and len(np.unique(truth[train])) == 2:
            found[held] = fit(truth[train], score[train])(score[held])
    return found


def _platt(truth: Floats, score: Floats) -> Map:
    positives, negatives = (truth == 1).sum(), (truth == 0).sum()
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    if np.ptp(score) == 0:
        return lambda new: np.full(len(new), float(target.mean()))
    centre, spread = score.mean(), score.std()
    (intercept, slope), _ = fit_line((score - centre) / spread, target)
    return lambda new: np.asarray(expit(intercept + slope * (new - centre) / spread), dtype=np.float64)


def _isotonic(truth: Floats, score: Floats) -> Map:
    """Least-squares rising steps, interpolated between scores and level beyond them."""
    level, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rate = np.bincount(place, weights=truth) / count
    fitted = isotonic_regression(rate, weights=count.astype(np.float64)).x
    return lambda new: np.asarray(np.interp(new, level, fitted), dtype=np.float64)
