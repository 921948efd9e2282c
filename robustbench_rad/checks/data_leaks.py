"""Data leaks: cases that are counted twice, or were seen in training.

Nearly the same image under two patients makes intervals too narrow; a patient or an image that the model was trained on makes
its performance look better than it is. Shown, not judged; but where a stated share of the cases is concerned, clean performance
cannot pass. The preflight looks for stored images that are exactly equal; copies that were re-encoded are found here only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells, shown
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Domain, Table
from robustbench_rad.shortcuts._image_numbers import THUMBNAIL_PX
from robustbench_rad.shortcuts.data_leaks import IMAGE, PATIENT, THUMBNAIL, DataLeaks
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.near_duplicates import CORRELATION, EXACT, Pairs, near_duplicates
from robustbench_rad.statistics.proportions import proportion

NEAR = "cases with a near-duplicate under another patient"
QUANTITIES = {PATIENT: "cases whose patient is in training", IMAGE: "cases whose image is in training"}
SHOWN_PAIRS = 20
NO_TRAINING = "declare [data] training_manifest, a table of the training cases with their patients"
NO_IMAGES = "declare [data] training_image, the column of image files of the training manifest"


@dataclass(frozen=True, kw_only=True, eq=False)
class Leak:
    """One kind of leak.

    Attributes:
        quantity: In words.
        leaked: ``(N,)`` 1, 0, or NaN where it was not looked at.
        reason: Why it was not looked at at all; "" otherwise.
        note: What the reader should know.
    """

    quantity: str
    leaked: Floats
    reason: str = ""
    note: str = ""


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the share of leaked cases of each kind, and doubt clean performance where it is large."""
    near, pairs = _near(context, check)
    leaks = [near, *(_trained(context, check, name) for name in (PATIENT, IMAGE))]
    judged = [
        shown(context, check, finding, leak.quantity, partial(_share, context, finding, leak))
        for finding in context.findings
        for leak in leaks
    ]
    share = float(check.options.get("doubt_share", DataLeaks().doubt_share))
    said = {finding: _doubt(context, finding, leaks, share) for finding in context.findings}
    tables = [_table(context, check, leaks, share)]
    if pairs is not None and len(pairs.first):
        tables.append(_pairs(check, pairs))
    return CheckOutcome(
        judged=judged,
        tables=tables,
        doubts={(Domain.CLEAN, finding): doubt for finding, doubt in said.items() if doubt},
    )


def _near(context: JudgeContext, check: CheckSpec) -> tuple[Leak, Pairs | None]:
    small = context.scores.vector(check.id, THUMBNAIL)
    nothing = np.full(len(context.patients), np.nan)
    if not np.isfinite(small).any():
        return Leak(quantity=NEAR, leaked=nothing, reason="the images were not measured"), None
    size = (len(small), THUMBNAIL_PX, THUMBNAIL_PX)
    try:
        pairs = near_duplicates(small.reshape(size), context.patients, seed=context.seed)
    except StatisticsError as error:
        return Leak(quantity=NEAR, leaked=nothing, reason=error.message), None
    leaked = np.where(np.isfinite(small).all(axis=1), 0.0, np.nan)
    leaked[np.union1d(pairs.first, pairs.second)] = 1.0
    equal = int((pairs.correlation >= EXACT).sum())
    note = f"{len(pairs.first)} pairs, {equal} of them equal at the display" if len(pairs.first) else ""
    return Leak(quantity=NEAR, leaked=leaked, note=note), pairs


def _trained(context: JudgeContext, check: CheckSpec, name: str) -> Leak:
    leaked = context.measured(check.id, name)
    if np.isfinite(leaked).any():
        return Leak(quantity=QUANTITIES[name], leaked=leaked)
    asked = np.isfinite(context.measured(check.id, PATIENT)).any()
    return Leak(quantity=QUANTITIES[name], leaked=leaked, reason=NO_IMAGES if asked else NO_TRAINING)


def _share(context: JudgeContext, finding: str, leak: Leak) -> Estimate:
    if leak.reason:
        raise StatisticsError(leak.reason)
    valid = np.isfinite(leak.leaked) & ~np.isnan(context.label(finding))
    return proportion(leak.leaked == 1, valid, context.patients, context.n_patients, confidence=context.confidence)


def _doubt(context: JudgeContext, finding: str, leaks: list[Leak], share: float) -> str:
    """Why clean performance of the finding cannot pass; "" where it can."""
    said = []
    for leak in leaks:
        valid = np.isfinite(leak.leaked) & ~np.isnan(context.label(finding))
        count, cases = int((leak.leaked[valid] == 1).sum()), int(valid.sum())
        if count and count >= share * cases:
            said.append(f"{count} of {cases} {leak.quantity}")
    return f"data leaks: {'; '.join(said)} (doubt from {share:.2g} of the cases on): remove them" if said else ""


def _table(context: JudgeContext, check: CheckSpec, leaks: list[Leak], share: float) -> Table:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for leak in leaks:
            valid = np.isfinite(leak.leaked) & ~np.isnan(context.label(finding))
            found = cells(partial(_share, context, finding, leak))
            note = f"not assessable: {found[3]}" if found[3] else leak.note
            counts: list[Cell] = (
                [None, None] if leak.reason else [int(valid.sum()), int((leak.leaked[valid] == 1).sum())]
            )
            rows.append([finding, leak.quantity, *counts, *found[:3], note])
    return Table(
        check=check.id,
        domain=check.domain,
        title="Data leaks",
        columns=["finding", "leak", "cases", "leaked", "share", "lower", "upper", "note"],
        rows=rows,
        note="Near-duplicates: what distinguishes two thumbnails from the mean thumbnail correlates by "
        f"{CORRELATION:g} or more; brightness, contrast and compression do not hide a copy, a crop beyond 2 % per side may. "
        f"Copies that are stored equal are in the preflight too. From a share of {share:.2g} on, clean performance "
        "cannot pass.",
    )


def _pairs(check: CheckSpec, pairs: Pairs) -> Table:
    order = np.argsort(-pairs.correlation, kind="stable")[:SHOWN_PAIRS]
    rows: list[list[Cell]] = [
        [int(pairs.first[place]) + 1, int(pairs.second[place]) + 1, float(pairs.correlation[place])] for place in order
    ]
    return Table(
        check=check.id,
        domain=check.domain,
        title="Near-duplicates across patients",
        columns=["case", "another patient's case", "correlation"],
        rows=rows,
        note=f"The {len(rows)} most alike of {len(pairs.first)} pairs. "
        "Cases are numbered from 1 in the order in which the audit read them; no ids.",
    )
