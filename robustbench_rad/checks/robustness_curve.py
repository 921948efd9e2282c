"""Robustness curves, shown: how small a change flips a right call, and how many fall to less than the image's own noise.

Every number rests on the smallest radius ε at which the attack flipped each right call. A case that was never flipped is
censored: its ε is larger than the largest level, and quantiles that fall there are given as such. The search gives upper
limits: a stronger attack may flip at less.

Shown, not judged: the ladder reaches to radii at which every undefended model fails, so its worst level says nothing; the
levels that a release must withstand are judged by the attacks that stop there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, shown
from robustbench_rad.checks.metrics import correct, curve
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import mean
from robustbench_rad.statistics.proportions import clopper_pearson, proportion, share

Mask = NDArray[np.bool_]

DIRECTIONS = {"hide": "sensitivity", "create": "specificity"}
QUANTILES = (0.05, 0.5)
DECIMALS = 6
AREA = "area under robust {metric} against log epsilon"
FRAGILE = "{direction}: right calls that flip below the noise of their image"


@dataclass(frozen=True, kw_only=True, eq=False)
class Smallest:
    """What was found for one finding and direction.

    Attributes:
        epsilon: ``(N,)`` smallest radius, in the unit of the levels; infinite where the largest level was withstood.
        right: ``(N,)`` right calls of this direction that could be attacked.
        known: ``(N,)`` cases of this direction, rightly called or not, that could be attacked.
        noise: ``(N,)`` noise of the image in the same unit; NaN where it could not be read.
        levels: Levels that have meaning for some of the cases, mildest first.
        left_out: Right calls that could not be attacked, and why; "" where there are none.
    """

    epsilon: Floats
    right: Mask
    known: Mask
    noise: Floats
    levels: tuple[Level, ...]
    left_out: str = ""

    @classmethod
    def of(cls, context: JudgeContext, check: str, finding: str, direction: str) -> Smallest:
        """Read it from the scores.

        Raises:
            StatisticsError: Nothing could be attacked, the model gave no number, or the curve of a case rises.
        """
        name = DIRECTIONS[direction]
        levels = usable_levels(context, check)
        if not levels:
            raise StatisticsError("no level had a meaning for any case")
        margins = np.stack([context.margins(check, level.name, finding) for level in levels])
        side = context.label(finding) == (1.0 if direction == "hide" else 0.0)
        doubtful = context.measured(check, "non_finite_margin", finding=finding) > 0
        called = correct(name, context.clean(finding)) & side
        broken = int((called & doubtful & np.isnan(margins[-1])).sum())
        if broken:
            raise StatisticsError(f"the model gave NaN or infinity under attack on {broken} case(s)")
        known = side & np.isfinite(margins[-1])
        right = called & known
        beyond = int((called & ~known).sum())
        why = context.scores.reasons.get((check, levels[-1].name), "")
        left_out = f"{beyond} right call(s) could not be attacked{': ' * bool(why)}{why}" if beyond else ""
        if not right.any():
            raise StatisticsError("; ".join(["no correct call that could be flipped", *[left_out] * bool(left_out)]))
        smallest = context.measured(check, "minimal_epsilon", finding=finding)
        epsilon = np.where(np.isnan(smallest), np.inf, smallest)
        _check_monotone(margins, levels, epsilon, right, name)
        noise = context.measured(check, "noise_sd")
        return cls(epsilon=epsilon, right=right, known=known, noise=noise, levels=levels, left_out=left_out)


def usable_levels(context: JudgeContext, check: str) -> tuple[Level, ...]:
    """Levels at which some case of some finding has a margin."""
    return tuple(
        level
        for level in context.levels.get(check, ())
        if any(np.isfinite(context.margins(check, level.name, finding)).any() for finding in context.findings)
    )


def _check_monotone(margins: Floats, levels: tuple[Level, ...], epsilon: Floats, right: Mask, name: str) -> None:
    """A larger ball holds the smaller one: a flip must last, and the smallest radius must lie where the flip is."""
    flipped = ~correct(name, margins) & np.isfinite(margins)
    looked = np.isfinite(margins[:-1]) & np.isfinite(margins[1:])
    recovers = (flipped[:-1] & ~flipped[1:] & looked).any(0)
    slack = 1e-4  # relative: whole grey levels in float32
    inside = np.stack([epsilon <= level.value * (1 + slack) for level in levels])
    disagrees = ((inside != flipped) & np.isfinite(margins)).any(0)
    wrong = int(((recovers | disagrees) & right).sum())
    if wrong:
        raise StatisticsError(
            f"the curve of {wrong} case(s) is not monotone in epsilon: the scores are not to be believed"
        )


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show areas, quantiles and the fraction below the noise, with the curves."""
    judged = []
    for finding in context.findings:
        for direction, metric in DIRECTIONS.items():
            for quantity, make, reason in (
                (AREA.format(metric=metric), area, "1: withstands every level; 0: falls at the smallest, or is wrong"),
                (FRAGILE.format(direction=direction), fragile, "changes that nobody could tell from the image's noise"),
            ):
                make_it = partial(_made, context, check, finding, direction, make)
                judged.append(shown(context, check, finding, quantity, make_it, reason=reason))
    return CheckOutcome(judged=judged, curves=_curves(context, check), tables=[_table(context, check)])


