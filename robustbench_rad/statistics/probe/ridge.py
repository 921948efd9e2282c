"""The probe itself: cross-fitted by patient, ridge, everything that no permutation changes worked out once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FOLDS = 5
PENALTIES = np.logspace(-3, 4, 15)
"""Ridge penalties tried, in units of the mean variance that a direction has."""
NO_NUMBERS = "the numbers do not vary among the cases"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """What a fold needs that no permutation changes.

    Attributes:
        held: ``(n,)`` rows it predicts.
        vectors: ``(R, R)`` eigenvectors of the scatter of the other rows.
        values: ``(R,)`` eigenvalues.
        mean: ``(R,)`` of the other rows.
    """

    held: Indices
    vectors: Floats
    values: Floats
    mean: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A probe of one vector over the cases that have it; see :func:`prepare`.

    Attributes:
        rows: ``(n,)`` cases of the audit that are used.
        design: ``(n, R)`` standardised and turned onto its own axes, which changes no ridge fit.
        fold: ``(n,)``.
        folds: Per fold.
    """

    rows: Indices
    design: Floats
    fold: Indices
    folds: tuple[_Fold, ...]

    def predict(self, targets: Floats) -> Floats:
        """Cross-fitted predictions.

        Args:
            targets: ``(n, B, V)`` B problems of V values each; the penalty of each is its own.

        Returns:
            ``(n, B, V)``.
        """
        n, problems, values = targets.shape
        flat = np.ascontiguousarray(targets.reshape(n, problems * values))
        inner = [self.design[part.held].T @ flat[part.held] for part in self.folds]
        sums = [flat[part.held].sum(axis=0) for part in self.folds]
        squares = [(flat[part.held] ** 2).sum(axis=0) for part in self.folds]
        total, total_sum, total_square = sum(inner), sum(sums), sum(squares)
        out = np.empty_like(flat)
        for number, part in enumerate(self.folds):
            count = n - len(part.held)
            level = (total_sum - sums[number]) / count
            spread = total_square - squares[number] - count * level**2
            turned = part.vectors.T @ (total - inner[number] - count * np.outer(part.mean, level))
            penalty = _best_penalty(part.values, turned, spread, count, values)
            line = part.vectors @ (turned / (part.values[:, None] + penalty))
            out[part.held] = (self.design[part.held] - part.mean) @ line + level
        return out.reshape(targets.shape)


def prepare(vectors: ArrayLike, codes: ArrayLike, patients: ArrayLike) -> Probe:
    """Fit everything that does not depend on the attribute's values.

    A number that is not finite in any of the cases is left out; the others are standardised. With more numbers than cases the
    singular vectors stand in for them (the dual form). Patients are dealt to folds in the order of a fixed combination of their
    numbers, so neither the order of the cases nor their names matter.

    Args:
        vectors: ``(N, F)``.
        codes: ``(N,)`` number of the value, NaN where it is not known (ignored).
        patients: ``(N,)`` patient index.

    Raises:
        StatisticsError: Nothing that varies.
    """
    code, values = np.asarray(codes, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    measured = np.isfinite(values).any(axis=1) if values.shape[1] else np.zeros(len(values), dtype=np.bool_)
    rows = np.flatnonzero(measured & ~np.isnan(code))
    design = _standardised(values[rows])
    mixed = design @ np.cos(np.arange(1, design.shape[1] + 1))
    owner = np.unique(np.asarray(patients)[rows], return_inverse=True)[1]
    key = np.full(owner.max() + 1, np.inf)
    np.minimum.at(key, owner, mixed)
    order = np.lexsort((mixed, key[owner]))
    rows, design, owner = rows[order], _turned(design[order]), owner[order]
    number = np.empty(len(key), dtype=np.int64)
    number[np.argsort(key, kind="stable")] = np.arange(len(key)) % FOLDS
    fold = number[owner]
    if len(key) < 2:
        raise StatisticsError("one patient: two are needed to fit on one and predict the other")
    folds = tuple(_prepared(design, fold, number) for number in range(FOLDS) if (fold == number).any())
    return Probe(rows=rows, design=design, fold=fold, folds=folds)


def _standardised(values: Floats) -> Floats:
    """``(n, F)`` columns of mean 0 and variance 1; those that do not vary, or are not known of every case, are left out."""
    kept = values[:, np.isfinite(values).all(axis=0)]
    spread = kept.std(axis=0) if len(kept) else np.empty(0)
    varies = spread > 1e-9 * (1 + np.abs(kept).max(axis=0, initial=0.0)) if len(kept) else np.zeros(0, dtype=np.bool_)
    if not varies.any():
        raise StatisticsError(NO_NUMBERS)
    return np.asarray((kept[:, varies] - kept[:, varies].mean(axis=0)) / spread[varies])


def _turned(design: Floats) -> Floats:
    """The same inner products with no more columns than cases."""
    if design.shape[1] > design.shape[0]:
        left, size, _ = np.linalg.svd(design, full_matrices=False)
        design = left * size
    return np.ascontiguousarray(design)


def _prepared(design: Floats, fold: Indices, number: int) -> _Fold:
    held = np.flatnonzero(fold == number)
    rest = design[fold != number]
    mean = rest.mean(axis=0)
    values, vectors = np.linalg.eigh((rest - mean).T @ (rest - mean))
    return _Fold(held=held, vectors=vectors, values=np.maximum(values, 0.0), mean=mean)


def _best_penalty(values: Floats, turned: Floats, spread: Floats, count: int, together: int) -> Floats:
    """``(B * V,)`` penalty with the least generalised cross-validation error, the same for all values of a problem.

    ``residual sum / (1 - degrees / n)²``; with ``z`` the turned inner products, the residual sum is
    ``spread - sum z² (d + 2 l) / (d + l)²``.
    """
    penalties = PENALTIES * max(float(values.sum()) / len(values), 1e-12)
    square = turned**2
    errors = []
    for penalty in penalties:
        share = (values + 2 * penalty) / (values + penalty) ** 2
        degrees = float((values / (values + penalty)).sum()) + 1
        residual = np.maximum(spread - share @ square, 0.0).reshape(-1, together).sum(axis=1)
        errors.append(residual / max(1 - degrees / count, 1e-3) ** 2)
    return np.asarray(np.repeat(penalties[np.argmin(errors, axis=0)], together))
