"""Answers from numbers alone: how many cases a question needs, or what the cases in hand can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.power import (
    auc_drop_size,
    auc_size,
    auc_variance,
    design_effect,
    detectable_auc_drop,
    detectable_drop,
    detectable_paired_drop,
    mcnemar_size,
    proportion_half_width,
    proportion_size,
    two_proportion_power,
    two_proportion_size,
)

FLEISS = "Fleiss, Levin & Paik 2003"
CONNOR = "Connor 1987"
HANLEY = "Hanley & McNeil 1982, 1983"


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked; None: not said.

    Attributes:
        sensitivity: Proportion in the first group, or before.
        auroc: AUROC, likewise.
        drop: What is to be found.
        half_width: Of an interval that is to be reached.
        positives: Positives in hand (per group).
        negatives: Negatives in hand; None: ``ratio`` per positive.
        ratio: Negatives per positive.
        discordance: Share of pairs that change either way; None: the drop and 2 % in each direction.
        correlation: ρ of two AUROCs of the same cases.
        alpha: Two-sided level.
        power: Chance of finding the drop.
        comparisons: Comparisons judged together; the level is divided by their number.
        icc: Intraclass correlation of images of one patient.
        cluster_size: Images per patient.

    Raises:
        StatisticsError: A discordance without the drop that it is part of, or below it.
    """

    sensitivity: float | None = None
    auroc: float | None = None
    drop: float | None = None
    half_width: float | None = None
    positives: float | None = None
    negatives: float | None = None
    ratio: float = 10.0
    discordance: float | None = None
    correlation: float = 0.8
    alpha: float = 0.05
    power: float = 0.8
    comparisons: int = 1
    icc: float = 0.0
    cluster_size: float = 1.0

    def __post_init__(self) -> None:
        drop, discordance = self.drop, self.discordance
        if discordance is None:
            return
        if drop is None:
            raise StatisticsError(
                f"discordance: expected the drop it goes with, got {discordance:g} alone", hint="Add --drop."
            )
        if not drop <= discordance <= 1:
            raise StatisticsError(
                f"discordance: expected at least the drop {drop:g} and at most 1, got {discordance:g}"
            )

    @property
    def level(self) -> float:
        """Level of one comparison (Bonferroni)."""
        return self.alpha / self.comparisons

    @property
    def effect(self) -> float:
        """How many times more images are needed when patients give several."""
        return design_effect(self.cluster_size, self.icc)

    @property
    def gained(self) -> float:
        """Share of pairs that turn from wrong to right."""
        if self.discordance is None or self.drop is None:
            return 0.02
        return (self.discordance - self.drop) / 2

    @property
    def negatives_per_positive(self) -> float:
        """As counted where both are in hand, else as supposed."""
        counted = self.negatives is not None and self.positives is not None
        return (self.negatives or 0.0) / (self.positives or 1.0) if counted else self.ratio


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One number.

    Attributes:
        metric: sensitivity or AUROC.
        design: paired (the same cases twice), unpaired (two groups), or one group.
        quantity: What the number is.
        value: The number; None: not reachable.
        unit: positives (of one set), per group, or "" for a probability or a difference.
        source: Where the formula is from.
    """

    metric: str
    design: str
    quantity: str
    value: float | None
    unit: str = ""
    source: str = ""


def answers(question: Question, *, paired: bool | None = None) -> list[Answer]:
    """Answer whatever the given numbers ask; an empty list when they ask nothing.

    Args:
        question: The numbers.
        paired: Only paired or only unpaired designs; None: both.

    Raises:
        StatisticsError: A number outside its range.

    >>> [(a.design, a.value) for a in answers(Question(sensitivity=0.85, drop=0.10))]
    [('unpaired', 250), ('paired', 108)]
    """
    _check(question)
    found = [*_sensitivity(question), *_auroc(question)]
    hidden = {True: "unpaired", False: "paired", None: ""}[paired]
    return [answer for answer in found if answer.design != hidden]


def _check(question: Question) -> None:
    if question.comparisons < 1 or not 0 < question.alpha < 1 or not 0 < question.power < 1:
        raise StatisticsError("expected at least one comparison, and alpha and power between 0 and 1")
    if not 0 <= question.icc <= 1 or question.cluster_size < 1 or question.ratio <= 0:
        raise StatisticsError(
            "expected an ICC from 0 to 1, at least one image per patient and negatives for a positive"
        )
    for name, count in (("positives", question.positives), ("negatives", question.negatives)):
        if count is not None and not count > 0:
            raise StatisticsError(f"{name}: expected a number above 0, got {count:g}")
    drop = question.drop
    for name, level in (("sensitivity", question.sensitivity), ("AUROC", question.auroc)):
        if level is not None and not 0 < level < 1:
            raise StatisticsError(f"{name}: expected a share between 0 and 1, got {level:g}")
        if level is not None and drop is not None and not 0 < drop < level:
            raise StatisticsError(f"drop: expected a number between 0 and the {name} {level:g}, got {drop:g}")


def _sensitivity(ask: Question) -> Iterator[Answer]:
    p = ask.sensitivity
    if p is None:
        return
    if ask.drop is not None:
        yield from _sensitivity_drop(ask, p, ask.drop)
    if ask.positives is not None:
        cases = ask.positives / ask.effect
        least = detectable_drop(p, cases, alpha=ask.level, power=ask.power)
        yield _answer("sensitivity", "unpaired", "smallest detectable drop", least, source=FLEISS)
        least = detectable_paired_drop(p, cases, gained=ask.gained, alpha=ask.level, power=ask.power)
        yield _answer("sensitivity", "paired", "smallest detectable drop", least, source=CONNOR)
    if ask.half_width is not None:
        size = proportion_size(p, ask.half_width, confidence=1 - ask.alpha)
        yield _size("sensitivity", "one group", f"for an interval of ±{ask.half_width:g}", size, ask, "Wald")
    if ask.positives is not None:
        half = proportion_half_width(p, ask.positives / ask.effect, confidence=1 - ask.alpha)
        yield _answer("sensitivity", "one group", "half-width of its interval", half, source="Wald")


def _sensitivity_drop(ask: Question, p: float, drop: float) -> Iterator[Answer]:
    size = two_proportion_size(p, p - drop, alpha=ask.level, power=ask.power)
    yield _size("sensitivity", "unpaired", f"to find a drop of {drop:g}", size, ask, FLEISS, unit="per group")
    pairs = mcnemar_size(ask.gained + drop, ask.gained, alpha=ask.level, power=ask.power)
    yield _size("sensitivity", "paired", f"to find a drop of {drop:g}", pairs, ask, CONNOR)
    if ask.positives is not None:
        power = two_proportion_power(p, p - drop, ask.positives / ask.effect, alpha=ask.level)
        quantity = f"power with {ask.positives:.4g} positives"
        yield _answer("sensitivity", "unpaired", quantity, power, source=FLEISS)


def _auroc(ask: Question) -> Iterator[Answer]:
    area = ask.auroc
    if area is None:
        return
    designs = (("paired", ask.correlation), ("unpaired", 0.0))
    if ask.drop is not None:
        for design, correlation in designs:
            size = auc_drop_size(
                area,
                ask.drop,
                negatives_per_positive=ask.negatives_per_positive,
                correlation=correlation,
                alpha=ask.level,
                power=ask.power,
            )
            yield _size("AUROC", design, f"to find a drop of {ask.drop:g}", size, ask, HANLEY)
    if ask.half_width is not None:
        size = auc_size(
            area, ask.half_width, negatives_per_positive=ask.negatives_per_positive, confidence=1 - ask.alpha
        )
        yield _size("AUROC", "one group", f"for an interval of ±{ask.half_width:g}", size, ask, HANLEY)
    if ask.positives is not None:
        yield from _auroc_in_hand(ask, area, designs)


def _auroc_in_hand(ask: Question, area: float, designs: tuple[tuple[str, float], ...]) -> Iterator[Answer]:
    positives = (ask.positives or 0.0) / ask.effect
    negatives = positives * ask.negatives_per_positive
    for design, correlation in designs:
        drop = detectable_auc_drop(
            area, positives, negatives, correlation=correlation, alpha=ask.level, power=ask.power
        )
        shown = drop if drop <= area - 0.5 else None
        yield _answer("AUROC", design, "smallest detectable drop", shown, source=HANLEY)
    half = normal_quantile(1 - ask.alpha) * math.sqrt(auc_variance(area, positives, negatives))
    yield _answer("AUROC", "one group", "half-width of its interval", half, source=HANLEY)


def _answer(metric: str, design: str, quantity: str, value: float | None, *, source: str) -> Answer:
    return Answer(metric=metric, design=design, quantity=quantity, value=value, source=source)


def _size(
    metric: str, design: str, quantity: str, size: float, ask: Question, source: str, unit: str = "positives"
) -> Answer:
    whole = math.ceil(size * ask.effect - 1e-9)
    return Answer(metric=metric, design=design, quantity=quantity, value=whole, unit=unit, source=source)
