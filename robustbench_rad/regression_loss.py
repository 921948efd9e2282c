"""Loss of one metric from a baseline to this run: paired case by case, or of two samples apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.metrics import correct
from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.auc import auc, auc_difference
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.proportions import mcnemar, paired_difference, proportion

Floats = NDArray[np.float64]
NOW, BEFORE = 0, 1
TELLING = "telling"
"""How far the score tells an attribute within a label: |label-conditional AUROC - 0.5|."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Labels and margins of one finding in both runs, on one common index of patients.

    Paired: all of ``(N,)``, row by row the same case. Unpaired: labels of each run, patients of the two apart. A case that
    takes no part (unknown label, other subgroup) has the label NaN. Attributes, for ``telling``: 1, 0 or NaN.
    """

    labels: tuple[Floats, Floats]
    margins: tuple[Floats, Floats]
    patients: tuple[NDArray[np.int64], NDArray[np.int64]]
    n_patients: int
    paired: bool
    attributes: tuple[Floats, Floats] | None = None


def loss(sample: Sample, name: str, confidence: float) -> Estimate:
    """Estimate how much a metric lost: baseline minus this run.

    Args:
        sample: Margins of both runs.
        name: ``auroc``, ``sensitivity``, ``specificity`` or ``telling``.
        confidence: Of the interval.

    Raises:
        StatisticsError: One class, no case, or margins that are not numbers; the text is the reason.
    """
    now, before = sample.margins
    if not sample.paired:
        if name == TELLING:
            return _difference_of_distances(
                _telling(_usable(sample.labels[BEFORE], before), before, sample, BEFORE, confidence),
                _telling(_usable(sample.labels[NOW], now), now, sample, NOW, confidence),
            )
        return difference(metric(sample, BEFORE, name, confidence), metric(sample, NOW, name, confidence))
    label = _usable(sample.labels[0], now, before)
    if identical(sample):
        return _nothing(sample.n_patients, confidence)
    shared = sample.patients[0], sample.n_patients
    if name == TELLING:
        told = [_telling(label, margins, sample, NOW, confidence) for margins in (before, now)]
        return _difference_of_distances(*told, degrees=_least_patients(label, sample) - 1)
    if name == "auroc":
        return auc_difference(label, before, now, *shared, confidence=confidence)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    return paired_difference(correct(name, before), correct(name, now), valid, *shared, confidence=confidence)


def identical(sample: Sample) -> bool:
    """Whether both runs gave the same margin in every case with a label: the same model, as far as these can show."""
    if not sample.paired:
        return False
    now, before = sample.margins
    known = ~np.isnan(sample.labels[0]) & ~(np.isnan(now) & np.isnan(before))
    return bool(known.any()) and np.array_equal(now[known], before[known])


def _nothing(n_patients: int, confidence: float) -> Estimate:
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
    margins = sample.margins[run]
    label = _usable(sample.labels[run], margins)
    where = sample.patients[run], sample.n_patients
    if name == TELLING:
        return _telling(label, margins, sample, run, confidence).folded(centre=0.5)
    if name == "auroc":
        return auc(label, margins, *where, confidence=confidence)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    return proportion(correct(name, margins), valid, *where, confidence=confidence)


def _telling(label: Floats, margins: Floats, sample: Sample, run: int, confidence: float) -> Estimate:
    assert sample.attributes is not None  # who asks for ``telling`` gives them
    return conditional_auc(
        label,
        margins,
        sample.attributes[run],
        sample.patients[run],
        sample.n_patients,
        confidence=confidence,
    )


def _difference_of_distances(first: Estimate, second: Estimate, *, degrees: float | None = None) -> Estimate:
    """``|a - 0.5| - |b - 0.5|``, MOVER of the two, wherever they lie about 0.5.

    A side is known where the interval does not hold 0.5. Where that of b is not, ``|b - 0.5|`` is at least b's distance
    towards the side of a, which bounds the difference from above; likewise from below. So where neither is known the
    limits are those of the largest change, ``||a - 0.5| - |b - 0.5|| <= |a - b|``, and two models that hardly differ keep
    a short interval.
    """
    near, far = _sides(first), _sides(second)

    def apart(one: float, other: float) -> Estimate:
        distances = first.affine(scale=one, offset=-0.5 * one), second.affine(scale=other, offset=-0.5 * other)
        return difference(*distances, degrees=degrees)

    return replace(
        difference(first.folded(centre=0.5), second.folded(centre=0.5)),
        lower=min(apart(near[0] if len(near) == 1 else side, side).lower for side in far),
        upper=max(apart(side, far[0] if len(far) == 1 else side).upper for side in near),
    )


def _sides(estimate: Estimate) -> tuple[float, ...]:
    """Sides of 0.5 on which the truth may lie."""
    if estimate.lower > 0.5:
        return (1.0,)
    return (-1.0,) if estimate.upper < 0.5 else (1.0, -1.0)


def _least_patients(label: Floats, sample: Sample) -> int:
    """Patients on the rarer side of the attribute: they carry the variance."""
    assert sample.attributes is not None
    sides = [~np.isnan(label) & (sample.attributes[NOW] == side) for side in (0.0, 1.0)]
    return min(len(np.unique(sample.patients[NOW][side])) for side in sides)


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


def unmeasured(sample: Sample) -> str:
    """How many cases with a known label take no part for want of a margin, in words; "" when none."""
    missing = [np.isnan(m) & ~np.isnan(label) for label, m in zip(sample.labels, sample.margins, strict=True)]
    if sample.paired:
        neither = int((missing[NOW] & missing[BEFORE]).sum())
        one = int((missing[NOW] ^ missing[BEFORE]).sum())
    else:
        neither, one = 0, int(missing[NOW].sum() + missing[BEFORE].sum())
    words = {"one of the runs": one, "either run": neither}
    return ", ".join(f"{count} case(s) not measured in {where}" for where, count in words.items() if count)


def available(sample: Sample, name: str) -> tuple[int, str]:
    """How many cases a metric is limited by, in the smaller of the two runs, and what they are."""
    if name == TELLING:
        assert sample.attributes is not None
        pairs = list(zip(sample.labels, sample.attributes, strict=True))
        sides = [int((~np.isnan(label) & (trait == side)).sum()) for label, trait in pairs for side in (0.0, 1.0)]
        return min(sides), "cases of the rarer value"
    side, counted = (0.0, "negatives") if name == "specificity" else (1.0, "positives")
    return min(int((label == side).sum()) for label in sample.labels), counted


def discordant(sample: Sample, name: str) -> str:
    """Cases that changed sides and McNemar's test of whether they did so evenly; "" where that says nothing."""
    if not sample.paired or name not in ("sensitivity", "specificity"):
        return ""
    label = _usable(sample.labels[NOW], *sample.margins)
    valid = label == (1.0 if name == "sensitivity" else 0.0)
    now, before = (correct(name, margins)[valid] for margins in sample.margins)
    lost, gained = int((before & ~now).sum()), int((now & ~before).sum())
    return f"{lost} lost, {gained} won, McNemar p = {mcnemar(lost, gained):.2g}" if lost + gained else ""
