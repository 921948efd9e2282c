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
from robustbench_rad.checks.metrics import metric
from robustbench_rad.checks.scanner_dependence import NO_COLUMN as NO_NUISANCE
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.remove_tubes import NAME
from robustbench_rad.statistics.clusters import count_patients
from robustbench_rad.statistics.estimate import Estimate, difference
from robustbench_rad.statistics.paired_effect import standardised_effect

OWED, EFFECT = "dependence owed to tubes", "effect of taking tubes out"
TOLD = ("as it is", "placebo", "without")
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
    few = _too_few(context, check)
    judged = [*criteria(context, check), *_not_asked(context, check), *effects]
    tables = [_effects(context, check), *([_table(context, check)] if asked(context) else [])]
    return CheckOutcome(judged=judged, tables=tables, notices=few)


def _not_asked(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """Why a column cannot be asked, or that there is none: shown, for the other audits do not need one."""
    columns = [column for column in attributes(context) if column.role == NUISANCE]
    reasons = (
        {column.column: column.reason for column in columns if not column.assessable} if columns else {"": NO_COLUMN}
    )
    return [
        shown(context, check, finding, OWED, partial(_refuse, reason), subgroup=column)
        for finding in context.findings
        for column, reason in reasons.items()
    ]


def _refuse(reason: str) -> Estimate:
    raise StatisticsError(reason)


def criteria(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """What is judged: the columns."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity=OWED,
            harm="",
            subgroup=column.subgroup,
            estimate=partial(_owed, context, check.id, finding, column),
            counted="patients",
            cases=column.attribute.known,
        )
        for finding in context.findings
        for column in asked(context)
    ]
    return judge_jointly(context, check, comparisons) if comparisons and not _too_few(context, check) else []


def _too_few(context: JudgeContext, check: CheckSpec) -> list[str]:
    """Why nothing is judged: hardly any image has a line."""
    found = context.measured(check.id, "found", NAME)
    patients = count_patients(context.patients[found == 1])
    if not np.isfinite(found).any() or patients >= LEAST_PATIENTS:
        return []
    return [
        f"{check.id}: thin bright lines found in {patients} patients only, {LEAST_PATIENTS} are needed: not judged. They are "
        "looked for inside of the anatomy masks, or everywhere where there are none"
    ]


def _scores(context: JudgeContext, condition: str, finding: str) -> Scores:
    clean = context.clean(finding)
    altered = [context.altered(condition, name, finding) for name in (NAME, NAME + PLACEBO)]
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
    told = partial(column.told, context, finding, confidence=confidence)
    clean = told(scores.clean)
    patients = count_patients(context.patients[column.attribute.known()])
    lost = difference(told(scores.placebo), told(scores.without), degrees=patients - 1)
    return smaller(clean.folded(centre=0.5), lost.affine(scale=1.0 if clean.value >= 0.5 else -1.0))


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
        "wires, and edges of ribs, which look alike. Found in: share of all images. Inside of the anatomy mask where a case "
        "has one. Placebo: gaps of the same form beside the lines.",
    )


def _table(context: JudgeContext, check: CheckSpec) -> Table:
    rows = [
        [finding, column.attribute.column, column.value, *_row(context, check.id, finding, column)]
        for finding in context.findings
        for column in asked(context)
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the lines carry of the dependence on a column",
        columns=[
            "finding",
            "column",
            "value",
            "found in",
            "as it is",
            "placebo",
            "without",
            "owed",
            "lower",
            "upper",
            "note",
        ],
        rows=rows,
        note="As it is, placebo, without: AUROC of the score for the value among cases of the same label, of a continuous "
        "column 0.5 + Spearman's correlation / √3. Found in: share of the images with this value that have such a line, which "
        "says by itself whether the column is about lines. Owed: placebo minus without, in the direction of the dependence, "
        "and no more than the dependence.",
    )


def _row(context: JudgeContext, condition: str, finding: str, column: Asked) -> list[Cell]:
    found = context.measured(condition, "found", NAME)
    carried = np.nan_to_num(found)[column.carries()]
    share = float(carried.mean()) if len(carried) else None
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
    return [share, *told, *cells(partial(_owed, context, condition, finding, column, context.confidence))]
