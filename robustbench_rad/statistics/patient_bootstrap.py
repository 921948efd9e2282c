"""Patient bootstrap of statistics that are chosen on the data and so are biased by the choice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import student_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def case_weights(patients: Indices, *, draws: int, seed: int) -> Iterator[Floats]:
    """Weight of every case in samples of patients, drawn with replacement with all their images.

    Args:
        patients: ``(N,)`` patient index; only those that occur are drawn.
        draws: Number of samples.
        seed: Of the draws; the same for the same patients, whatever the order of the cases.

    >>> [w.tolist() for w in case_weights(np.array([4, 4, 7]), draws=2, seed=0)]
    [[0.0, 0.0, 2.0], [1.0, 1.0, 1.0]]
    """
    _, owner = np.unique(patients, return_inverse=True)
    count = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(0, count, count), minlength=count)[owner].astype(np.float64)


def corrected_limits(
    value: float, drawn: Floats, *, degrees: float, confidence: float, least_error: float = 0.0
) -> tuple[float, float]:
    """Limits of a statistic that is biased by a choice, ``2 value - mean(drawn) ± t max(sd(drawn), least_error)``.

    A bootstrap repeats the choice on its own samples, so what it adds to the value is what the choice added to the truth.
    The value itself always lies within the limits.

    Args:
        value: On the cases themselves.
        drawn: ``(draws,)`` on samples of patients; NaN where a sample cannot tell.
        degrees: Of Student's quantile.
        confidence: Two-sided confidence level.
        least_error: Standard error known otherwise, as from an influence.

    Raises:
        StatisticsError: Fewer than two samples that can tell.

    >>> limits = corrected_limits(1.0, np.array([1.1, 1.3, 1.2]), degrees=np.inf, confidence=0.95)
    >>> [round(limit, 3) for limit in limits]
    [0.604, 1.0]
    """
    known = drawn[~np.isnan(drawn)]
    if len(known) < 2:
        raise StatisticsError("bootstrap: hardly any sample of the patients holds both classes")
    centre = 2 * value - float(known.mean())
    half = student_quantile(confidence, degrees) * max(float(known.std(ddof=1)), least_error)
    return min(centre - half, value), max(centre + half, value)
