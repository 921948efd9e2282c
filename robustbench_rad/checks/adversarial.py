"""Adversarial attacks: which correct calls flip, in the clinical directions *hide* and *create*.

A verified flip is always believed, so a fail stands whatever the diagnostics say; only a pass can be doubted.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks import adversarial_honesty as honesty
from robustbench_rad.checks.adversarial_controls import controls_table
from robustbench_rad.checks.adversarial_evidence import Cases
from robustbench_rad.checks.adversarial_tables import attacked_tables, no_margin
from robustbench_rad.checks.comparisons import Comparison, judge_jointly
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.metrics import METRICS, curve
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, Table
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.proportions import proportion

HIDE, CREATE = 1.0, 0.0  # the label whose correct calls the direction flips
WINNER_OF = "winner of "  # and the names of the members of an attack, see Attack.winner
NO_PIXELS = ("attack.worst-acquisition",)  # it searches acquisitions, and has no mask
PIXELS = {
    "image": "the whole image, air included",
    "body": "the patient without the air around",
    "no-air": "the patient without any air",
    "anatomy": "the declared anatomy",
    "lesion-protected": "all but the declared lesions",
    "lesion-only": "the declared lesions",
    "border": "a frame of a tenth of each side",
}
GRIDS = {"display": "as the model is shown it", "stored": "in the grey levels and on the grid of the file"}
QUANTITIES = {HIDE: "hide: true positives lost", CREATE: "create: true negatives lost"}


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge the share of correct calls flipped by the attack, per direction, at every level."""
    comparisons = [
        Comparison(
            finding=finding,
            quantity=quantity,
            harm="hide" if side == HIDE else "create",
            level=level,
            counted="positives" if side == HIDE else "negatives",
            estimate=partial(_flip_rate, context, check.id, level.name, finding, side),
            doubt=_doubt(context, check.id, level, finding, side),
            cases=partial(_correct, context, finding),
        )
        for finding in context.findings
        for side, quantity in QUANTITIES.items()
        for level in context.levels.get(check.id, ())
    ]
    return CheckOutcome(
        judged=judge_jointly(context, check, comparisons),
        curves=_curves(context, check),
        tables=[*_tables(context, check), *attacked_tables(context, check), *controls_table(context, check)],
    )


def _flip_rate(
    context: JudgeContext, condition: str, level: str, finding: str, side: float, confidence: float
) -> Estimate:
    attacked = context.margins(condition, level, finding)
    attackable = (context.label(finding) == side) & _correct(context, finding)
    if not attackable.any():
        raise StatisticsError("no correct call that could be flipped")
    missing = int((attackable & ~np.isfinite(attacked)).sum())
    if missing:
        raise StatisticsError(no_margin(context, condition, level, missing))
    noise = Cases(context=context, finding=finding).noise  # within it a margin has no side: a tie is no flip
    flipped = (attacked < 0 if side == HIDE else attacked >= 0) & ~((np.abs(attacked) <= noise) & (noise > 0))
    return proportion(flipped, attackable, context.patients, context.n_patients, confidence=confidence)


def _correct(context: JudgeContext, finding: str) -> NDArray[np.bool_]:
    """Cases that are called rightly on the clean image: there is nothing to flip in the others."""
    label, clean = context.label(finding), context.clean(finding)
    correct: NDArray[np.bool_] = ((label == HIDE) & (clean >= 0)) | ((label == CREATE) & (clean < 0))
    return correct


def _doubt(context: JudgeContext, condition: str, level: Level, finding: str, side: float) -> str:
    masked = _masked_gradients(context, condition, level, finding, side)
    return "; ".join([*[masked] * bool(masked), *honesty.doubts(context, condition, level, finding, side)])


def _masked_gradients(context: JudgeContext, condition: str, level: Level, finding: str, side: float) -> str:
    zero = context.measured(condition, "zero_gradient", level.name, finding)
    if np.isnan(zero).all():
        zero = context.measured(condition, "zero_gradient", "", finding)
    affected = int(((context.label(finding) == side) & (zero > 0)).sum())
    if not affected:
        return ""
    return f"masked gradients: exactly zero or not a number on {affected} case(s), so the attack could not search there"


