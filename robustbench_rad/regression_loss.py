"""Loss of one metric from a baseline to this run: paired case by case, or of two samples apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.metrics import correct
from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc, auc_difference
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.proportions import mcnemar, paired_difference, proportion

Floats = NDArray[np.float64]
NOW, BEFORE = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Labels and margins of one finding in both runs, on one common index of patients.

    Paired: all of ``(N,)``, row by row the same case. Unpaired: labels of each run, patients of the two apart.
    """

    labels: tuple[Floats, Floats]
    margins: tuple[Floats, Floats]
    patients: tuple[NDArray[np.int64], NDArray[np.int64]]
    n_patients: int
    paired: bool


def loss(sample: Sample, name: str, confidence: float) -> Estimate:
    """Estimate how much a metric lost: baseline minus this run.

    Args:
        sample: Margins of both runs.
        name: ``auroc``, ``sensitivity`` or ``specificity``.
        confidence: Of the interval.

    Raises:
        StatisticsError: One class, no case, or margins that are not numbers; the text is the reason.
    """
    now, before = sample.margins
    if not sample.paired:
        return difference(metric(sample, BEFORE, name, confidence), metric(sample, NOW, name, confidence))
    label = _usable(sample.labels[0], now, before)
    known = ~np.isnan(label)
    if np.array_equal(now[known], before[known]):
        return _identical(sample.n_patients, confidence)
    shared = sample.patients[0], sample.n_patients
    if name == "auroc":
        return auc_difference(label, before, now, *shared, confidence=confidence)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    return paired_difference(correct(name, before), correct(name, now), valid, *shared, confidence=confidence)


def _identical(n_patients: int, confidence: float) -> Estimate:
    """The same margin in every case is the same model, as far as these cases can show."""
    return Estimate(
        value=0.0,
        lower=0.0,
        upper=0.0,
        confidence=confidence,
        method="identical margins",
        influence=np.zeros(n_patients),
    )


def metric(sample: Sample, run: int, name: str, confidence: float) -> Estimate:
    """Estimate a metric of one run (``NOW`` or ``BEFORE``) on its own cases; errors as :func:`loss`."""
    label = _usable(sample.labels[run], sample.margins[run])
    where = sample.patients[run], sample.n_patients
    if name == "auroc":
        return auc(label, sample.margins[run], *where, confidence=confidence)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    return proportion(correct(name, sample.margins[run]), valid, *where, confidence=confidence)


def _usable(label: Floats, *margins: Floats) -> Floats:
    """Labels of the cases that take part in every set of margins; NaN elsewhere."""
    stacked = np.stack(margins)
    usable = np.where(np.isnan(stacked).any(axis=0), np.nan, label)
    broken = int((np.isinf(stacked).any(axis=0) & ~np.isnan(usable)).sum())
    if broken:
        raise StatisticsError(f"a model gave NaN or infinity on {broken} case(s)")
    if np.isnan(usable).all():
        raise StatisticsError("no case with a known label was measured in both runs")
    return usable


def available(sample: Sample, name: str) -> tuple[int, str]:
    """How many cases a metric is limited by, in the smaller of the two runs, and what they are."""
    side, counted = (0.0, "negatives") if name == "specificity" else (1.0, "positives")
    return min(int((label == side).sum()) for label in sample.labels), counted


def discordant(sample: Sample, name: str) -> str:
    """Cases that changed sides and McNemar's test of whether they did so evenly; "" where that says nothing."""
    if not sample.paired or name == "auroc":
        return ""
    label = _usable(sample.labels[NOW], *sample.margins)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    now, before = (correct(name, margins)[valid] for margins in sample.margins)
    lost, gained = int((before & ~now).sum()), int((now & ~before).sum())
    return f"{lost} lost, {gained} won, McNemar p = {mcnemar(lost, gained):.2g}" if lost + gained else ""
