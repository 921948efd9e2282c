"""Does the model serve one group of patients worse than another? Largest gaps whose intervals hold together.

The largest of several noisy differences is biased upwards, so its own spread says little. Every difference gets an
interval at one joint level (multiplier bootstrap of the largest studentised deviation); the largest gap then lies between
the largest lower and the largest upper limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.multiplicity import joint_confidence
from robustbench_rad.statistics.proportions import proportion

Mask = NDArray[np.bool_]
Measure = Callable[[Mask, float], Estimate]

REST = "rest"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One group against another, or against the rest.

    Attributes:
        quantity: What is compared, e.g. sensitivity.
        worse: Group that does worse by the estimate, or the group that stands against the rest.
        better: The other group, or ``rest``.
        estimate: Difference; positive when ``worse`` does worse.
    """

    quantity: str
    worse: str
    better: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest gap among groups.

    Attributes:
        estimate: Its value and joint interval.
        largest: The comparison with the largest difference.
        comparisons: All of them, at the joint level.
        unknown: Group, or ``quantity group``, → why it could not be measured; never dropped silently.
    """

    estimate: Estimate
    largest: Comparison
    comparisons: tuple[Comparison, ...]
    unknown: Mapping[str, str] = field(default_factory=dict)


def worst_versus_rest(
    groups: Sequence[str], measure: Measure, *, quantity: str, seed: int, confidence: float = 0.95
) -> Gap:
    """Each group against all other cases, jointly: ``max_g (metric(rest of g) - metric(g))``.

    Args:
        groups: N group names, "" where unknown (such a case is in no group and in no rest).
        measure: Metric of the cases of an ``(N,)`` mask at a confidence level, larger is better; its estimates share one
            patient index. A StatisticsError it raises becomes the reason in ``unknown``.
        quantity: Name of the metric.
        seed: Of the multipliers.
        confidence: Joint confidence level.

    Raises:
        StatisticsError: Fewer than two groups, or none that can be compared.

    >>> right = np.array([True] * 45 + [False] * 5 + [True] * 30 + [False] * 20)
    >>> def sensitivity(mask, level):
    ...     return proportion(right, mask, range(100), 100, confidence=level)
    >>> gap = worst_versus_rest(["A"] * 50 + ["B"] * 50, sensitivity, quantity="sensitivity", seed=0)
    >>> gap.largest.worse, round(gap.estimate.value, 3), gap.estimate.lower > 0
    ('B', 0.3, True)
    """
    names = np.asarray(groups, dtype=np.str_)
    levels = _levels(names)

    def compare(level: str, at: float) -> Comparison:
        inside = names == level
        rest = measure(~inside & (names != ""), at)
        estimate = difference(rest, measure(inside, at))
        return Comparison(quantity=quantity, worse=level, better=REST, estimate=estimate)

    unknown: dict[str, str] = {}
    known = _measurable(levels, lambda level: compare(level, confidence), unknown)
    joint = _joint(known.values(), confidence, seed)
    return _gap([compare(level, joint) for level in known], unknown)


def rate_gap(
    labels: ArrayLike,
    called: ArrayLike,
    groups: Sequence[str],
    patients: ArrayLike,
    n_patients: int,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Gap:
    """Equalised-odds gap: the largest difference of sensitivity or of specificity between any two groups.

    ``max_{g,h} max(|se_g - se_h|, |sp_g - sp_h|)``. Differences are Newcombe's (MOVER of clustered Wilson intervals, with
    their correlation when patients are in both groups), all at one joint level.

    Args:
        labels: ``(N,)`` 1, 0 or NaN (ignored).
        called: ``(N,)`` boolean, positive at the operating point.
        groups: N group names, "" where unknown (ignored).
        patients: ``(N,)`` patient index.
        n_patients: C, patients of the audit.
        seed: Of the multipliers.
        confidence: Joint confidence level.

    Raises:
        StatisticsError: Fewer than two groups, or none that can be compared.

    Reference:
        Hardt, Price and Srebro 2016, Equality of opportunity in supervised learning, arXiv:1610.02413.

    >>> truth, call = np.tile([1, 0], 100), np.tile([1, 0], 100).astype(bool)
    >>> call[100:150:2] = False  # half of the positives of group B are missed
    >>> gap = rate_gap(truth, call, ["A"] * 100 + ["B"] * 100, range(200), 200, seed=0)
    >>> gap.largest.quantity, gap.largest.worse, gap.estimate.value
    ('sensitivity', 'B', 0.5)
    """
    truth, call = np.asarray(labels, dtype=np.float64), np.asarray(called)
    if call.dtype != np.bool_ or call.shape != truth.shape:
        raise StatisticsError(f"calls: expected booleans of shape {truth.shape}, got {call.dtype} {call.shape}")
    names = np.asarray(groups, dtype=np.str_)
    cells = {
        (rate, level): (right, (truth == label) & (names == level))
        for rate, label, right in (("sensitivity", 1.0, call), ("specificity", 0.0, ~call))
        for level in _levels(names)
    }

    def measure(cell: tuple[str, str], at: float) -> Estimate:
        right, valid = cells[cell]
        return proportion(right, valid, patients, n_patients, confidence=at)

    unknown: dict[str, str] = {}
    first = {}
    for cell in cells:
        try:
            first[cell] = measure(cell, confidence)
        except StatisticsError as error:
            unknown[" ".join(cell)] = error.message
    joint = _joint(_pairs(first), confidence, seed)
    return _gap(_pairs({cell: measure(cell, joint) for cell in first}), unknown)


def _pairs(rates: Mapping[tuple[str, str], Estimate]) -> list[Comparison]:
    made = []
    for (cell, a), (other, b) in combinations(rates.items(), 2):
        if cell[0] == other[0]:
            (low, worse), (high, better) = sorted([(a, cell[1]), (b, other[1])], key=lambda side: side[0].value)
            made.append(Comparison(quantity=cell[0], worse=worse, better=better, estimate=difference(high, low)))
    return made


def _levels(names: NDArray[np.str_]) -> list[str]:
    levels = sorted(set(names.tolist()) - {""})
    if len(levels) < 2:
        raise StatisticsError(f"gap: expected two groups or more, got {len(levels)}")
    return levels


def _measurable(
    levels: Sequence[str], compare: Callable[[str], Comparison], unknown: dict[str, str]
) -> dict[str, Comparison]:
    known = {}
    for level in levels:
        try:
            known[level] = compare(level)
        except StatisticsError as error:
            unknown[level] = error.message
    return known


def _joint(comparisons: Iterable[Comparison], confidence: float, seed: int) -> float:
    rows = [c.estimate.influence for c in comparisons if c.estimate.influence is not None]
    return joint_confidence(np.stack(rows), confidence, seed=seed) if len(rows) > 1 else confidence


def _gap(comparisons: Sequence[Comparison], unknown: Mapping[str, str]) -> Gap:
    """The largest: its limits are the largest lower and the largest upper limit of all."""
    if not comparisons:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unknown.items())
        raise StatisticsError(f"gap: no two groups can be compared ({reasons})")
    largest = max(comparisons, key=lambda c: c.estimate.value)
    bound = max(comparisons, key=lambda c: c.estimate.upper)
    estimate = replace(
        largest.estimate,
        lower=max(c.estimate.lower for c in comparisons),
        upper=bound.estimate.upper,
        influence=bound.estimate.influence,
    )
    return Gap(estimate=estimate, largest=largest, comparisons=tuple(comparisons), unknown=dict(unknown))
