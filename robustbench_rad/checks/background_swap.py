"""Background swap: does the score follow the surroundings that the anatomy lies in?

Two harms. *donor*: how far the score tells the label of the donor, ``AUC(score, donor label) - 0.5``. *drop*: the AUROC that
is lost when the surroundings no longer go with the label. A swap leaves a seam and an unfamiliar image, which alone can cost
AUROC; so the drop is not taken from the unaltered images but between donors of the same label and donors of either label,
whose images have the same seam. What the swap costs in all stands in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks._exempt import judge_others
from robustbench_rad.checks._exempt import notices as exempted
from robustbench_rad.checks._powered import marked
from robustbench_rad.checks.border_ablation import settled
from robustbench_rad.checks.comparisons import Comparison, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell
from robustbench_rad.checks.insertion import NO_SIGNAL
from robustbench_rad.checks.metrics import metric, usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shortcuts.background_swap import DONOR, DONOR_LABEL, OWN_NUMBER
from robustbench_rad.statistics.donor_swap import Swaps, donor_auc, donor_permutation_p, label_benefit, swap_drop
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import holm

WATCHED = 0.02  # of the donor's harm: below the tolerance and yet worth a look
DONORS_AUC = "AUROC for the donor's label"
HARMS = {"donor": "score tells the donor's label", "drop": "AUROC owed to the surroundings"}


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Judge both harms of every finding, and say which columns these cases have no power for."""
    p_values = _p_values(context, check.id)
    judged, not_powered = marked(context, [_with_p(item, p_values) for item in criteria(context, check)])
    return CheckOutcome(
        judged=judged,
        tables=[_table(context, check, p_values)],
        notices=[*exempted(context, check.id), *not_powered],
    )


def criteria(context: JudgeContext, check: CheckSpec) -> list[Judged]:
    """The criteria alone."""
    makes: dict[str, Callable[..., Estimate]] = {"donor": _donor, "drop": _drop}
    comparisons = [
        Comparison(
            finding=finding,
            quantity=HARMS[harm],
            harm=harm,
            estimate=partial(make, context, check.id, finding),
            cases=partial(_swapped, context, check.id, finding),
        )
        for finding in context.findings
        for harm, make in makes.items()
    ]
    return [_warned(item) for item in judge_others(context, check, comparisons)]


@dataclass(frozen=True, kw_only=True)
class PValue:
    """P-value of a finding's donors, their labels being permuted, and by Holm over the findings."""

    p: float
    adjusted: float


def _p_values(context: JudgeContext, condition: str) -> dict[str, PValue]:
    """Of every finding that has one; the criterion of the others says why."""
    raw: dict[str, float] = {}
    for finding in context.findings:
        try:
            raw[finding] = donor_permutation_p(swaps(context, condition, finding)[0], seed=context.seed)
        except StatisticsError:
            continue
    adjusted = holm(list(raw.values())) if raw else ()
    return {finding: PValue(p=p, adjusted=float(a)) for (finding, p), a in zip(raw.items(), adjusted, strict=True)}


def _with_p(item: Judged, p_values: Mapping[str, PValue]) -> Judged:
    """The criterion of the donor's label with its p-value beside the interval, which judges."""
    criterion = item.criterion
    value = p_values.get(criterion.finding)
    if value is None or criterion.quantity != HARMS["donor"] or criterion.harm.estimate is None:
        return item
    reason = f"{criterion.reason}; permutation of donors: p {value.p:.2g}, by Holm {value.adjusted:.2g}"
    return replace(item, criterion=criterion.model_copy(update={"reason": reason}))


def _warned(item: Judged) -> Judged:
    """The criterion with a warning short of a failure."""
    criterion = item.criterion
    lower, tolerance = criterion.harm.lower, criterion.tolerance
    told = criterion.quantity == HARMS["donor"] and lower is not None and lower > WATCHED
    if not told or tolerance is None or (lower is not None and lower > tolerance):
        return item
    reason = f"{criterion.reason}; warning: the donor's label is told beyond an AUROC of {0.5 + WATCHED:.2f}"
    return replace(item, criterion=criterion.model_copy(update={"reason": reason}))


def _donor(context: JudgeContext, condition: str, finding: str, confidence: float) -> Estimate:
    found, _ = swaps(context, condition, finding)
    return donor_auc(found, confidence=confidence).affine(offset=-0.5)


def _drop(context: JudgeContext, condition: str, finding: str, confidence: float) -> Estimate:
    found, _ = swaps(context, condition, finding)
    return label_benefit(found, confidence=confidence)


