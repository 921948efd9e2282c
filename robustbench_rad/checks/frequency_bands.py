"""Frequency bands: what the model tells from coarse structure alone, and from fine structure alone.

Shown, not judged: that a band is enough does not say that it is used, and whatever is decodable from one is often decodable
from all. A model that keeps more than half of its AUROC above chance in the finest band alone is worth a warning: noise,
kernel and compression are all that is left there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustbench_rad.checks._nuisance_columns import told
from robustbench_rad.checks.border_ablation import settled
from robustbench_rad.checks.comparisons import try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, limits, shown
from robustbench_rad.checks.masked_anatomy import USE
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.statistics.auc import difference_of_rankings, interval
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import spread_ratio
from robustbench_rad.statistics.multiplicity import joint_confidence
from robustbench_rad.statistics.retained import retained_share

HALF = 0.5


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the AUROC of every band, and how far the score of every band tells the nuisance columns."""
    bands = [level.name for level in context.levels.get(check.id, ())]
    used = [band for band in bands if _used(context, check.id, band)] or bands
    joint = {finding: _joint(context, check.id, finding, used) for finding in context.findings}
    return CheckOutcome(
        judged=[
            _criterion(context, check, finding, band, joint[finding]) for finding in context.findings for band in used
        ],
        tables=[_table(context, check, used, joint), *_columns_table(context, check, used)],
        notices=[*_notices(context, check, used)],
    )


def _used(context: JudgeContext, condition: str, band: str) -> bool:
    return any(np.isfinite(context.margins(condition, band, finding)).any() for finding in context.findings)


def _criterion(context: JudgeContext, check: CheckSpec, finding: str, band: str, confidence: float) -> Judged:
    return shown(
        context, check, finding, f"AUROC of {band}", lambda: _auroc(context, check.id, finding, band, confidence)
    )


def _margins(context: JudgeContext, condition: str, finding: str, band: str) -> Floats:
    return settled(context.altered(condition, band, finding), context.clean(finding))


def _auroc(context: JudgeContext, condition: str, finding: str, band: str, confidence: float) -> Estimate:
    margins = _margins(context, condition, finding, band)
    return interval(context.rank(usable_labels(context, finding, margins), margins), confidence=confidence)


def _drop(context: JudgeContext, condition: str, finding: str, band: str, confidence: float) -> Estimate:
    margins = _margins(context, condition, finding, band)
    label = usable_labels(context, finding, margins)
    pair = context.rank(label, context.clean(finding)), context.rank(label, margins)
    return difference_of_rankings(*pair, confidence=confidence)


def _share(context: JudgeContext, condition: str, finding: str, band: str) -> Estimate:
    margins = _margins(context, condition, finding, band)
    label = usable_labels(context, finding, margins)
    pair = context.rank(label, context.clean(finding)), context.rank(label, margins)
    return retained_share(*pair, confidence=context.confidence)


def _spread(context: JudgeContext, condition: str, finding: str, band: str) -> Estimate:
    margins = _margins(context, condition, finding, band)
    return spread_ratio(
        margins, context.clean(finding), context.patients, context.n_patients, confidence=context.confidence
    )


def _joint(context: JudgeContext, condition: str, finding: str, bands: list[str]) -> float:
    """Level of every single interval at which the drops of all bands hold together (max-T)."""
    influences = []
    for band in bands:
        try:
            influence = _drop(context, condition, finding, band, context.confidence).influence
        except StatisticsError:
            continue
        if influence is not None:
            influences.append(influence)
    if len(influences) < 2:
        return context.confidence
    return joint_confidence(np.stack(influences), context.confidence, seed=context.seed)


def finest(bands: list[str]) -> dict[str, str]:
    """Unit → the high-pass band of the highest frequency.

    >>> finest(["low-pass 0.1 cycles/mm", "high-pass 0.05 cycles/mm", "high-pass 0.1 cycles/mm"])
    {'cycles/mm': 'high-pass 0.1 cycles/mm'}
    """
    found: dict[str, str] = {}
    for band in bands:
        kind, cutoff, unit = band.split()
        if kind == "high-pass" and (unit not in found or float(cutoff) > float(found[unit].split()[1])):
            found[unit] = band
    return found


def _notices(context: JudgeContext, check: CheckSpec, bands: list[str]) -> Iterator[str]:
    for finding in context.findings:
        for band in finest(bands).values():
            try:
                share = _share(context, check.id, finding, band)
                area = _auroc(context, check.id, finding, band, context.confidence)
            except StatisticsError:
                continue
            if share.value > HALF and area.lower > 0.5 and _spread(context, check.id, finding, band).value >= USE:
                yield (
                    f"Warning: {finding}: {band} alone keeps {share.value:.0%} [{share.lower:.0%}, {share.upper:.0%}] of "
                    "the AUROC above chance: fine structure (noise, kernel, compression) or the mean grey value, which is "
                    "kept, may be what the model reads."
                )


def _table(context: JudgeContext, check: CheckSpec, bands: list[str], joint: dict[str, float]) -> Table:
    return Table(
        check=check.id,
        domain=check.domain,
        title="What the model tells from one band of frequencies alone",
        columns=[
            *("finding", "band", "cases", "AUROC", "lower", "upper", "drop", "lower", "upper"),
            *("kept", "lower", "upper", "retained spread", "lower", "upper", "note"),
        ],
        rows=[_row(context, check.id, finding, band, joint[finding]) for finding in context.findings for band in bands],
        note="Drop: clean minus band, paired; the intervals of AUROC and drop hold together over the bands of a finding. Kept: "
        "AUROC above 0.5 as a share of that on clean images. Retained spread: SD of the margins over that on clean images; an "
        "AUROC with hardly any spread is of no use to the model. The frequency is that at which half of the amplitude is left.",
    )


def _row(context: JudgeContext, condition: str, finding: str, band: str, confidence: float) -> list[Cell]:
    count = int(np.isfinite(context.margins(condition, band, finding)).sum())
    makes = (
        try_interval(lambda: _auroc(context, condition, finding, band, confidence)),
        try_interval(lambda: _drop(context, condition, finding, band, confidence)),
        try_interval(lambda: _share(context, condition, finding, band)),
        try_interval(lambda: _spread(context, condition, finding, band)),
    )
    why = dict.fromkeys(f"not assessable: {made.method}" for made in makes if made.estimate is None)
    numbers = [number for made in makes for number in (made.estimate, made.lower, made.upper)]
    return [finding, band, count, *numbers, "; ".join(why)]


def _columns_table(context: JudgeContext, check: CheckSpec, bands: list[str]) -> Iterator[Table]:
    rows: list[list[Cell]] = []
    for finding in context.findings:
        for band in bands:
            try:
                margins = _margins(context, check.id, finding, band)
            except StatisticsError:
                continue
            for one in told(context, finding, margins, context.confidence):
                numbers = limits(one.estimate) if one.estimate else [None, None, None]
                rows.append([finding, band, one.column, one.value, *numbers, one.reason])
    if rows:
        yield Table(
            check=check.id,
            domain=check.domain,
            title="How well the score of one band tells the scanner among cases of the same label",
            columns=["finding", "band", "column", "value", "AUROC", "lower", "upper", "note"],
            rows=rows,
            note="Each interval by itself. 0.5: nothing. Scanners are often decodable from every band, so this does not find "
            "the band that a model uses.",
        )
