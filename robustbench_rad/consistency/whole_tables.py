"""All confusion tables of whole numbers that fit printed figures: an exact search.

For given positives and TP every rounding interval leaves FP an interval of whole numbers, by one division each: the search
runs over positives and TP only, in exact integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.consistency.figures import FIGURES, Counts, Printed, Row
from robustbench_rad.consistency.report import Reach, Report, conclude

Whole = NDArray[np.int64]

MOST_CASES = 10_000_000
"""With class counts TP alone is searched; beyond this the integers would no longer be exact."""
MOST_UNSPLIT = 2_000
"""Without class counts every split is searched, a number of steps that grows with the square."""
_BLOCK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Found:
    """Tables that fit: for each positives and TP the FP from ``low`` to ``high``."""

    positives: Whole
    tp: Whole
    low: Whole
    high: Whole
    n: int

    @property
    def count(self) -> int:
        """Number of tables."""
        return int((self.high - self.low + 1).sum())

    @property
    def first(self) -> Row | None:
        """One table in the middle, as TP, FP, FN, TN."""
        if not len(self.tp):
            return None
        middle = len(self.tp) // 2
        tp, positives = int(self.tp[middle]), int(self.positives[middle])
        fp = int(self.low[middle] + self.high[middle]) // 2
        return tp, fp, positives - tp, self.n - positives - fp

    def range(self, name: str) -> tuple[float | None, float | None]:
        """Least and greatest value of a figure; with all else fixed it rises or falls with FP, so ends are enough."""
        low, high = [], []
        top, bottom = FIGURES[name]
        for fp in (self.low, self.high):
            table = (self.tp, fp, self.positives - self.tp, self.n - self.positives - fp)
            numerator = sum(weight * part for weight, part in zip(top, table, strict=True))
            denominator = sum(weight * part for weight, part in zip(bottom, table, strict=True))
            defined = denominator > 0
            if np.any(defined):
                values = np.broadcast_to(numerator, fp.shape)[defined] / np.broadcast_to(denominator, fp.shape)[defined]
                low.append(float(values.min()))
                high.append(float(values.max()))
        return (min(low), max(high)) if low else (None, None)


def searchable(counts: Counts) -> bool:
    """Whether a search is possible and cheap."""
    if counts.n is None or counts.n > MOST_CASES:
        return False
    return counts.positives is not None or counts.n <= MOST_UNSPLIT


def whole_tables(printed: Mapping[str, Printed], counts: Counts) -> Report:
    """Search all tables of whole numbers, and those that fit all figures but one."""
    found = search(printed, counts)
    figures = tuple(_reach(name, printed, counts, possible=found.count > 0) for name in printed)
    return conclude(figures, possible=found.count > 0, restricted=True, tables=found.count, example=found.first)


def _reach(name: str, printed: Mapping[str, Printed], counts: Counts, *, possible: bool) -> Reach:
    others = search({other: value for other, value in printed.items() if other != name}, counts)
    low, high = others.range(name)
    return Reach(name=name, printed=printed[name], low=low, high=high, agrees=None if low is None else possible)


def search(printed: Mapping[str, Printed], counts: Counts) -> Found:
    """Find all tables of whole numbers that fit; a figure whose denominator is 0 fits nothing."""
    n = counts.n or 0
    blocks = [_fit(printed, positives, tp, n) for positives, tp in _blocks(counts, n)]
    parts = [np.concatenate(part) for part in zip(*blocks, strict=True)]
    return Found(positives=parts[0], tp=parts[1], low=parts[2], high=parts[3], n=n)


def _blocks(counts: Counts, n: int) -> Iterator[tuple[Whole, Whole]]:
    splits = range(n + 1) if counts.positives is None else (counts.positives,)
    for positives in splits:
        for start in range(0, positives + 1, _BLOCK):
            tp = np.arange(start, min(start + _BLOCK, positives + 1), dtype=np.int64)
            yield np.full_like(tp, positives), tp


def _fit(printed: Mapping[str, Printed], positives: Whole, tp: Whole, n: int) -> tuple[Whole, Whole, Whole, Whole]:
    low, high = np.zeros_like(tp), n - positives
    for name, value in printed.items():
        # In FP: numerator a + b FP, denominator c + d FP.
        a, b = _line(FIGURES[name][0], positives, tp, n)
        c, d = _line(FIGURES[name][1], positives, tp, n)
        least, most = value.ends
        for constant, slope in (
            (value.scale * a - least * c, value.scale * b - least * d),
            (most * c - value.scale * a, most * d - value.scale * b),
            (c - 1, d),
        ):
            low, high = _confine(low, high, constant, slope)
    fits = low <= high
    return positives[fits], tp[fits], low[fits], high[fits]


def _line(row: Row, positives: Whole, tp: Whole, n: int) -> tuple[Whole, int]:
    """A sum of counts as a line in FP, with FN = positives - TP and TN = n - positives - FP."""
    return row[0] * tp + row[2] * (positives - tp) + row[3] * (n - positives), row[1] - row[3]


def _confine(low: Whole, high: Whole, constant: Whole, slope: int) -> tuple[Whole, Whole]:
    """Keep what satisfies ``constant + slope * FP >= 0``."""
    if slope > 0:
        return np.maximum(low, -(constant // slope)), high
    if slope < 0:
        return low, np.minimum(high, constant // -slope)
    return low, np.where(constant >= 0, high, -1)