def _curves(context: JudgeContext, check: CheckSpec) -> list[Curve]:
    def ranks(level: Level) -> bool:
        """Only a search that went on after the flip ranks the cases; only there an attacked AUROC is defined."""
        return (check.id, level.name) in context.scores.full_search

    def always(_level: Level) -> bool:
        return True

    drawn = [
        curve(context, check, finding, name, ranks if name == "auroc" else always)
        for finding in context.findings
        for name in METRICS
    ]
    return [found.model_copy(update={"metric": f"attacked {found.metric}"}) for found in drawn if found.points]


def _tables(context: JudgeContext, check: CheckSpec) -> list[Table]:
    rows: list[list[str | float | int | None]] = []
    winner, members = _members(context, check.id)
    for finding in context.findings:
        stored = context.measured(check.id, "flipped_by_rounding", finding=finding)
        for level in context.levels.get(check.id, ()):
            steps = context.measured(check.id, "steps_to_flip", level.name, finding)
            counts = _counts(context, check.id, level, finding)
            won = context.measured(check.id, winner, level.name, finding)[_flipped(context, check.id, level, finding)]
            found_by = [int((won == place).sum()) for place in range(len(members))]
            rows.append([finding, str(level), *counts, _total(stored), _median(steps), *found_by])
    columns = ["finding", "level", "true positives", "hidden", "true negatives", "created"]
    return [
        Table(
            check=check.id,
            domain=check.domain,
            title="Flips, each verified after rounding to the stored bit depth",
            columns=[
                *columns,
                "flipped by rounding alone",
                "median steps to flip",
                *(f"found by {member}" for member in members),
            ],
            rows=rows,
            note=_said(context, check),
        )
    ]


def _said(context: JudgeContext, check: CheckSpec) -> str:
    """Where the attack may work, and what it has to say of its levels: a unit it had to suppose, cases not attacked."""
    levels = context.levels.get(check.id, ())
    reasons = dict.fromkeys(context.scores.reasons.get((check.id, level.name), "") for level in levels)
    said = "; ".join(filter(None, reasons))
    return " ".join(filter(None, [_where(context, check), f"{said[:1].upper()}{said[1:]}." if said else ""]))


def _where(context: JudgeContext, check: CheckSpec) -> str:
    """Which pixels may be touched, and of which grid, in a sentence; "" where nothing is known of them."""
    if check.id not in context.reach or check.id in NO_PIXELS:
        return ""
    space, mask = context.reach[check.id]
    return f"May touch: {PIXELS.get(mask, mask)}, {GRIDS.get(space, space)}."


def _members(context: JudgeContext, condition: str) -> tuple[str, list[str]]:
    """Name of the measurement of the worst member, and the members' names; empty for an attack without members."""
    names = {quantity.name for quantity in context.scores.quantities if quantity.condition == condition}
    found = next((name for name in sorted(names) if name.startswith(WINNER_OF)), "")
    return found, found.removeprefix(WINNER_OF).split(", ") if found else []


def _flipped(context: JudgeContext, condition: str, level: Level, finding: str) -> NDArray[np.bool_]:
    """Cases whose right call is wrong under attack."""
    attacked = context.margins(condition, level.name, finding)
    wrong = np.where(context.label(finding) == HIDE, attacked < 0, attacked >= 0)
    flipped: NDArray[np.bool_] = _correct(context, finding) & wrong
    return flipped


def _counts(context: JudgeContext, condition: str, level: Level, finding: str) -> list[int]:
    label, clean = context.label(finding), context.clean(finding)
    attacked = context.margins(condition, level.name, finding)
    answered = np.isfinite(attacked)  # the others were not attacked, which is not the same as withstanding
    right_positive, right_negative = answered & (label == 1) & (clean >= 0), answered & (label == 0) & (clean < 0)
    return [
        int(right_positive.sum()),
        int((right_positive & (attacked < 0)).sum()),
        int(right_negative.sum()),
        int((right_negative & (attacked >= 0)).sum()),
    ]


def _total(values: Floats) -> int | None:
    return None if np.isnan(values).all() else int(np.nansum(values))


def _median(values: Floats) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmedian(values))
