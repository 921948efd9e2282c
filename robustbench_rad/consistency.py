"""Can published figures hold together? Precision, recall, F1 and the like of one confusion table, after rounding.

Every figure here is a ratio of two sums of the counts TP, FP, FN and TN. A printed value confines it to the rounding interval
``value ± half a unit of the last digit``, which is linear in the counts: ``low * denominator <= numerator <= high *
denominator``. Without class counts the counts may be any non-negative numbers, and a linear program answers exactly; with
them they are whole, and a search over all tables answers exactly (see ``consistency_search``).

This holds for the figures of *one* confusion table. Averages over classes or folds (macro, weighted) need not obey it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from robustbench_rad.errors import DataError

Row = tuple[int, int, int, int]

# Numerator and denominator over (TP, FP, FN, TN).
FIGURES: dict[str, tuple[Row, Row]] = {
    "precision": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "recall": ((1, 0, 0, 0), (1, 0, 1, 0)),
    "f1": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "specificity": ((0, 0, 0, 1), (0, 1, 0, 1)),
    "npv": ((0, 0, 0, 1), (0, 0, 1, 1)),
}
DERIVED_FIRST = ("f1", "accuracy", "npv", "precision", "specificity", "recall")
MOST_DECIMALS = 9
# Ranges a hair wider than their whole are what a solver gives for no restriction.
_HAIR = 1e-7


class Consistency(StrEnum):
    """The answer."""

    CONSISTENT = "consistent"
    IMPOSSIBLE = "cannot hold together"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A printed figure: ``digits / 10^decimals``, rounded.

    >>> Printed.read("0.970").low, Printed.read("0.970").high
    (0.9695, 0.9705)
    >>> Printed.read("97.0%").low
    0.9695
    """

    digits: int
    decimals: int

    @property
    def scale(self) -> int:
        """Denominator of the rounding interval."""
        return 2 * int(10**self.decimals)

    @property
    def ends(self) -> tuple[int, int]:
        """Numerators of the rounding interval, within 0 and 1."""
        return max(2 * self.digits - 1, 0), min(2 * self.digits + 1, self.scale)

    @property
    def low(self) -> float:
        """Lower end of the rounding interval."""
        return self.ends[0] / self.scale

    @property
    def high(self) -> float:
        """Upper end of the rounding interval."""
        return self.ends[1] / self.scale

    @property
    def value(self) -> float:
        """What is printed."""
        return 2 * self.digits / self.scale

    def __str__(self) -> str:
        return f"{self.value:.{self.decimals}f}"

    @classmethod
    def read(cls, text: str, *, percent: bool = False, decimals: int | None = None) -> Printed:
        """Read a figure as it is printed; the number of its decimals says how it was rounded.

        Args:
            text: A fraction, or with ``percent`` or a percent sign a percentage.
            percent: Take the number as percent.
            decimals: Decimals that were printed, where trailing zeros have been lost.

        Raises:
            DataError: Not a number, outside [0, 1], or with too many decimals.
        """
        bare = text.strip().removesuffix("%").rstrip()
        percent = percent or text.strip().endswith("%")
        try:
            number = Decimal(bare)
        except InvalidOperation:
            raise DataError(f"expected a number, got {text!r}") from None
        if not number.is_finite() or not 0 <= number <= (100 if percent else 1):
            raise DataError(f"expected a number from 0 to {'100 %' if percent else '1'}, got {text!r}")
        places = max(-int(number.as_tuple().exponent), 0)
        if decimals is not None:
            if places > decimals:
                raise DataError(f"expected at most {decimals} decimals, got {text!r}")
            places = decimals
        if places > MOST_DECIMALS - 2:
            raise DataError(f"expected at most {MOST_DECIMALS - 2} decimals, got {text!r}")
        return cls(digits=int(number.scaleb(places)), decimals=places + (2 if percent else 0))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What is known of the cases: of both classes, of all, or nothing."""

    n: int | None = None
    positives: int | None = None
    negatives: int | None = None

    def complete(self) -> tuple[Counts, str]:
        """The same with the third from two of them, and why they contradict each other, or ""."""
        n, positives, negatives = self.n, self.positives, self.negatives
        if n is not None and positives is not None and negatives is not None and positives + negatives != n:
            return self, f"{positives} positives and {negatives} negatives make {positives + negatives}, not {n}"
        if n is None and positives is not None and negatives is not None:
            n = positives + negatives
        for part in (positives, negatives):
            if n is not None and part is not None and part > n:
                return self, f"{part} of one class are more than all {n} cases"
        if n is not None:
            positives = n - negatives if positives is None and negatives is not None else positives
            negatives = n - positives if negatives is None and positives is not None else negatives
        return Counts(n=n, positives=positives, negatives=negatives), ""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A printed figure and what the others leave it.

    Attributes:
        name: Of the figure.
        printed: As published.
        low: Least value that the others allow; None when they contradict each other.
        high: Greatest.
        agrees: Whether it fits the others; None when the others contradict each other without it.
    """

    name: str
    printed: Printed
    low: float | None
    high: float | None
    agrees: bool | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a row of a published table can be.

    Attributes:
        verdict: The answer.
        reason: One sentence.
        figures: Each printed figure with its reachable range.
        tables: Number of whole-number confusion tables that fit, where they could be searched.
        example: TP, FP, FN, TN of one of them.
        notes: What a reader should know.
    """

    verdict: Consistency
    reason: str
    figures: tuple[Reach, ...] = ()
    tables: int | None = None
    example: Row | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def examine(printed: Mapping[str, Printed], counts: Counts | None = None) -> Report:
    """Say whether printed figures can come from one confusion table.

    Args:
        printed: Figures by their name in ``FIGURES``.
        counts: Number of cases and of each class, as far as known.

    >>> report = examine({name: Printed.read(text) for name, text in
    ...                   [("precision", ".970"), ("recall", ".968"), ("f1", ".967")]})
    >>> str(report.verdict), round(report.figures[2].low, 4), round(report.figures[2].high, 4)
    ('cannot hold together', 0.9685, 0.9695)
    """
    known, conflict = (counts or Counts()).complete()
    if conflict:
        return Report(verdict=Consistency.IMPOSSIBLE, reason=conflict)
    if not printed:
        return Report(verdict=Consistency.UNKNOWN, reason="no figure was given")
    from robustbench_rad.consistency_search import searchable, whole_tables

    if searchable(known):
        return whole_tables(printed, known)
    notes = ("the cases are too many to search without the class counts: whole numbers were not asked for",)
    return _real_tables(printed, notes if known.n is not None else ())


def _real_tables(printed: Mapping[str, Printed], notes: tuple[str, ...]) -> Report:
    possible = _feasible(printed)
    figures = tuple(_real_reach(name, printed, possible) for name in printed)
    return conclude(figures, possible=possible, restricted=_restricted(figures), notes=notes)


def conclude(
    figures: tuple[Reach, ...],
    *,
    possible: bool,
    restricted: bool,
    tables: int | None = None,
    example: Row | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """Put the answer into words."""
    if not possible:
        verdict, reason = Consistency.IMPOSSIBLE, _disagreement(figures)
    elif restricted:
        verdict, reason = Consistency.CONSISTENT, "every printed figure lies within what the others allow"
    else:
        verdict, reason = Consistency.UNKNOWN, "the printed figures do not restrict one another"
    return Report(verdict=verdict, reason=reason, figures=figures, tables=tables, example=example, notes=notes)


def _disagreement(figures: tuple[Reach, ...]) -> str:
    off = {figure.name: figure for figure in figures if figure.low is not None}
    figure = next((off[name] for name in DERIVED_FIRST if name in off), None)
    if figure is None or figure.low is None or figure.high is None:
        return "no confusion table gives these figures, and leaving out one of them does not mend it"
    if figure.printed.low <= figure.high and figure.low <= figure.printed.high:
        return f"no table of whole numbers gives {figure.name} {figure.printed} in these cases"
    allowed = f"{shown(figure.low)} to {shown(figure.high)}"
    return f"{figure.name} is printed {figure.printed}; the rest allows {allowed}"


def shown(value: float | None) -> str:
    """Four decimals and more where they are needed.

    >>> shown(0.9685), shown(0.96850001), shown(0.5), shown(None)
    ('0.9685', '0.9685', '0.5000', '–')
    """
    return "–" if value is None else f"{value:.4f}"


def _restricted(figures: tuple[Reach, ...]) -> bool:
    ranges = [(figure.low, figure.high) for figure in figures]
    return any(low is not None and high is not None and (low > _HAIR or high < 1 - _HAIR) for low, high in ranges)


def _real_reach(name: str, printed: Mapping[str, Printed], possible: bool) -> Reach:
    others = {other: value for other, value in printed.items() if other != name}
    low, high = (_extreme(name, others, 1), _extreme(name, others, -1)) if _feasible(others) else (None, None)
    return Reach(name=name, printed=printed[name], low=low, high=high, agrees=None if low is None else possible)


def _feasible(printed: Mapping[str, Printed]) -> bool:
    """Each figure must have a denominator above 0; the set of tables is convex, so one witness for each suffices."""
    return all(_extreme(name, printed, 0) is not None for name in printed)


def _extreme(name: str, printed: Mapping[str, Printed], sign: int) -> float | None:
    """Least (sign 1) or greatest (sign -1) value of a figure under the others, by the transformation of Charnes and Cooper.

    Figures do not change when all counts are multiplied, so the figure's own denominator may be set to 1; what is left is
    linear. Sign 0 asks only whether there is any.

    Reference:
        Charnes and Cooper 1962, Programming with linear fractional functionals, doi:10.1002/nav.3800090303.
    """
    import numpy as np
    from scipy.optimize import linprog

    numerator, denominator = (np.array(row, dtype=float) for row in FIGURES[name])
    rows = [np.zeros(4)]
    for other, value in printed.items():
        top, bottom = (np.array(row, dtype=float) for row in FIGURES[other])
        rows += [value.low * bottom - top, top - value.high * bottom]
    found = linprog(
        sign * numerator, A_ub=np.array(rows), b_ub=np.zeros(len(rows)), A_eq=denominator[None], b_eq=np.ones(1)
    )
    # + 0.0: no negative zero
    return sign * float(found.fun or 0.0) + 0.0 if found.success else None


def check_sum(text: str) -> tuple[bool, str]:
    """Hold a printed sum against its terms.

    Raises:
        DataError: Not of the form ``a + b = c`` in whole numbers.

    >>> check_sum("6952 + 1676 = 8643")
    (False, '6952 + 1676 = 8628, not 8643 (15 less)')
    >>> check_sum("1,200 + 34 = 1,234")
    (True, '1200 + 34 = 1234')
    """
    left, _, right = text.partition("=")
    try:
        terms = [int(term.strip().replace(",", "")) for term in left.split("+")]
        printed = int(right.strip().replace(",", ""))
    except ValueError:
        raise DataError(f"sum {text!r}: expected whole numbers as in '6952 + 1676 = 8643'") from None
    total, written = sum(terms), " + ".join(map(str, terms))
    if total == printed:
        return True, f"{written} = {total}"
    return False, f"{written} = {total}, not {printed} ({abs(total - printed)} {'less' if total < printed else 'more'})"
