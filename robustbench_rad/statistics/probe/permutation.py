"""How often a probe tells values that were exchanged among patients as well as the true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.statistics.permutation import OFTEN, how_often
from robustbench_rad.statistics.probe.ridge import Probe

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ENOUGH = 20
"""Draws at least as large as what was observed after which no further are made (Besag and Clifford)."""
BATCH = 50


def permutation_p(
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
    first = _statistic(probe, targets_of(code, truth, shown)[:, None], means, stratum)[0]
    larger = made = 0
    while made < draws:
        batch = min(BATCH, draws - made)
        drawn = np.empty((len(code), batch, len(shown)))
        for number in range(batch):
            mixed = np.lexsort((generator.random(len(group)), group))
            exchanged = np.empty_like(unit_code)
            exchanged[by_group] = unit_code[mixed]
            drawn[:, number] = targets_of(exchanged[units], truth, shown)
        at_least = _statistic(probe, drawn, means, stratum) >= first * (1 - 1e-9 * np.sign(first))
        running = larger + np.cumsum(at_least)
        if running[-1] >= ENOUGH:
            stop = made + int(np.argmax(running >= ENOUGH)) + 1
            return ENOUGH / stop, stop
        larger, made = int(running[-1]), made + batch
    return (1 + larger) / (1 + made), made


def targets_of(code: Floats, truth: Floats, shown: Sequence[int]) -> Floats:
    """``(n, V)`` indicator minus its share in the label; 0 where the label is not known, which adds nothing to any sum."""
    target = np.zeros((len(code), len(shown)))
    for label in (0.0, 1.0):
        chosen = truth == label
        if chosen.any():
            inside = code[chosen, None] == np.asarray(shown)
            target[chosen] = inside - inside.mean(axis=0)
    return target


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
