"""Masked anatomy: what the model still knows when the anatomy is gone.

AUROC on masked images says *whether* something outside the anatomy is used, not how much: it is rank-based, so the smallest
weight fixes the ranking. It is therefore read together with the retained spread, SD(masked margins) / SD(clean margins), and
with what the shape of the mask alone tells. The fill is out of distribution, so two of three fills must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks._exempt import is_exempt, judge_others
from robustbench_rad.checks._exempt import notices as exempted
from robustbench_rad.checks._powered import marked
from robustbench_rad.checks.comparisons import Comparison, interval, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.masked_anatomy import WITH
from robustbench_rad.statistics.auc import auc, difference_of_rankings
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import spread_ratio

FILLS = ("atlas-mean", "atlas-blur", "atlas-donor")
SHAPE = "shape-only"
OUTLINES = (SHAPE, "own-mean")
DUST = 0.02  # a negligible planted shortcut retains 0.024 of the spread, rounding dust 0.007
USE = 0.10  # a shortcut worth 0.16 SD retains 0.09, one worth 0.39 SD 0.22
HELD = f"lower limit held at the tolerance, for it is not shown that {USE:.0%} or more of the spread is retained"
DUSTY = f"upper limit 0, for less than {DUST:.0%} of the spread is retained"
CASES = 2  # column of the table
QUANTUM = 1e-4  # margins are rounded to this share of their SD before ranking, so that dust does not rank


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One fill of one finding: AUROC, interval of the AUROC that the mask's shape alone gives, retained spread."""

    fill: str
    auroc: Estimate
    shape: tuple[float, float]
    spread: Estimate

    @property
    def harm(self) -> Estimate:
        """AUROC above what chance and the shape of the mask explain, read together with the retained spread.

        The lower limit is taken above the upper limit of the shape's AUROC, the upper limit above its lower one, so
        fewer cases widen the interval at both ends and never make a pass.
        """
        low, high = (max(0.5, limit) for limit in self.shape)
        value = self.auroc.value - (low + high) / 2
        harm = replace(
            self.auroc,
            value=value,
            lower=min(self.auroc.lower - high, value),
            upper=max(self.auroc.upper - low, value),
            method=f"{self.auroc.method}; above chance and the shape's {low:.3f} to {high:.3f}",
        )
        if self.spread.upper < DUST:  # nothing is left of the score, whatever order the dust is in
            method = f"{harm.method}; {DUSTY}"
            return replace(harm, value=0.0, lower=min(harm.lower, 0.0), upper=0.0, method=method, influence=None)
        return harm


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge each finding by the median of its three fills, and say which columns these cases have no power for."""
    judged, not_powered = marked(context, criteria(context, check))
    shown = _table(context, check)
    return CheckOutcome(
        judged=judged,
        tables=[shown]
        if any(row[CASES] for row in shown.rows)
        else [],  # else the criteria say why there is nothing to show
        notices=[*_lacking(context, check.id), *exempted(context, check.id), *not_powered],
    )


def criteria(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """The criteria alone: two of three fills must agree."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity="AUROC without anatomy, above its shape",
            harm="",
            estimate=partial(_harm, context, check, finding),
            cases=partial(_masked, context, check.id, finding),
        )
        for finding in context.findings
    ]
    return [_told(item) for item in judge_others(context, check, comparisons)]


def _lacking(context: JudgeContext, condition: str) -> list[str]:
    """That some cases have no usable mask of their own; nothing where all or none have."""
    own = np.isfinite(context.measured(condition, "anatomy_outside_atlas_fraction"))
    if own.all() or not own.any():
        return []
    return [
        f"{condition}: {(~own).sum()} of {own.size} cases have no anatomy mask, or an empty one, or one of another size than "
        f"the image: the atlas is of the other {own.sum()}, and so is what the shape of the masks tells"
    ]


def _masked(context: JudgeContext, condition: str, finding: str) -> NDArray[np.bool_]:
    """Cases whose anatomy could be filled in any way."""
    empty = np.isnan([context.margins(condition, fill, finding) for fill in fills_of(context, condition, finding)])
    return np.asarray(~empty.all(axis=0), dtype=np.bool_)


def fills_of(context: JudgeContext, condition: str, finding: str) -> tuple[str, ...]:
    """The fills that judge a finding: those that cover its legitimate region too, where it has one."""
    region = context.legitimate.get(finding, "")
    if not region or is_exempt(context, finding):
        return FILLS
    names = [level.name for level in context.levels.get(condition, ())]
    return tuple(next(name for name in names if name == f"{fill}{WITH}{region.rpartition('/')[2]}") for fill in FILLS)


def _told(item: Judged) -> Judged:
    """The criterion that says which of its limits the retained spread has set."""
    criterion = item.criterion
    set_by_spread = [text for text in (HELD, DUSTY) if text in criterion.harm.method]
    if not set_by_spread:
        return item
    reason = "; ".join([criterion.reason, *set_by_spread])
    return replace(item, criterion=criterion.model_copy(update={"reason": reason}))