def _made(
    context: JudgeContext,
    check: CheckSpec,
    finding: str,
    direction: str,
    make: Callable[[JudgeContext, Smallest], Estimate],
) -> Estimate:
    return make(context, Smallest.of(context, check.id, finding, direction))


def area(context: JudgeContext, found: Smallest) -> Estimate:
    """Area under the robust sensitivity or specificity against log ε, over the ladder, normalised to [0, 1].

    It is the mean over the cases of ``log(ε / ε_min) / log(ε_max / ε_min)``, clipped to [0, 1], 0 for a wrong call: so
    it has the interval of a mean clustered by patient.

    Raises:
        StatisticsError: One level only, or fewer than two patients.
    """
    low, high = found.levels[0].value, found.levels[-1].value
    if low >= high:
        raise StatisticsError("an area needs at least two levels")
    with np.errstate(divide="ignore"):
        reached = (np.log(found.epsilon) - np.log(low)) / (np.log(high) - np.log(low))
    # Radii are kept in float32: without rounding, calls that all flip at the smallest level would seem to vary.
    reached = np.round(reached, DECIMALS)
    values = np.where(found.known, np.where(found.right, np.clip(reached, 0.0, 1.0), 0.0), np.nan)
    return mean(values, context.patients, context.n_patients, bounds=(0.0, 1.0), confidence=context.confidence)


def fragile(context: JudgeContext, found: Smallest) -> Estimate:
    """Share of right calls that flip at less than one standard deviation of the noise of their own image.

    Where the noise is larger than the largest level and the call withstood it, nobody knows: the lower limit counts such
    cases as withstanding, the upper limit as flipped. Cases whose noise could not be read are left out.

    Raises:
        StatisticsError: The noise of no image could be read.
    """
    counted = found.right & np.isfinite(found.noise)
    if not counted.any():
        raise StatisticsError("the noise of the images could not be read")
    below = np.isfinite(found.epsilon) & (found.epsilon < found.noise)
    open_ = np.isinf(found.epsilon) & (found.noise > found.levels[-1].value)
    make = partial(
        proportion,
        valid=counted,
        patients=context.patients,
        n_patients=context.n_patients,
        confidence=context.confidence,
    )
    least = make(below)
    unknown = int((open_ & counted).sum())
    if not unknown:
        return least
    most = make(below | open_)
    return Estimate(
        value=least.value,
        lower=least.lower,
        upper=most.upper,
        confidence=context.confidence,
        method=f"{least.method}; {unknown} case(s) noisier than the largest level either way",
    )


