"""Tubes taken out of the organ: is the dependence of the score on a nuisance column gone with them?

A score may depend on a column for many reasons; without an intervention that is no shortcut. Here the intervention takes thin
bright lines out. With *told* = the AUROC of the score for a value of the column among cases of the same label, the harm is the
smaller of the dependence and what of it the lines carry::

    min(|told(s) - 0.5|, sign(told(s) - 0.5) * (told(s with the placebo) - told(s without the lines)))

paired on the same cases; both must be shown. Edges of ribs are taken out too, with the value and without it alike; where the
column tells nothing of the lines, taking them out takes nothing from it. Tolerance and scale are those of scanner dependence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks._nuisance_columns import Asked, asked
from robustbench_rad.checks.attributes import NUISANCE, attributes
from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, shown
from robustbench_rad.checks.insertion import LEAST_PATIENTS, NO_SIGNAL, PLACEBO, QUANTUM
from robustbench_rad.checks.metrics import metric, usable_labels
from robustbench_rad.checks.scanner_dependence import NO_COLUMN as NO_NUISANCE
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.remove_tubes import NAME
from robustbench_rad.statistics.clusters import count_patients
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.paired_effect import standardised_effect
from robustbench_rad.statistics.proportions import proportion
from robustbench_rad.statistics.rank_correlation import AUC_SCALE

OWED, EFFECT = "dependence owed to tubes", "effect of taking tubes out"
TOLD = ("as it is", "placebo", "without")
NO_MASK = (
    "no case has an anatomy mask to look for lines in: declare [data.anatomy] with masks of the organ, of the size of the "
    "images, neither empty nor inverted"
)
AT_MOST = f"lines in fewer than {LEAST_PATIENTS} patients: at most the share of the images that have one"
NO_COLUMN = f"{NO_NUISANCE}; it says what a tube might go with"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Margins of one finding; where no line was found those of the unaltered image.

    Attributes:
        clean: ``(N,)`` of the unaltered images.
        without: ``(N,)`` without the lines.
        placebo: ``(N,)`` with gaps of the same form beside them.
        found: ``(N,)`` whether there was a line.
    """

    clean: Floats
    without: Floats
    placebo: Floats
    found: NDArray[np.bool_]


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge every value of every nuisance column; show what taking the lines out does by itself."""
    effects = [_effect(context, check, finding) for finding in context.findings]
    judged = [_told(context, check, item) for item in criteria(context, check)]
    tables = [_effects(context, check), *([_table(context, check)] if asked(context) else [])]
    return CheckOutcome(judged=[*judged, *effects], tables=tables, notices=_unsearched(context, check))


def criteria(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """What is judged: the columns."""
    columns = [column for column in attributes(context) if column.role == NUISANCE]
    refused = {column.column: column.reason for column in columns if not column.assessable}
    comparisons = [
        *(_comparison(context, check, finding, column) for finding in context.findings for column in asked(context)),
        *(
            Comparison(finding=finding, quantity=OWED, harm="", subgroup=column, estimate=partial(_refuse, reason))
            for finding in context.findings
            for column, reason in (refused if columns else {"": NO_COLUMN}).items()
        ),
    ]
    return judge_jointly(context, check, comparisons)


def _comparison(context: JudgeContext, check: CheckSpec, finding: str, column: Asked) -> Comparison:
    searched = np.isfinite(context.measured(check.id, "found", NAME))
    return Comparison(
        finding=finding,
        quantity=OWED,
        harm="",
        subgroup=column.subgroup,
        estimate=partial(_owed, context, check.id, finding, column),
        counted="patients",
        cases=lambda: np.asarray(column.attribute.known() & searched, dtype=np.bool_),
    )


def _refuse(reason: str, _confidence: float) -> Estimate:
    raise StatisticsError(reason)


def _unsearched(context: JudgeContext, check: CheckSpec) -> list[str]:
    """How many cases take no part; nothing where all or none do."""
    searched = np.isfinite(context.measured(check.id, "found", NAME))
    if searched.all() or not searched.any():
        return []
    return [
        f"{check.id}: {(~searched).sum()} of {searched.size} cases have no anatomy mask to look for lines in, and take no part"
    ]


def _scores(context: JudgeContext, condition: str, finding: str) -> Scores:
    has_line = context.measured(condition, "found", NAME)
    if not np.isfinite(has_line).any():
        raise StatisticsError(NO_MASK)
    clean = np.where(np.isfinite(has_line), context.clean(finding), np.nan)
    altered = [context.margins(condition, name, finding) for name in (NAME, NAME + PLACEBO)]
    if np.isinf(altered).any():
        raise StatisticsError(f"the model gave NaN or infinity on {int(np.isinf(altered).any(0).sum())} case(s)")
    found = np.asarray(~np.isnan(altered).any(0), dtype=np.bool_)
    quantum = QUANTUM * max(float(np.nanstd(clean)), 1e-12)
    without, placebo = (np.where(found, clean + np.round((one - clean) / quantum) * quantum, clean) for one in altered)
    return Scores(clean=clean, without=without, placebo=placebo, found=found)


def _with_signal(context: JudgeContext, condition: str, finding: str) -> Scores:
    scores = _scores(context, condition, finding)
    if metric(context, "auroc", finding, scores.clean, context.confidence).lower <= 0.5:
        raise StatisticsError(NO_SIGNAL)
    return scores


def _owed(context: JudgeContext, condition: str, finding: str, column: Asked, confidence: float) -> Estimate:
    """The dependence on one value, or what the lines carry of it, whichever is smaller."""
    scores = _with_signal(context, condition, finding)
    return smaller(*_parts(context, finding, column, scores, confidence))


def _parts(
    context: JudgeContext, finding: str, column: Asked, scores: Scores, confidence: float
) -> tuple[Estimate, Estimate]:
    """The dependence, and what goes with the lines in its direction."""
    told = partial(column.told, context, finding, confidence=confidence)
    clean = told(scores.clean)
    if count_patients(context.patients[scores.found]) < LEAST_PATIENTS:
        return clean.folded(centre=0.5), _at_most(context, finding, column, scores, confidence)
    patients = count_patients(context.patients[column.attribute.known()])
    lost = difference(told(scores.placebo), told(scores.without), degrees=patients - 1)
    return clean.folded(centre=0.5), lost.affine(scale=1.0 if clean.value >= 0.5 else -1.0)


def _at_most(context: JudgeContext, finding: str, column: Asked, scores: Scores, confidence: float) -> Estimate:
    """What the images that have a line can carry at most, where hardly any has one.

    An AUROC moves by no more than the shares of its two groups that have one. Of n ranks one that goes from the last place to
    the first moves Spearman's correlation by 6 / n, so that on this scale the share counts ``6 AUC_SCALE`` times.
    """
    label, carries = usable_labels(context, finding, scores.clean), column.carries()
    continuous = column.attribute.kind == "continuous"
    weight, groups = (6 * AUC_SCALE, (carries,)) if continuous else (1.0, (carries, ~carries))
    each = 1 - (1 - confidence) / 2
    bounds = []
    for value in (0.0, 1.0):
        chosen = [(label == value) & column.attribute.known() & group for group in groups]
        shares = [
            proportion(scores.found, some, context.patients, context.n_patients, confidence=each)
            for some in chosen
            if some.any()
        ]
        bounds.append([weight * sum(ends) for ends in ([s.value for s in shares], [s.upper for s in shares])])
    value, upper = (max(ends) for ends in zip(*bounds, strict=True))
    return Estimate(value=value, lower=0.0, upper=upper, confidence=confidence, method=AT_MOST)


def smaller(first: Estimate, second: Estimate) -> Estimate:
    """The smaller of two quantities: exceeded only where both exceed, so each limit is the smaller one (Berger 1982).

    >>> a, b = Estimate(value=0.2, lower=0.1, upper=0.3), Estimate(value=0.1, lower=-0.2, upper=0.4)
    >>> both = smaller(a, b)
    >>> both.value, both.lower, both.upper
    (0.1, -0.2, 0.3)
    """
    least = min(first, second, key=lambda one: one.value)
    lower, upper = min(first.lower, second.lower), min(first.upper, second.upper)
    return replace(least, lower=min(lower, least.value), upper=max(upper, least.value))


def _told(context: JudgeContext, check: CheckSpec, item: Judged) -> Judged:
    """The criterion with both of its parts, of which the smaller was judged."""
    criterion = item.criterion
    column = next((one for one in asked(context) if one.subgroup == criterion.subgroup), None)
    if column is None or criterion.harm.estimate is None:
        return item
    scores = _scores(context, check.id, criterion.finding)
    parts = _parts(context, criterion.finding, column, scores, context.confidence)
    tells, goes = (f"{part.value:.3f} [{part.lower:.3f}, {part.upper:.3f}]" for part in parts)
    few = f" ({AT_MOST})" if AT_MOST in parts[1].method else ""
    said = f"the score tells {criterion.subgroup} by {tells}, with the lines go {goes}{few}: the smaller counts"
    reason = f"{criterion.reason}; {said}"
    return replace(item, criterion=criterion.model_copy(update={"reason": reason}))


def _effect(context: JudgeContext, check: CheckSpec, finding: str) -> Judged:
    return shown(
        context,
        check,
        finding,
        EFFECT,
        partial(_standardised, context, check.id, finding, lambda scores: scores.without - scores.placebo),
        reason="shown, not judged: in SD of the score, beyond the placebo; edges of ribs look like tubes and are taken out too",
    )


def _standardised(context: JudgeContext, condition: str, finding: str, change: Callable[[Scores], Floats]) -> Estimate:
    scores = _scores(context, condition, finding)
    if (patients := count_patients(context.patients[scores.found])) < LEAST_PATIENTS:
        raise StatisticsError(f"found in {patients} patients, {LEAST_PATIENTS} are needed")
    moved = np.where(scores.found, change(scores), np.nan)
    return standardised_effect(moved, scores.clean, context.patients, context.n_patients, confidence=context.confidence)


def _effects(context: JudgeContext, check: CheckSpec) -> Table:
    kinds: dict[str, Callable[[Scores], Floats]] = {
        "without the lines": lambda scores: scores.without - scores.clean,
        "placebo": lambda scores: scores.placebo - scores.clean,
        "beyond the placebo": lambda scores: scores.without - scores.placebo,
    }
    found = context.measured(check.id, "found", NAME)
    share = float(np.nanmean(found)) if np.isfinite(found).any() else None
    rows: list[list[Cell]] = [
        [finding, name, share, *cells(partial(_standardised, context, check.id, finding, change))]
        for finding in context.findings
        for name, change in kinds.items()
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What taking thin bright lines out does",
        columns=["finding", "image", "found in", "effect", "lower", "upper", "note"],
        rows=rows,
        note="Mean change of the score in SD of the score, among the images that have such a line: catheters, drains and "
        "wires, and edges of ribs, which look alike. Found in: share of the images with an anatomy mask, inside of which "
        "is looked. Placebo: gaps of the same form beside the lines.",
    )


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    shown = [one for column in asked(context) for one in column.all_values()]
    columns = {one.subgroup: one for one in shown}.values()
    rows = [
        [finding, column.attribute.column, column.value, *_row(context, check.id, finding, column)]
        for finding in context.findings
        for column in columns
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the lines carry of the dependence on a column",
        columns=["finding", "column", "value", "found in", *TOLD, "goes with them", "lower", "upper", "note"],
        rows=rows,
        note="Found in: share of the images with this value that have such a line. As it is, placebo, without: AUROC of the "
        "score for the value among cases of the same label, of a continuous column 0.5 + Spearman's correlation / √3. Goes "
        "with them: placebo minus without, in the direction of the dependence; judged is the smaller of this and of the "
        "dependence. Of two values one is judged, for the other has the same numbers.",
    )


def _row(context: JudgeContext, condition: str, finding: str, column: Asked) -> list[Cell]:
    found = context.measured(condition, "found", NAME)[column.carries()]
    share = float(np.nanmean(found)) if np.isfinite(found).any() else None
    told: list[Cell] = [None] * 3
    try:
        scores = _scores(context, condition, finding)
    except StatisticsError as error:
        return [share, *told, None, None, None, f"not assessable: {error.message}"]
    made = (
        try_interval(partial(column.told, context, finding, margins, confidence=context.confidence))
        for margins in (scores.clean, scores.placebo, scores.without)
    )
    told = [one.estimate for one in made]
    return [share, *told, *cells(lambda: _parts(context, finding, column, scores, context.confidence)[1])]
