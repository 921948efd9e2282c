"""Counterfactual insertion and removal: what an object beside the anatomy does to the score, beyond its placebo.

Paired per case: Δ_object and Δ_placebo are the margins with the object and with its placebo, minus the margin of the unaltered
image. Two harms at every place, both signs alike:

- *effect*: how far ``mean(Δ_object) / SD(s)`` lies outside of everything between 0 and ``mean(Δ_placebo) / SD(s)``, s being the
  margins of the unaltered images. What the placebo does at its strength, or a weaker one would, is no effect of the object; and
  where only the placebo moves the score, nothing is held against the model.
- *flip*: share of calls at the locked threshold that the object turns over, minus the share that the placebo does.

Which sign, and what object and placebo do each, stands in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.metrics import metric
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Interval, Table
from robustbench_rad.statistics.clusters import count_patients
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm
from robustbench_rad.statistics.paired_effect import beyond_placebo, flip_difference, sign_flip_p, standardised_effect
from robustbench_rad.statistics.proportions import proportion

PLACEBO = ", placebo"
EFFECT, FLIPS = "effect unexplained by placebo", "flips beyond placebo"
LEAST_PATIENTS = 10
QUANTUM = 1e-4  # changes below this share of the SD are rounding, and flip nothing
WATCHED = {"effect": 0.1, "flip": 0.01}  # below the tolerance and yet worth a look
NO_SIGNAL = "the model shows no signal on clean images, so nothing can be said of where it comes from"
Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes of the margins at one place, NaN where it has no meaning; rounding dust is 0.

    Attributes:
        clean: ``(N,)`` margins of the unaltered images.
        real: ``(N,)`` Δ_object.
        placebo: ``(N,)`` Δ_placebo.
    """

    clean: Floats
    real: Floats
    placebo: Floats

    @property
    def known(self) -> NDArray[np.bool_]:
        """Cases that have both."""
        return ~np.isnan(self.real) & ~np.isnan(self.placebo)

    def flipped(self, change: Floats) -> NDArray[np.bool_]:
        """Calls that a change turns over; False where there is none."""
        return np.asarray((self.clean >= 0) != (self.clean + np.nan_to_num(change) >= 0), dtype=np.bool_)


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge effect and flips of every finding; of all places the worst decides."""
    places = [level for level in context.levels.get(check.id, ()) if not level.name.endswith(PLACEBO)]
    rare = _rarely_found(context, check, places)
    comparisons = [
        Comparison(
            finding=finding,
            quantity=quantity,
            harm=harm,
            level=place,
            estimate=partial(make, context, check.id, place.name, finding),
            counted="patients",
            cases=partial(_compared, context, check.id, place.name, finding),
        )
        for finding in context.findings
        for quantity, harm, make in ((EFFECT, "effect", _effect), (FLIPS, "flip", _flips))
        for place in places
        if place.name not in rare
    ]
    if not comparisons:
        comparisons = [_at_most_found(context, check, places, finding) for finding in context.findings]
    p_values = _p_values(context, check, places)
    judged = [_told(item, p_values) for item in judge_jointly(context, check, comparisons)]
    return CheckOutcome(
        judged=judged,
        tables=[_positions(context, check, places, p_values), *_found(context, check, places)],
        notices=[*_unlike_placebos(context, check, places), *rare.values()],
    )


def _rarely_found(context: JudgeContext, check: CheckSpec, places: list[Level]) -> dict[str, str]:
    """What too few patients have for its removal to be judged by what it does, with a notice."""
    rare: dict[str, str] = {}
    for place in places:
        found = context.measured(check.id, "found", place.name)
        patients = count_patients(context.patients[found == 1])
        if np.isfinite(found).any() and patients < LEAST_PATIENTS:
            rare[place.name] = (
                f"{check.id}: {place.name} found in {patients} patients only, {LEAST_PATIENTS} are needed: not judged"
            )
    return rare


def _at_most_found(context: JudgeContext, check: CheckSpec, places: list[Level], finding: str) -> Comparison:
    """Where hardly any image has something to be taken out, no more calls can hang on it than there are such images."""
    measured = np.array([context.measured(check.id, "found", place.name) for place in places])
    looked = np.asarray(np.isfinite(measured).any(0), dtype=np.bool_)

    def share_found(confidence: float) -> Estimate:
        has = np.nan_to_num(measured).any(0)
        found = proportion(has, looked, context.patients, context.n_patients, confidence=confidence)
        return replace(
            found, method=f"{found.method}; share of images with anything to take out, which bounds the flips"
        )

    return Comparison(
        finding=finding,
        quantity=FLIPS,
        harm="flip",
        estimate=share_found,
        counted="patients",
        cases=lambda: looked,
    )


def changes(context: JudgeContext, condition: str, place: str, finding: str) -> Changes:
    """Changes of the margins at one place.

    Raises:
        StatisticsError: It had no meaning for any case, too few patients are left, or the model gave no number.
    """
    clean = context.clean(finding)
    margins = [context.altered(condition, name, finding) for name in (place, place + PLACEBO)]
    broken = int(np.isinf(margins).any(0).sum())
    if broken:
        raise StatisticsError(f"the model gave NaN or infinity on {broken} case(s)")
    quantum = QUANTUM * max(float(np.nanstd(clean)), 1e-12)
    real, placebo = (np.round((altered - clean) / quantum) * quantum for altered in margins)
    both = np.isnan(real) | np.isnan(placebo)
    found = Changes(clean=clean, real=np.where(both, np.nan, real), placebo=np.where(both, np.nan, placebo))
    patients = count_patients(context.patients[found.known])
    if patients < LEAST_PATIENTS:
        why = context.scores.reasons.get((condition, place), "")
        raise StatisticsError(
            f"{patients} patients can be compared, {LEAST_PATIENTS} are needed" + (f" ({why})" if why else "")
        )
    return found


def _compared(context: JudgeContext, condition: str, place: str, finding: str) -> NDArray[np.bool_]:
    margins = [context.margins(condition, name, finding) for name in (place, place + PLACEBO)]
    return np.asarray(np.isfinite(margins).all(0), dtype=np.bool_)


def _effect(context: JudgeContext, condition: str, place: str, finding: str, confidence: float) -> Estimate:
    found = _with_signal(context, condition, place, finding)
    alone, beyond = (partial(_standardised, context, found.clean, d) for d in (found.real, found.real - found.placebo))
    return beyond_placebo(alone, beyond, confidence=confidence)


def _standardised(context: JudgeContext, clean: Floats, change: Floats, confidence: float) -> Estimate:
    return standardised_effect(change, clean, context.patients, context.n_patients, confidence=confidence)


def _flips(context: JudgeContext, condition: str, place: str, finding: str, confidence: float) -> Estimate:
    found = _with_signal(context, condition, place, finding)
    return flip_difference(
        found.flipped(found.real),
        found.flipped(found.placebo),
        found.known,
        context.patients,
        context.n_patients,
        confidence=confidence,
    )


def _with_signal(context: JudgeContext, condition: str, place: str, finding: str) -> Changes:
    found = changes(context, condition, place, finding)
    if metric(context, "auroc", finding, found.clean, context.confidence).lower <= 0.5:
        raise StatisticsError(NO_SIGNAL)
    return found


@dataclass(frozen=True, kw_only=True)
class PValue:
    """Sign-flip p-value of a finding and place, and by Holm over all of the check."""

    p: float
    adjusted: float


def _p_values(context: JudgeContext, check: CheckSpec, places: list[Level]) -> dict[tuple[str, str], PValue]:
    raw: dict[tuple[str, str], float] = {}
    for finding in context.findings:
        for place in places:
            try:
                found = changes(context, check.id, place.name, finding)
            except StatisticsError:
                continue  # the criterion says why
            raw[finding, place.name] = sign_flip_p(
                found.real - found.placebo, context.patients, context.n_patients, seed=context.seed
            )
    adjusted = holm(list(raw.values())) if raw else ()
    return {key: PValue(p=p, adjusted=float(a)) for (key, p), a in zip(raw.items(), adjusted, strict=True)}


def _told(item: Judged, p_values: Mapping[tuple[str, str], PValue]) -> Judged:
    """The criterion with the p-value of its place, and a warning short of a failure."""
    criterion = item.criterion
    harm, place = criterion.harm, criterion.level.name if criterion.level else ""
    if harm.estimate is None:
        return item
    said = [criterion.reason]
    p = p_values.get((criterion.finding, place))
    if p is not None and criterion.quantity == EFFECT:
        said.append(f"object against placebo: sign-flip p {p.p:.2g}, by Holm {p.adjusted:.2g}")
    watched, shown = (WATCHED["effect"], "0.1 SD") if criterion.quantity == EFFECT else (WATCHED["flip"], "1 %")
    tolerance = criterion.tolerance
    if harm.lower is not None and harm.lower > watched and tolerance is not None and harm.lower <= tolerance:
        said.append(f"warning: beyond {shown}")
    return replace(item, criterion=criterion.model_copy(update={"reason": "; ".join(said)}))


def _positions(
    context: JudgeContext, check: CheckSpec, places: list[Level], p_values: Mapping[tuple[str, str], PValue]
) -> Table:
    rows = [
        [finding, place.name, *_row(context, check.id, place.name, finding, p_values.get((finding, place.name)))]
        for finding in context.findings
        for place in places
    ]
    names = [
        "finding",
        "what",
        "x",
        "y",
        "cases",
        "object minus placebo",
        "lower",
        "upper",
        "p",
        "p, Holm",
        "object",
        "placebo",
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Marker positions by effect",
        columns=[*names, "flips", "by placebo", "placebo/object change", "note"],
        rows=rows,
        note="x, y: mean centre of what was changed, in shares of the width and height from the upper left corner. Object "
        "minus placebo: difference of the mean changes of the score, in SD of the score, signed, with its interval; object and "
        f"placebo: each by itself. The judged {EFFECT} has no sign and is never larger: how far object lies outside of "
        "everything between 0 and placebo. Flips: share of calls turned over. The placebo has the same pixels in a neutral "
        "form or place; the last ratio is that of the root mean squares of the two changes, 1 where they are equally strong. "
        "The interval judges: the p-value only says whether there is an effect.",
    )


def _row(context: JudgeContext, condition: str, place: str, finding: str, p: PValue | None) -> list[Cell]:
    x, y = (_mean(context.measured(condition, name, place)) for name in ("x_share", "y_share"))
    try:
        found = changes(context, condition, place, finding)
    except StatisticsError as error:
        return [x, y, 0, *[None] * 9, _ratio(context, condition, place), f"not assessable: {error.message}"]
    shown = _shown(context, found, found.real - found.placebo)
    alone = [_shown(context, found, change).estimate for change in (found.real, found.placebo)]
    flips = [float(found.flipped(change)[found.known].mean()) for change in (found.real, found.placebo)]
    ratio = _ratio(context, condition, place)
    tested = [None, None] if p is None else [p.p, p.adjusted]
    numbers = [shown.estimate, shown.lower, shown.upper, *tested, *alone, *flips, ratio]
    return [x, y, int(found.known.sum()), *numbers, "" if shown.estimate is not None else shown.method]


def _shown(context: JudgeContext, found: Changes, change: Floats) -> Interval:
    make: Callable[[], Estimate] = partial(_standardised, context, found.clean, change, context.confidence)
    return try_interval(make)


def _ratio(context: JudgeContext, condition: str, place: str) -> float | None:
    real, placebo = (context.measured(condition, "change_rms", name) for name in (place, place + PLACEBO))
    strength = _mean(real)
    weaker = _mean(placebo)
    return weaker / strength if strength and weaker is not None else None


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _found(context: JudgeContext, check: CheckSpec, places: list[Level]) -> list[Table]:
    """In how many cases there was something to take out; only for a removal."""
    rows: list[list[Cell]] = []
    for place in places:
        found = context.measured(check.id, "found", place.name)
        if np.isfinite(found).any():
            rows.append([place.name, int(np.isfinite(found).sum()), int(np.nansum(found)), float(np.nanmean(found))])
    if not rows:
        return []
    return [
        Table(
            check=check.id,
            domain=check.domain,
            title="What was found beside the patient",
            columns=["what", "cases", "found in", "share"],
            rows=rows,
            note="Found by brightness, size, place near the border and steepness of the rim; what is not found is not taken "
            "out.",
        )
    ]


def _unlike_placebos(context: JudgeContext, check: CheckSpec, places: list[Level]) -> list[str]:
    """Objects whose placebo changed the image much less, so that less was subtracted than is fair."""
    ratios = {place.name: _ratio(context, check.id, place.name) for place in places}
    weak = [f"{name} ({ratio:.0%})" for name, ratio in ratios.items() if ratio is not None and ratio < 0.7]
    if (
        not weak or check.id == "shortcut.remove-markers"
    ):  # where nothing is, taking out changes little: that is the point
        return []
    return [
        f"{check.id}: the placebo changes the images much less than the object at {', '.join(weak)}, so less than its share "
        "of the effect is taken off"
    ]
