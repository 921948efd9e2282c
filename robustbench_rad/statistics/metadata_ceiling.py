"""How well do metadata alone tell the label: the AUC that a model reaches which reads the scanner and not the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import pooled
from robustbench_rad.statistics.auc import Ranking, auc, rank
from robustbench_rad.statistics.clusters import check_patients
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.folds import patient_folds

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Predict = Callable[[Indices], Floats]

FOLDS = 5
LEAST = 10
"""Cases of each label below which no fold would hold more than one."""
PENALTY = 1.0
"""Ridge on the logistic coefficients: a value seen in positives alone has a finite one."""
STEPS = 50
SHARED = 2.0
"""Two folds agree or not on what a value means, and each is fitted on the other, so without an association their areas move
together: the variance of the sum is exactly twice that of folds fitted on other cases. With one it is less, so this is safe."""


def metadata_auc(
    labels: ArrayLike,
    columns: ArrayLike,
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Estimate:
    """AUC of P(label | metadata).

    One column of two values: the closed form ``(1 + |TPR - FPR|) / 2`` of the counts, which needs no fit but for its sign.
    One column of more values: counts, one column or several: the probability of a case comes from the other folds of
    patients (counts shrunk towards the prevalence by one case; of several columns a ridge logistic regression on
    indicators), so values without a case in them cost nothing and a column of noise gains nothing. The areas of the
    folds are pooled by their inverse variances. Interval: clustered DeLong, score-inverted, of twice the variance that the
    folds have given their fits, since fits share cases.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        columns: ``(N,)`` or ``(N, M)`` numbers of the values, 0 and up; a missing value has a number of its own.
        patients: ``(N,)`` patient index, ``0 .. n_patients - 1``.
        n_patients: C, patients of the audit.
        seed: Of the order in which patients are dealt to folds.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than ten cases of a label, columns that do not vary, or numbers that are not whole.

    References:
        Zech et al. 2018, doi:10.1371/journal.pmed.1002683 (hospital and department alone); LeDell, Petersen and van der Laan
        2015, doi:10.1214/15-EJS1035 (intervals of cross-validated areas).

    >>> label = np.repeat([1.0, 0, 1, 0], [20, 80, 10, 90])  # two sites of prevalence 0.2 and 0.1
    >>> round(metadata_auc(label, np.repeat([0, 1], 100), range(200), 200, seed=0).value, 4)
    0.598
    """
    truth = np.asarray(labels, dtype=np.float64)
    code, patient = _codes(columns, truth), check_patients(patients, len(truth), n_patients)
    code = _varying(code, truth)
    if code.shape[1] == 1 and len(np.unique(code[~np.isnan(truth)])) == 2:
        found = auc(truth, code[:, 0], patient, n_patients, confidence=confidence)
        return found if found.value >= 0.5 else found.affine(scale=-1.0, offset=1.0)
    strata = _held_out(truth, code, patient, n_patients, seed)
    return pooled(strata, f"{len(strata)} folds of patients", confidence=confidence)


def _varying(code: Indices, truth: Floats) -> Indices:
    """The columns that vary among cases with a known label."""
    known = ~np.isnan(truth)
    counts = int((truth == 1).sum()), int((truth == 0).sum())
    if min(counts) < LEAST:
        raise StatisticsError(f"{counts[0]} positives and {counts[1]} negatives: {LEAST} of each are needed")
    varies = [len(np.unique(column[known])) > 1 for column in code.T]
    if not any(varies):
        raise StatisticsError("the metadata do not vary among cases with a known label")
    return code[:, varies]


def _held_out(truth: Floats, code: Indices, patient: Indices, n_patients: int, seed: int) -> list[Ranking]:
    """Each fold of patients ranked by what the others say of its values."""
    fit = _counted if code.shape[1] == 1 else _regressed
    known = ~np.isnan(truth)
    strata = []
    fold = np.where(known, patient_folds(truth, patient, FOLDS, seed), -1)
    for number in range(FOLDS):
        held, train = fold == number, known & (fold != number)
        if len(np.unique(truth[held])) == 2 == len(np.unique(truth[train])):
            score = fit(code[train], truth[train])(code[held])
            ranking = rank(truth[held], score, patient[held], n_patients)
            strata.append(replace(ranking, influence=np.sqrt(SHARED) * ranking.influence))
    if not strata:
        raise StatisticsError("no fold of patients holds both labels: more patients are needed")
    return strata


def _codes(columns: ArrayLike, truth: Floats) -> Indices:
    number = np.asarray(columns, dtype=np.float64)
    code = number[:, None] if number.ndim == 1 else number
    if code.ndim != 2 or len(code) != len(truth) or code.shape[1] == 0:
        raise StatisticsError(f"metadata: expected {len(truth)} rows of values, got shape {number.shape}")
    if not (np.isfinite(code).all() and (code >= 0).all() and (code == np.round(code)).all()):
        raise StatisticsError("metadata: expected whole numbers, 0 and up")
    return code.astype(np.int64)


def _counted(code: Indices, truth: Floats) -> Predict:
    """Share of positives of each value, shrunk towards that of all by one case."""
    prevalence, last = float(truth.mean()), int(code.max()) + 1
    positives = np.bincount(code[:, 0], weights=truth, minlength=last)
    share = (positives + prevalence) / (np.bincount(code[:, 0], minlength=last) + 1)

    def predict(new: Indices) -> Floats:
        seen = new[:, 0] < last
        return np.where(seen, share[np.where(seen, new[:, 0], 0)], prevalence)

    return predict


def _regressed(code: Indices, truth: Floats) -> Predict:
    """Ridge logistic regression on an indicator of every value; log-odds. A value that is new adds nothing."""
    levels = [np.unique(column) for column in code.T]

    def design(rows: Indices) -> Floats:
        parts = [row[:, None] == known for row, known in zip(rows.T, levels, strict=True)]
        return np.column_stack([np.ones(len(rows)), *parts]).astype(np.float64)

    line = _ridge(design(code), truth)
    return lambda new: np.asarray(design(new) @ line, dtype=np.float64)


def _ridge(design: Floats, truth: Floats) -> Floats:
    """Newton's steps to the penalised maximum, halved where one overshoots; the intercept is not penalised."""
    penalty = np.full(design.shape[1], PENALTY)
    penalty[0] = 1e-9
    line = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        margin = design @ at
        return float(np.logaddexp(0, margin).sum() - truth @ margin + (penalty * at * at).sum() / 2)

    best = loss(line)
    for _ in range(STEPS):
        p = expit(design @ line)
        slope = design.T @ (truth - p) - penalty * line
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty), slope)
        if np.abs(step).max() < 1e-8:
            break
        while loss(line + step) > best + 1e-9 and np.abs(step).max() > 1e-8:
            step = step / 2
        line = line + step
        best = loss(line)
    return line
