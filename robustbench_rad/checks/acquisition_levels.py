"""What is shown of an acquisition shift level by level: what was done to the images, and how far the model holds.

Beside each requested value stands the achieved one, and beside both what arrived at the model's input: acquisition physics that
its resizing takes away cannot harm it, and a pass then says little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_rad.checks.comparisons import Comparison
from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.checks.informational import Cell
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged, judge
from robustbench_rad.errors import StatisticsError
from robustbench_rad.evaluation import CHANGE
from robustbench_rad.profile import CheckSpec
from robustbench_rad.registry import find
from robustbench_rad.result import Table, Verdict

LEAST_CHANGE = 0.01  # below one percent of the display range no effect is expected
NO_EFFECT = "no effect expected at this input size"
_REQUESTED = "requested"


def what_the_shift_did(context: JudgeContext, check: CheckSpec) -> list[Table]:
    """Per level: number of cases it applied to, medians of what was requested, achieved, and left at the model's input."""
    levels = context.levels.get(check.id, ())
    measured = {q.name for q in context.scores.quantities if q.condition == check.id and not q.finding}
    names = sorted(measured, key=_requested_first)
    columns = ["level", "cases altered", "not applicable", *(f"median {name.replace('_', ' ')}" for name in names)]
    rows = [_row(context, check.id, level, names) for level in levels]
    headers = [_header(context.scores.header(check.id, level.name)) for level in levels]
    if any(headers):
        columns.append("header would say")
        rows = [[*row, header] for row, header in zip(rows, headers, strict=True)]
    effects = [effect(context, check.id, level) for level in levels]
    if any(effects):
        columns.append("at the model's input")
        rows = [[*row, text] for row, text in zip(rows, effects, strict=True)]
    return [Table(check=check.id, domain=check.domain, title="What the shift did", columns=columns, rows=rows)]


def _row(context: JudgeContext, condition: str, level: Level, names: Iterable[str]) -> list[Cell]:
    altered = ~np.isnan(context.margins(condition, level.name, context.findings[0]))
    values = [_median(_measured(context, condition, name, level.name)) for name in names]
    return [str(level), int(altered.sum()), int((~altered).sum()), *values]


def _requested_first(name: str) -> tuple[bool, str, bool]:
    """Sorts a requested value right before the achieved one, and what is left of both at the end.

    >>> sorted(["noise_sd_hu", "change_at_model_input", "noise_sd_requested_hu", "f50"], key=_requested_first)
    ['f50', 'noise_sd_requested_hu', 'noise_sd_hu', 'change_at_model_input']
    """
    words = [word for word in name.split("_") if word != _REQUESTED]
    return name == CHANGE, "_".join(words), _REQUESTED not in name.split("_")


def effect(context: JudgeContext, condition: str, level: Level) -> str:
    """Whether the level reaches the model at all; "" where it does, or where that was not measured."""
    change = _median(context.measured(condition, CHANGE, level.name))
    return NO_EFFECT if change is not None and change < LEAST_CHANGE else ""


def without_effect(context: JudgeContext, check: CheckSpec) -> list[str]:
    """Say when the model's input is too coarse for the whole shift to reach it: a pass then says little."""
    levels = context.levels.get(check.id, ())
    changes = [_median(context.measured(check.id, CHANGE, level.name)) for level in levels]
    known = [change for change in changes if change is not None]
    if not known or max(known) >= LEAST_CHANGE:
        return []
    return [
        f"{check.id}: the strongest level changes the model's input by {max(known):.2%} of the display range (SD): "
        f"{NO_EFFECT.replace('no effect', 'no effect is')}, so a pass says little"
    ]


def _header(texts: Mapping[str, Sequence[str]]) -> str:
    """In a few words: what a header of the altered images would say."""
    return "; ".join(
        f"{keyword} {', '.join(found[:3])}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        for keyword, found in texts.items()
    )


def _measured(context: JudgeContext, condition: str, name: str, level: str) -> Floats:
    """A quantity of one level, or the one that all levels share."""
    values = context.measured(condition, name, level)
    return context.measured(condition, name) if np.isnan(values).all() else values


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Levels that go one way from the image as it is, mildest first.

    Attributes:
        name: Which way, "" where there is only one.
        levels: In that order.
    """

    name: str
    levels: tuple[Level, ...]


def directions(levels: Sequence[Level], neutral: float | None) -> list[Direction]:
    """Part a ladder that goes both ways (softer and sharper) and has several units; the order is the distance from neutral.

    >>> ladder = [Level(name=str(v), value=v, unit="× f50") for v in (0.5, 0.7, 1.35, 1.6)]
    >>> [(d.name, [level.name for level in d.levels]) for d in directions(ladder, 1.0)]
    [('below 1', ['0.7', '0.5']), ('above 1', ['1.35', '1.6'])]
    """
    ways: dict[tuple[str, int], list[Level]] = {}
    for level in levels:
        side = 0 if neutral is None or level.value == neutral else 1 if level.value > neutral else -1
        ways.setdefault((level.unit, side), []).append(level)
    several = len({side for _, side in ways if side}) > 1
    found = []
    for (_, side), ladder in ways.items():
        name = "" if not several or neutral is None or not side else f"{'above' if side > 0 else 'below'} {neutral:g}"
        if neutral is not None:
            ladder.sort(key=lambda level: abs(level.value - neutral))
        found.append(Direction(name=name, levels=tuple(ladder)))
    return found


def how_far_it_holds(
    context: JudgeContext, check: CheckSpec, comparisons: Sequence[Comparison], judged: Sequence[Judged]
) -> list[Table]:
    """Where along the ladder each criterion crosses the gate."""
    known = find(check.id)
    ways = directions(context.levels.get(check.id, ()), known.load().neutral if known else None)
    rows = []
    for item in judged:
        criterion = item.criterion
        confidence = criterion.harm.confidence if criterion.harm.estimate is not None else context.confidence
        own = [c for c in comparisons if (c.finding, c.quantity) == (criterion.finding, criterion.quantity)]
        states = {c.level: _state(c, check, confidence) for c in own if c.level is not None}
        for way in ways:
            rows.append([criterion.finding, criterion.quantity, way.name, *crossing(way.levels, states.get)])
    if not rows:
        return []
    return [
        Table(
            check=check.id,
            domain=check.domain,
            title="How far the shift may go",
            columns=["finding", "quantity", "direction", "holds up to", "fails from", "cannot tell at"],
            rows=rows,
            note="Holds up to: the last level before which, and at which, the interval lies within the tolerance. Fails from: "
            "the mildest level whose interval lies wholly beyond it. The intervals are those that judge.",
        )
    ]


def _state(comparison: Comparison, check: CheckSpec, confidence: float) -> Verdict:
    tolerance = check.delta(comparison.harm) if comparison.tolerance is None else comparison.tolerance
    try:
        verdict = judge(comparison.estimate(confidence), tolerance).verdict
    except StatisticsError:
        return Verdict.INCONCLUSIVE
    return Verdict.INCONCLUSIVE if verdict is Verdict.PASS and comparison.doubt else verdict


def crossing(levels: Sequence[Level], state: Callable[[Level], Verdict | None]) -> list[Cell]:
    """The last level up to which all pass, the first that fails, and those that cannot be told."""
    held = ""
    for level in levels:
        if state(level) is not Verdict.PASS:
            break
        held = str(level)
    failing = [str(level) for level in levels if state(level) is Verdict.FAIL]
    open_ones = [str(level) for level in levels if state(level) not in (Verdict.PASS, Verdict.FAIL)]
    return [held or "no level", failing[0] if failing else "none of these", ", ".join(open_ones)]
