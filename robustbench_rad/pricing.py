"""What an audit will cost, before the first image is altered: passes through the network, an upper bound.

The unit is a forward-equivalent: a forward pass counts one, a backward pass two. Searches that end at the flip cost less
than their price; what was really paid is counted and stands in the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from robustbench_rad.conditions import Condition


@dataclass(frozen=True, kw_only=True)
class Price:
    """Price of one condition.

    Attributes:
        id: Of the condition.
        levels: How many levels it has.
        per_case: Forward-equivalents per case it is applied to, at most.
        cases: Cases it is applied to.
        once: Forward-equivalents of learning from the whole set, before the first image is altered.
        factor: Network passes in one forward-equivalent: several behind a defence that looks more than once.
    """

    id: str
    levels: int
    per_case: float
    cases: int
    factor: float = 1.0
    once: float = 0.0

    @property
    def total(self) -> float:
        """Forward-equivalents in all, at most."""
        return (self.per_case * self.cases + self.once) * self.factor


def prices(
    conditions: Sequence[Condition], *, findings: int, cases: int, factor: float = 1.0, masks: bool = True
) -> tuple[Price, ...]:
    """Price of the unaltered images and of every condition.

    Args:
        conditions: What is done to the images.
        findings: K.
        cases: N.
        factor: Network passes in one forward-equivalent.
        masks: Whether any case may have a mask of the anatomy; without one, what needs it asks nothing and costs nothing.
    """
    if not masks:
        asking = tuple(condition for condition in conditions if not condition.needs_masks)
        conditions = tuple(condition.among(asking) for condition in conditions)
    clean = Price(id="clean", levels=1, per_case=1.0, cases=cases, factor=factor)
    made = (
        Price(
            id=condition.id,
            levels=len(condition.levels),
            per_case=float(condition.passes(findings)) if masks or not condition.needs_masks else 0.0,
            cases=min(cases, condition.sampled_cases(findings) or cases),
            factor=factor,
            once=float(condition.fit_passes(findings, cases)) if condition.needs_fit else 0.0,
        )
        for condition in conditions
    )
    return clean, *made


def sentence(priced: Sequence[Price]) -> str:
    """The price in one line.

    >>> clean = Price(id="clean", levels=1, per_case=1.0, cases=10)
    >>> sentence([clean, Price(id="attack.fgsm", levels=2, per_case=5.0, cases=10)])
    'price: at most 60 forward passes (a backward counts two), 6 a case; the dearest is attack.fgsm with 50'
    """
    total = sum(price.total for price in priced)
    cases = max(price.cases for price in priced)
    dearest = max(priced, key=lambda price: price.total)
    return (
        f"price: at most {total:,.0f} forward passes (a backward counts two), {total / max(1, cases):,.3g} a case; "
        f"the dearest is {dearest.id} with {dearest.total:,.0f}"
    )


def price_table(priced: Sequence[Price]) -> Table:
    """A rich table, dearest first; it fits eighty columns."""
    total = sum(price.total for price in priced)
    learning = any(price.once for price in priced)
    shown = Table(
        title="Price, in forward passes (a backward counts two), at most",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    shown.add_column("condition", overflow="fold")
    for name in ("a case", "cases", *(["to learn"] if learning else []), "in all", "share"):
        shown.add_column(name, justify="right", no_wrap=True)
    for price in sorted(priced, key=lambda price: -price.total):
        shown.add_row(*_cells(price, learning=learning), f"{price.total / total:.0%}")
    shown.add_row("all", *[""] * (2 + learning), f"{total:,.0f}", "")
    return shown


def _cells(price: Price, *, learning: bool) -> tuple[str, ...]:
    each = price.per_case * price.factor
    a_case = f"{each:,.0f}" if each >= 1000 else f"{each:.4g}"
    once = [f"{price.once * price.factor:,.0f}" if price.once else ""] if learning else []
    return price.id, a_case, f"{price.cases:,}", *once, f"{price.total:,.0f}"
