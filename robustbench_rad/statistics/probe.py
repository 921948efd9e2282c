"""How well a linear probe tells an attribute from a vector of numbers per case: cross-fitted by patient, ridge, closed form.

What is tested is the whole procedure, choice of the penalty included, repeated for every permutation of the attribute. That is
cheap because everything but the attribute stays the same: one eigendecomposition per fold, then matrix products.
"""

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
from robustbench_rad.statistics.permutation import OFTEN, how_often

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FOLDS = 5
LEAST = 10
"""Patients of a value below which no fold would hold more than one."""
PENALTIES = np.logspace(-3, 4, 15)
"""Ridge penalties tried, in units of the mean variance that a direction has."""
DRAWS = 499
ENOUGH = 20
"""Draws at least as large as what was observed after which no further are made (Besag and Clifford)."""
BATCH = 50
SHARED = 2.0
"""A pair of cases of two folds stands in the fits of both, so without an association the areas of folds move together and the
variance of their sum is twice that of folds fitted on other cases. With one it is less, so this is safe."""
NO_NUMBERS = "the numbers do not vary among the cases"


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
    target = _targets(code, truth, shown)
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
    p, made = _permutation(probe, code, truth, patient, stratum, shown, seed, draws)
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


def _targets(code: Floats, truth: Floats, shown: Sequence[int]) -> Floats:
    """``(n, V)`` indicator minus its share in the label; 0 where the label is not known, which adds nothing to any sum."""
    target = np.zeros((len(code), len(shown)))
    for label in (0.0, 1.0):
        chosen = truth == label
        if chosen.any():
            inside = code[chosen, None] == np.asarray(shown)
            target[chosen] = inside - inside.mean(axis=0)
    return target


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


def _permutation(
    probe: Probe,
    code: Floats,
    truth: Floats,
    patient: Indices,
    stratum: Indices,
    shown: Sequence[int],
    seed: int,
    draws: int,
) -> tuple[float, int]:
    """P-value and the number of permutations that were made; NaN and 0 where there is nothing to exchange."""
    units, unit_code, group = _units(code, truth, patient)
    if len(np.unique(np.column_stack([group, unit_code]), axis=0)) == len(np.unique(group)):
        return float("nan"), 0
    by_group = np.argsort(group, kind="stable")
    means = _stratum_means(stratum)
    generator = np.random.default_rng(seed)
    first = _statistic(probe, _targets(code, truth, shown)[:, None], means, stratum)[0]
    larger = made = 0
    while made < draws:
        batch = min(BATCH, draws - made)
        drawn = np.empty((len(code), batch, len(shown)))
        for number in range(batch):
            mixed = np.lexsort((generator.random(len(group)), group))
            exchanged = np.empty_like(unit_code)
            exchanged[by_group] = unit_code[mixed]
            drawn[:, number] = _targets(exchanged[units], truth, shown)
        at_least = _statistic(probe, drawn, means, stratum) >= first * (1 - 1e-9 * np.sign(first))
        running = larger + np.cumsum(at_least)
        if running[-1] >= ENOUGH:
            stop = made + int(np.argmax(running >= ENOUGH)) + 1
            return ENOUGH / stop, stop
        larger, made = int(running[-1]), made + batch
    return (1 + larger) / (1 + made), made


def _units(code: Floats, truth: Floats, patient: Indices) -> tuple[Indices, Floats, Indices]:
    """What is exchanged: unit of every case, value of every unit, and the group within which units are exchanged.

    A unit is a patient with one value among the cases, or an image of a patient with several.
    """
    _, seen, place = np.unique(patient, return_index=True, return_inverse=True)
    owner = np.argsort(np.argsort(seen))[place]  # in the order of the rows, which no name of a patient changes
    size = len(seen)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(low, owner, code)
    np.maximum.at(high, owner, code)
    single = (low == high)[owner]
    pattern = sum(
        OFTEN**place * how_often(np.bincount(owner, weights=chosen, minlength=size))
        for place, chosen in enumerate((truth == 0, truth == 1, np.isnan(truth)))
    )
    name = np.where(single, owner, size + np.arange(len(code)))
    _, first, unit = np.unique(name, return_index=True, return_inverse=True)
    own = OFTEN**3 + 3 * owner + np.where(np.isnan(truth), 2, truth == 1)
    return unit, code[first], np.where(single, np.asarray(pattern)[owner], own)[first].astype(np.int64)


def _stratum_means(stratum: Indices) -> Floats:
    """``(S, n)`` means over each fold and label."""
    rows = np.array([stratum == number for number in np.unique(stratum[stratum >= 0])], dtype=np.float64)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def _statistic(probe: Probe, targets: Floats, means: Floats, stratum: Indices) -> Floats:
    """``(B,)`` mean over the values of the correlation of prediction and target within fold and label."""
    prediction = probe.predict(targets)
    n, problems, values = targets.shape
    known = stratum >= 0
    place = np.unique(stratum[known], return_inverse=True)[1]

    def centred(table: Floats) -> Floats:
        flat = table.reshape(n, problems * values)
        return np.asarray(flat[known] - (means @ flat)[place])

    one, other = centred(prediction), centred(targets)
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    correlation = np.divide((one * other).sum(axis=0), size, out=np.zeros_like(size), where=size > 1e-12)
    return np.asarray(correlation.reshape(problems, values).mean(axis=1))