def _harm(context: JudgeContext, check: CheckSpec, finding: str, confidence: float) -> Estimate:
    clean = _auroc(context, finding, context.clean(finding), confidence)
    if clean.lower <= 0.5:
        raise StatisticsError(
            "the model shows no signal on clean images, so nothing can be said of where it comes from"
        )
    fills = fills_of(context, check.id, finding)
    readings = [_reading(context, check.id, fill, finding, confidence) for fill in fills]
    ranked = sorted(readings, key=lambda reading: reading.harm.lower)
    middle = ranked[1]
    harm, tolerance = middle.harm, check.delta("")
    # The upper bound that two of three fills keep may belong to another fill than the lower bound that two exceed.
    upper = sorted((reading.harm for reading in readings), key=lambda other: other.upper)[1]
    harm = replace(harm, upper=upper.upper, method=_method(middle, upper))
    if harm.lower > tolerance and sorted(reading.spread.lower for reading in readings)[1] < USE:
        # The order is kept, but it is not shown that more than hardly any spread is: too small a use to fail on, too
        # clear to pass.
        harm = replace(harm, lower=tolerance, method=f"{harm.method}; {HELD}")
    return replace(harm, lower=min(harm.lower, harm.value), upper=max(harm.upper, harm.value))


def _method(middle: Reading, upper: Estimate) -> str:
    """Method of the fill in the middle; of the dust, only what the upper limit owes to it."""
    plain = middle.harm.method.removesuffix(f"; {DUSTY}")
    return f"{plain}; {DUSTY}" if DUSTY in upper.method else plain


def _reading(context: JudgeContext, condition: str, fill: str, finding: str, confidence: float) -> Reading:
    masked = context.altered(condition, fill, finding)
    clean = context.clean(finding)
    return Reading(
        fill=fill,
        auroc=_auroc(context, finding, _rounded(masked, clean), confidence),
        shape=_shape(context, condition, finding, confidence),
        spread=spread_ratio(masked, clean, context.patients, context.n_patients, confidence=confidence),
    )


def _shape(context: JudgeContext, condition: str, finding: str, confidence: float) -> tuple[float, float]:
    """Limits of the AUROC that the shape of the mask alone gives; 0.5 without masks of cases, and where its score is dust.

    Dust has an order too, and one that tells the label would excuse a shortcut that it is no part of.
    """
    margins, clean = context.margins(condition, SHAPE, finding), context.clean(finding)
    if np.isnan(margins).all():
        return 0.5, 0.5
    spread = spread_ratio(margins, clean, context.patients, context.n_patients, confidence=confidence)
    if spread.upper < DUST:
        return 0.5, 0.5
    found = _auroc(context, finding, _rounded(margins, clean), confidence)
    return found.lower, found.upper


def _rounded(masked: Floats, clean: Floats) -> Floats:
    quantum = QUANTUM * max(float(np.nanstd(clean)), 1e-12)
    return np.round(masked / quantum) * quantum


def without_dust(masked: Floats, clean: Floats) -> Floats:
    """Masked margins as they may be ranked: rounded, and all alike where hardly any of the spread is left."""
    seen = ~np.isnan(masked) & ~np.isnan(clean)
    if not seen.any() or float(np.std(masked[seen])) >= DUST * float(np.std(clean[seen])):
        return _rounded(masked, clean)
    return np.where(np.isnan(masked), np.nan, 0.0)


def _auroc(context: JudgeContext, finding: str, margins: Floats, confidence: float) -> Estimate:
    label = usable_labels(context, finding, margins)
    return auc(label, margins, context.patients, context.n_patients, confidence=confidence)


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows: list[list[str | float | int | None]] = []
    for finding in context.findings:
        for level in context.levels.get(check.id, ()):
            rows.append([finding, level.name, *_row(context, check.id, level.name, finding)])
    return Table(
        check=check.id,
        domain=check.domain,
        title="What is left without the anatomy",
        columns=[
            *("finding", "image", "cases", "AUROC", "lower", "upper", "above the outline", "lower", "upper"),
            *("retained spread", "lower", "upper"),
        ],
        rows=rows,
        note="Above the outline: AUROC minus that of shape-only, paired, on the cases that have a mask of their own, dust "
        "counted as 0.5; below 0 where the outline tells more than what lies outside. Retained spread: SD of the margins on "
        "these images over SD on clean images. An AUROC well above 0.5 with a spread wholly below 0.02 is dust. The audit sees "
        "only shortcuts that go with the label in these cases.",
    )


def _row(context: JudgeContext, condition: str, level: str, finding: str) -> list[str | float | int | None]:
    margins, clean = context.margins(condition, level, finding), context.clean(finding)
    known = np.isfinite(margins)
    if not known.any():
        return [0, *[None] * 9]
    try:
        shown = interval(_auroc(context, finding, _rounded(margins, clean), context.confidence))
    except StatisticsError:
        return [int(known.sum()), *[None] * 9]
    above = try_interval(partial(_above_outline, context, condition, level, finding))
    kept = try_interval(
        partial(spread_ratio, margins, clean, context.patients, context.n_patients, confidence=context.confidence)
    )
    made = (shown, above, kept)
    return [int(known.sum()), *(number for one in made for number in (one.estimate, one.lower, one.upper))]


def _above_outline(context: JudgeContext, condition: str, level: str, finding: str) -> Estimate:
    """AUROC of a fill minus that of the outline alone, paired; dust tells nothing, 0.5.

    Raises:
        StatisticsError: A row that shows the outline itself, no case with a mask of its own, or one class.
    """
    if level in OUTLINES:
        raise StatisticsError("the outline is in the image")
    masked, outline = context.margins(condition, level, finding), context.margins(condition, SHAPE, finding)
    masked, outline = (np.where(np.isnan(masked + outline), np.nan, one) for one in (masked, outline))
    label, clean = usable_labels(context, finding, masked), context.clean(finding)
    pair = (context.rank(label, without_dust(one, clean)) for one in (masked, outline))
    return difference_of_rankings(*pair, confidence=context.confidence)
