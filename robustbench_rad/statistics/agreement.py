"""How far readers agree, and the band between the worst and the best of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.clusters import check_patients, cluster_influence, count_patients, effective_size
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.proportions import clopper_pearson, proportion

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ReaderBand:
    """Sensitivity and specificity of every reader, and what lies between the least and the most.

    Attributes:
        sensitivities: One per reader; None where it is not defined.
        specificities: Likewise.
        reasons: Reader → why a rate is not defined.
    """

    sensitivities: tuple[Estimate | None, ...]
    specificities: tuple[Estimate | None, ...]
    reasons: dict[int, str]

    @property
    def sensitivity(self) -> tuple[float, float]:
        """Least and largest sensitivity of a reader; NaN when none is defined."""
        return _range(self.sensitivities)

    @property
    def specificity(self) -> tuple[float, float]:
        """Least and largest specificity of a reader; NaN when none is defined."""
        return _range(self.specificities)


def cohen_kappa(
    first: ArrayLike, second: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> Estimate:
    """Cohen's kappa of two readers, ``(p_o - p_e) / (1 - p_e)`` with ``p_e = sum_k p_k q_k``.

    Delta method with patient-clustered variance, on the scale ``log(1 - κ)``, Student quantile. Readers that agree in
    every case keep the Clopper-Pearson bound of their agreement.

    Args:
        first: ``(N,)`` category of the first reader; NaN: not read (the case is ignored).
        second: ``(N,)`` of the second.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients read by both, or both readers say one and the same thing throughout.

    Reference:
        Cohen 1960, A coefficient of agreement for nominal scales, doi:10.1177/001316446002000104.

    >>> first, second = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    >>> round(cohen_kappa(first, second, range(50), 50).value, 4)
    0.4
    """
    ratings = np.column_stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    kept, patient = _read(ratings, patients, n_patients, np.isnan(ratings).sum(axis=1) > 0)
    levels = np.unique(kept)
    a, b = (kept[:, [reader]] == levels for reader in (0, 1))
    agreed = (kept[:, 0] == kept[:, 1]).astype(np.float64)
    p, q = a.mean(axis=0), b.mean(axis=0)
    chance = (a - p) @ q + (b - q) @ p
    return _kappa(agreed, float(p @ q), chance, patient, n_patients, confidence)


def fleiss_kappa(ratings: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95) -> Estimate:
    """Fleiss' kappa of several readers: mean share of agreeing pairs of readers, beyond chance.

    ``P_i = sum_k n_ik (n_ik - 1) / (m_i (m_i - 1))`` over the m_i readers of case i, ``p_e = sum_k p_k²`` with p_k the mean
    share of category k. Cases with fewer than two readings are ignored. Interval as :func:`cohen_kappa`.

    Args:
        ratings: ``(N, R)`` category given by each reader; NaN: not read.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than two patients with two readings, or one category only.

    Reference:
        Fleiss 1971, Measuring nominal scale agreement among many raters, doi:10.1037/h0031619.

    >>> round(fleiss_kappa([[1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]], range(4), 4).value, 4)
    0.3333
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise StatisticsError(f"readers: expected one column per reader, got shape {table.shape}")
    kept, patient = _read(table, patients, n_patients, (~np.isnan(table)).sum(axis=1) < 2)
    levels = np.unique(kept[~np.isnan(kept)])
    counts = (kept[:, :, None] == levels).sum(axis=1)
    readings = counts.sum(axis=1)
    agreed = (counts * (counts - 1)).sum(axis=1) / (readings * (readings - 1))
    share = counts / readings[:, None]
    p = share.mean(axis=0)
    return _kappa(agreed, float(p @ p), 2 * (share - p) @ p, patient, n_patients, confidence)


