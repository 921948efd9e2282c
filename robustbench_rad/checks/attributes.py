"""Metadata columns as attributes: a few values, a continuous quantity, or neither; each says which and why.

A column whose values are all numbers, more than twenty different ones, is continuous (pixel spacing, kVp, age). Any other has
values, of which those carried by ten cases or more can be looked at. Text with more than twenty of them has to be grouped by
who knows what it means: it is named, and not assessable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import Floats, JudgeContext

LEAST_CASES = 10  # a value carried by fewer cases is shown as not powered
MOST_VALUES = 20
NUISANCE = "nuisance"
ROLES = {"nuisance": "nuisance", "risk_factor": "risk factor", "demographic": "demographic"}
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  # units of a DICOM age string

Kind = Literal["categorical", "continuous", "not assessable"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribute:
    """One declared metadata column.

    Attributes:
        column: Its name.
        role: nuisance, risk_factor or demographic.
        kind: Few values, a continuous quantity, or neither.
        text: N values as they were written; "" where missing.
        values: Values with ten cases or more, sorted; none of a continuous one.
        numbers: ``(N,)`` of a continuous one, NaN where missing.
        reason: Why it is not assessable; "" otherwise.
    """

    column: str
    role: str
    kind: Kind
    text: tuple[str, ...]
    values: tuple[str, ...]
    numbers: Floats
    reason: str

    @property
    def assessable(self) -> bool:
        """Whether anything can be asked of it."""
        return not self.reason

    def known(self) -> NDArray[np.bool_]:
        """Cases that have a value."""
        return np.array([value != "" for value in self.text], dtype=np.bool_)

    def missing(self) -> int:
        """Number of cases without a value."""
        return self.text.count("")

    def indicator(self, value: str) -> Floats:
        """1 where the case has the value, 0 where it has another, NaN where it has none."""
        return np.array([np.nan if other == "" else float(other == value) for other in self.text])

    def codes(self) -> Floats:
        """Number of the value in ``values``; NaN where it is missing or carried by too few cases."""
        place = {value: float(index) for index, value in enumerate(self.values)}
        return np.array([place.get(value, np.nan) for value in self.text])

    def filled(self, *, least: int = LEAST_CASES) -> Floats:
        """Number of the value of a categorical one; missing values have the next number, rare ones the one after.

        Args:
            least: Where fewer cases than this are missing (or rare), these are NaN.
        """
        codes, missing = self.codes(), ~self.known()
        for number, chosen in ((len(self.values), missing), (len(self.values) + 1, np.isnan(codes) & ~missing)):
            if chosen.sum() >= least:
                codes[chosen] = number
        return codes

    def grouped(self, parts: int = 5) -> Attribute:
        """A continuous attribute as one of ``parts`` groups of about equal size; a categorical one as it is."""
        if self.kind != "continuous":
            return self
        cuts = np.unique(np.nanquantile(self.numbers, np.linspace(0, 1, parts + 1)[1:-1]))
        place = np.searchsorted(cuts, self.numbers, "left")
        between = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
        names = [f"up to {cuts[0]:g}", *between, f"above {cuts[-1]:g}"]
        text = ["" if np.isnan(x) else names[int(at)] for x, at in zip(self.numbers, place, strict=True)]
        kept = [name for name in dict.fromkeys(names) if text.count(name) >= LEAST_CASES]
        return Attribute(
            column=self.column,
            role=self.role,
            kind="categorical" if len(kept) > 1 else "not assessable",
            text=tuple(text),
            values=tuple(kept),
            numbers=np.full(len(text), np.nan),
            reason="" if len(kept) > 1 else f"{self.column} has no two groups with {LEAST_CASES} cases or more",
        )


def attributes(context: JudgeContext) -> list[Attribute]:
    """Every declared column, in the order of the plan."""
    return [attribute(column, role, context.metadata[column]) for column, role in context.roles.items()]


def attribute(column: str, role: str, text: Sequence[str]) -> Attribute:
    """Look at one column.

    Args:
        column: Its name.
        role: nuisance, risk_factor or demographic.
        text: N values, "" where missing.

    >>> attribute("kVp", "nuisance", [str(60 + i % 40) for i in range(80)]).kind
    'continuous'
    >>> attribute("site", "nuisance", ["A"] * 12 + ["B"] * 12 + ["C"]).values
    ('A', 'B')
    """
    counts = Counter(value for value in text if value)
    values = tuple(sorted(value for value, count in counts.items() if count >= LEAST_CASES))
    numbers = _numbers(text) if len(counts) > MOST_VALUES else None
    kind: Kind = "categorical" if numbers is None else "continuous"
    reason = "" if kind == "continuous" else _unsuitable(column, counts, values)
    return Attribute(
        column=column,
        role=role,
        kind="not assessable" if reason else kind,
        text=tuple(text),
        values=() if kind == "continuous" else values,
        numbers=np.full(len(text), np.nan) if numbers is None else numbers,
        reason=reason,
    )


def _unsuitable(column: str, counts: Counter[str], values: tuple[str, ...]) -> str:
    if len(values) > MOST_VALUES:
        return f"{column} has {len(values)} values: group them, {MOST_VALUES} at most"
    if len(values) >= 2:
        return ""
    few = f"{column} has {len(values)} value{'' if len(values) == 1 else 's'} with {LEAST_CASES} cases or more"
    if len(counts) > MOST_VALUES:
        return f"{few} of {len(counts)} different ones: group them, {MOST_VALUES} at most"
    return f"{few}: two are needed"


def _numbers(text: Sequence[str]) -> Floats | None:
    """The values as finite numbers, NaN where missing; None where one is no number. A DICOM age is a number of years."""
    found = np.full(len(text), np.nan)
    for place, value in enumerate(text):
        if not value:
            continue
        age = re.fullmatch(r"(\d{3})([DWMY])", value)
        try:
            found[place] = float(age[1]) * YEARS[age[2]] if age else float(value)
        except ValueError:
            return None
        if not np.isfinite(found[place]):
            return None
    return found