def quantile(context: JudgeContext, found: Smallest, probability: float) -> Estimate:
    """The ε at which a share of the right calls has flipped; infinite where it is beyond the largest level.

    The interval holds every ε whose share of flipped calls cannot be told from ``probability`` by Clopper and Pearson's
    limits, for as many independent cases as the patients make: order statistics, exact where each patient has one case. No
    distribution is assumed, and censored cases only have to be larger than the largest level.

    Source:
        Woodruff 1952, Confidence intervals for medians and other position measures, doi:10.1080/01621459.1952.10483443.
    """
    ordered = np.sort(found.epsilon[found.right])
    cases = len(ordered)
    value = float(ordered[max(int(np.ceil(probability * cases - 1e-9)), 1) - 1])
    size = share(found.epsilon <= value, found.right, context.patients, context.n_patients).size

    def limit(end: int, flipped: int) -> float:
        return clopper_pearson(flipped / cases * size, size, confidence=context.confidence)[end]

    fewest = bisect_left(range(cases + 1), probability, key=partial(limit, 1))
    most = bisect_right(range(cases + 1), probability, key=partial(limit, 0)) - 1
    return Estimate(
        value=value,
        lower=float(ordered[fewest - 1]) if fewest else 0.0,
        upper=float(ordered[most]) if most < cases else float("inf"),
        confidence=context.confidence,
        method="order statistics" if size == cases else f"order statistics, effective n {size:.1f}",
    )


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows = [_row(context, check, finding, direction) for finding in context.findings for direction in DIRECTIONS]
    levels = usable_levels(context, check.id)
    unit = _reading(context, levels[-1])[1] if levels else "as a share of the display range"
    names = [f"ε{round(100 * p):02d}" for p in QUANTILES]
    numbers = [*names, "area", "below the noise"]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Smallest change that flips a right call",
        columns=[
            "finding",
            "direction",
            "right calls",
            "never flipped",
            "gradient zero",
            *(f"{name}{end}" for name in numbers for end in ("", " lower", " upper")),
            "median noise",
            "note",
        ],
        rows=rows,
        note=f"ε05 and ε50: radius, {unit}, at which 5 % and 50 % of the right calls are flipped, each flip verified; "
        "'>' where that lies beyond the largest level. Area under the robust sensitivity (hide) or specificity (create) "
        "against log ε over the levels, 1 being perfect. Below the noise: right calls that flip at less than one "
        "standard deviation of the noise already in their image.",
    )


def _row(context: JudgeContext, check: CheckSpec, finding: str, direction: str) -> list[Cell]:
    try:
        found = Smallest.of(context, check.id, finding, direction)
    except StatisticsError as error:
        return [finding, direction, *[None] * (4 + 3 * (len(QUANTILES) + 2)), error.message]
    largest = found.levels[-1]
    scale = _reading(context, largest)[0]
    zero = context.measured(check.id, "zero_gradient", finding=finding) > 0
    row: list[Cell] = [finding, direction, int(found.right.sum())]
    row += [int((found.right & np.isinf(found.epsilon)).sum()), int((found.right & zero).sum())]
    for probability in QUANTILES:
        estimate = quantile(context, found, probability)
        row += [_radius(scale * value, largest) for value in (estimate.value, estimate.lower, estimate.upper)]
    notes = [found.left_out]
    for make in (area, fragile):
        *values, note = cells(partial(make, context, found))
        row += values
        notes.append(str(note))
    noise = found.noise[found.right & np.isfinite(found.noise)]
    unread = int(found.right.sum()) - len(noise)
    notes.append(f"noise not read on {unread} case(s)" if unread else "")
    return [
        *row,
        scale * float(np.median(noise)) if len(noise) else None,
        "; ".join(dict.fromkeys(filter(None, notes))),
    ]


def _reading(context: JudgeContext, level: Level) -> tuple[float, str]:
    """What a radius in the unit of a level is multiplied by for the reader, and in which unit that is, in words."""
    if level.unit in ("HU", "% of foreground"):
        return 1.0, f"in {level.unit}"
    if context.range_in is None:
        return 1.0, "as a share of the display range"
    return context.range_in[0], f"in {context.range_in[1]}"


def _radius(value: float, largest: Level) -> Cell:
    return float(value) if np.isfinite(value) else f"> {largest.name}"


def _curves(context: JudgeContext, check: CheckSpec) -> list[Curve]:
    usable = {level.name for level in usable_levels(context, check.id)}
    drawn = [
        curve(context, check, finding, metric, lambda level: level.name in usable)
        for finding in context.findings
        for metric in DIRECTIONS.values()
    ]
    return [found.model_copy(update={"metric": f"robust {found.metric}"}) for found in drawn if found.points]