def reader_band(
    labels: ArrayLike, ratings: ArrayLike, patients: ArrayLike, n_patients: int, *, confidence: float = 0.95
) -> ReaderBand:
    """Sensitivity and specificity of every reader against the reference labels.

    A reader who had a say in the reference agrees with it too well; :func:`majority` of the others has no such bias.

    Args:
        labels: ``(N,)`` reference: 1, 0 or NaN (ignored).
        ratings: ``(N, R)`` 1, 0 or NaN for not read.
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Shapes that do not fit, or a rating other than 1, 0 and NaN.
    """
    truth, table = np.asarray(labels, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(truth):
        raise StatisticsError(f"readers: expected {len(truth)} rows, one column per reader, got {table.shape}")
    if not np.isin(table[~np.isnan(table)], (0.0, 1.0)).all():
        raise StatisticsError("readers: expected 1, 0 or NaN")
    reasons: dict[int, str] = {}

    def rate(reader: int, label: float) -> Estimate | None:
        given = table[:, reader]
        valid = (truth == label) & ~np.isnan(given)
        try:
            return proportion(given == label, valid, patients, n_patients, confidence=confidence)
        except StatisticsError as error:
            reasons[reader] = error.message
            return None

    readers = range(table.shape[1])
    return ReaderBand(
        sensitivities=tuple(rate(reader, 1.0) for reader in readers),
        specificities=tuple(rate(reader, 0.0) for reader in readers),
        reasons=reasons,
    )


def majority(ratings: ArrayLike, *, without: int | None = None) -> Floats:
    """Label most readers give; NaN where none read or as many say yes as no.

    Args:
        ratings: ``(N, R)`` 1, 0 or NaN.
        without: A reader who is left out.

    >>> majority([[1, 1, 0], [1, 0, np.nan]]).tolist(), majority([[1, 0, 0]], without=0).tolist()
    ([1.0, nan], [0.0])
    """
    table = np.asarray(ratings, dtype=np.float64)
    kept = table if without is None else np.delete(table, without, axis=1)
    balance = (kept == 1).sum(axis=1) - (kept == 0).sum(axis=1)
    return np.where(balance == 0, np.nan, (balance > 0).astype(np.float64))


def _read(table: Floats, patients: ArrayLike, n_patients: int, ignored: NDArray[np.bool_]) -> tuple[Floats, Indices]:
    patient = check_patients(patients, len(table), n_patients)[~ignored]
    if count_patients(patient) < 2:
        raise StatisticsError(f"agreement: expected two patients read twice or more, got {count_patients(patient)}")
    return table[~ignored], patient


def _kappa(
    agreed: Floats, expected: float, chance: Floats, patients: Indices, n_patients: int, confidence: float
) -> Estimate:
    """Kappa of mean agreement; ``chance`` holds each case's deviation in the agreement expected by chance."""
    if expected >= 1 - 1e-12:
        raise StatisticsError("agreement: every reading is the same, so agreement beyond chance is not defined")
    observed = float(agreed.mean())
    value = (observed - expected) / (1 - expected)
    deviations = ((agreed - observed) * (1 - expected) - (1 - observed) * chance) / (1 - expected) ** 2 / len(agreed)
    influence = cluster_influence(deviations, patients, n_patients)
    if observed == 1:
        size = effective_size(agreed, patients)
        bound = clopper_pearson(size, size, confidence=confidence)[0]
        limits, method = ((bound - expected) / (1 - expected), 1.0), "Clopper-Pearson of the agreement"
    else:
        half = student_quantile(confidence, count_patients(patients) - 1) * float(
            np.sqrt(covariance(influence, influence))
        )
        factor = float(np.exp(min(half / (1 - value), 700.0)))
        limits = max(1 - (1 - value) * factor, -1.0), 1 - (1 - value) / factor
        method = "Student, clustered, log(1 - kappa)"
    return Estimate(
        value=value,
        lower=min(limits[0], value),
        upper=max(limits[1], value),
        confidence=confidence,
        method=method,
        influence=influence,
    )


def _range(rates: tuple[Estimate | None, ...]) -> tuple[float, float]:
    known = [rate.value for rate in rates if rate is not None]
    return (min(known), max(known)) if known else (float("nan"), float("nan"))