def swaps(context: JudgeContext, condition: str, finding: str) -> tuple[Swaps, Floats]:
    """All swapped images of a finding with known labels of case and donor, and the clean score of each.

    Raises:
        StatisticsError: Nothing could be swapped, or the model shows no signal on clean images.
    """
    clean = context.clean(finding)
    levels = [level.name for level in context.levels.get(condition, ())]
    if not levels:
        raise StatisticsError("no donor was declared: give levels")
    margins = np.stack([context.margins(condition, level, finding) for level in levels], axis=1)
    if np.isnan(margins).all():
        context.altered(condition, levels[0], finding)  # raises, and says why
    if metric(context, "auroc", finding, clean, context.confidence).lower <= 0.5:
        raise StatisticsError(NO_SIGNAL)
    label = np.stack([usable_or_unknown(context, finding, column) for column in margins.T], axis=1)
    number, donor_label = (
        np.stack([context.measured(condition, name, level, of) for level in levels], axis=1)
        for name, of in ((DONOR, ""), (DONOR_LABEL, finding))
    )
    known = np.isfinite(label) & np.isfinite(donor_label) & np.isfinite(number)
    if not known.any():
        raise StatisticsError("no swapped image of which the labels of both the case and the donor are known")
    case, level = np.nonzero(known)
    scores = np.stack([settled(column, clean) for column in margins.T], axis=1)
    found = Swaps(
        scores=scores[case, level],
        label=label[case, level],
        donor_label=donor_label[case, level],
        case=case,
        recipient=context.patients[case],
        donor=_patients_of(context, condition)[number[case, level].astype(np.int64)],
        n_patients=context.n_patients,
    )
    if (found.donor < 0).any():
        raise StatisticsError(
            "some donors are not among the cases that were scored: run the audit again on all of them"
        )
    return found, clean[case]


def usable_or_unknown(context: JudgeContext, finding: str, margins: Floats) -> Floats:
    """Labels where the level had a meaning; NaN everywhere where it had none for any case."""
    return np.full(len(margins), np.nan) if np.isnan(margins).all() else usable_labels(context, finding, margins)


def _patients_of(context: JudgeContext, condition: str) -> NDArray[np.int64]:
    """Patient of each donor by its number; -1 unknown."""
    own = context.measured(condition, OWN_NUMBER)
    known = np.isfinite(own)
    largest = max(
        (
            np.nanmax(values, initial=-1.0)
            for level in context.levels[condition]
            if np.isfinite(values := context.measured(condition, DONOR, level.name)).any()
        ),
        default=-1.0,
    )
    found = np.full(int(max(largest, np.nanmax(own, initial=-1.0))) + 1, -1, np.int64)
    found[own[known].astype(np.int64)] = context.patients[known]
    return found


def _swapped(context: JudgeContext, condition: str, finding: str) -> NDArray[np.bool_]:
    levels = context.levels.get(condition, ())
    used = [~np.isnan(context.margins(condition, level.name, finding)) for level in levels]
    return np.asarray(np.any(used, axis=0), dtype=np.bool_)


def _table(context: JudgeContext, check: CheckSpec, p_values: Mapping[str, PValue]) -> Table:
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the surroundings of other patients do to the score",
        columns=["finding", "what", "images", "donors", "estimate", "lower", "upper", "p", "p, Holm", "note"],
        rows=[row for finding in context.findings for row in _rows(context, check.id, finding, p_values.get(finding))],
        note="AUROC for the donor's label: 0.5 when the score does not follow the surroundings. Owed to them: AUROC "
        "with donors of the same label minus AUROC with donors of either label, so the seam cancels. Clean minus swapped: what "
        "the swap costs in all, seam and unfamiliarity included. p: labels dealt anew to the donors, each with all its images; "
        "the interval judges. Blind to what does not go with the label in these cases.",
    )


def _rows(context: JudgeContext, condition: str, finding: str, p: PValue | None) -> list[list[Cell]]:
    try:
        found, clean = swaps(context, condition, finding)
    except StatisticsError as error:
        return [[finding, "all", *[None] * 7, f"not assessable: {error.message}"]]
    makes: dict[str, Callable[[], Estimate]] = {
        DONORS_AUC: partial(donor_auc, found, confidence=context.confidence),
        "AUROC owed to the surroundings": partial(label_benefit, found, confidence=context.confidence),
        "AUROC, clean minus swapped": partial(swap_drop, found, clean, confidence=context.confidence),
    }
    rows: list[list[Cell]] = []
    for name, make in makes.items():
        shown = try_interval(make)
        why = "" if shown.estimate is not None else f"not assessable: {shown.method}"
        tested = [p.p, p.adjusted] if p and name == DONORS_AUC else [None, None]
        numbers = [shown.estimate, shown.lower, shown.upper, *tested]
        rows.append([finding, name, len(found.scores), len(np.unique(found.donor)), *numbers, why])
    return rows
