"""What is printed: figures with their rounding, counts of cases, sums."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

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
MOST_DECIMALS = 9


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
