"""Patch shuffle: what the model still tells when the layout of the image is destroyed.

A detector of small lesions keeps some of its AUROC for good reasons (0.63 of a trained one that knew 0.93), one that reads the
noise or the kernel of a scanner nearly all (0.91 of 0.92). So it is shown, and judged only where plan or profile states a
tolerance; even then it fails only where the score depends on a nuisance column as well, within labels or in its AUROC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from robustbench_rad.checks._nuisance_columns import depended_on
from robustbench_rad.checks.border_ablation import settled
from robustbench_rad.checks.comparisons import Comparison, judge_jointly, try_interval
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, shown
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table, Verdict
from robustbench_rad.statistics.auc import Ranking, difference_of_rankings, interval
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.retained import retained_share

HALF = 0.5
KEPT = "share of the AUROC above chance that is kept without the layout"
HELD = "lower limit held at the tolerance, for the score is not shown to depend on a nuisance column"


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show the AUROC that is left, for every size of the patches; say which scanner a global shortcut may be of."""
    pairs = [(finding, size) for finding in context.findings for size in sizes(context, check.id)]
    left = [_criterion(context, check, finding, size) for finding, size in pairs]
    return CheckOutcome(
        judged=left if check.informational else [*left, *_judged(context, check, pairs)],
        tables=[_table(context, check, pairs)],
        notices=[*_notices(context, check)],
    )


def _judged(context: JudgeContext, check: CheckSpec, pairs: list[tuple[str, str]]) -> list[Judged]:
    """The share that is kept, of which the size of the patches that keeps most decides."""
    columns = {finding: depended_on(context, finding) for finding in context.findings}
    comparisons = [
        Comparison(
            finding=finding,
            quantity=KEPT,
            harm="",
            level=next(level for level in context.levels[check.id] if level.name == sizes(context, check.id)[size][0]),
            estimate=partial(_kept, context, check, finding, size, bool(columns[finding])),
        )
        for finding, size in pairs
    ]
    return [_told(item, columns) for item in judge_jointly(context, check, comparisons)]


def _kept(
    context: JudgeContext, check: CheckSpec, finding: str, size: str, depends: bool, confidence: float
) -> Estimate:
    """Share of the AUROC above chance; no failure where the score depends on no nuisance column."""
    pair = _clean(context, check.id, finding, size), _shuffled(context, check.id, finding, size)
    share = retained_share(*pair, confidence=confidence)
    if depends or share.lower <= check.delta(""):
        return share
    return replace(share, lower=check.delta(""), method=f"{share.method}; {HELD}")


def _told(item: Judged, columns: dict[str, list[str]]) -> Judged:
    """The criterion with the columns that the score depends on, or that it depends on none."""
    criterion = item.criterion
    said = [HELD] if HELD in criterion.harm.method else []
    if criterion.verdict is Verdict.FAIL:
        said = [f"and the score depends on {', '.join(columns[criterion.finding])}"]
    return replace(item, criterion=criterion.model_copy(update={"reason": "; ".join([criterion.reason, *said])}))


def sizes(context: JudgeContext, condition: str) -> dict[str, list[str]]:
    """Size of the patches → names of its levels, one per draw."""
    found: dict[str, list[str]] = {}
    for level in context.levels.get(condition, ()):
        found.setdefault(level.name.partition(" draw ")[0], []).append(level.name)
    return found


def _criterion(context: JudgeContext, check: CheckSpec, finding: str, size: str) -> Judged:
    quantity = f"AUROC left with shuffled patches of {size} of the side"
    return shown(
        context,
        check,
        finding,
        quantity,
        lambda: interval(_shuffled(context, check.id, finding, size), confidence=context.confidence),
    )


def _shuffled(context: JudgeContext, condition: str, finding: str, size: str) -> Ranking:
    """Ranking of the shuffled images, averaged over draws."""
    return averaged(
        [context.rank(*_known(context, finding, margins)) for margins in _margins(context, condition, finding, size)]
    )


def _known(context: JudgeContext, finding: str, margins: Floats) -> tuple[Floats, Floats]:
    return usable_labels(context, finding, margins), margins


def _margins(context: JudgeContext, condition: str, finding: str, size: str) -> Iterator[Floats]:
    for level in sizes(context, condition)[size]:
        yield settled(context.altered(condition, level, finding), context.clean(finding))


def averaged(rankings: list[Ranking]) -> Ranking:
    """The mean of areas of the same cases; independent cases are those of the least of them."""
    return Ranking(
        area=float(np.mean([one.area for one in rankings])),
        positives=min(one.positives for one in rankings),
        negatives=min(one.negatives for one in rankings),
        patients=min(one.patients for one in rankings),
        influence=np.mean([one.influence for one in rankings], axis=0),
        pairs=min(one.pairs for one in rankings),
    )


def _clean(context: JudgeContext, condition: str, finding: str, size: str) -> Ranking:
    """Ranking of the clean scores of the same cases."""
    margins = next(_margins(context, condition, finding, size))
    return context.rank(usable_labels(context, finding, margins), context.clean(finding))


def _share(context: JudgeContext, condition: str, finding: str, size: str) -> Estimate:
    pair = _clean(context, condition, finding, size), _shuffled(context, condition, finding, size)
    return retained_share(*pair, confidence=context.confidence)


def _notices(context: JudgeContext, check: CheckSpec) -> Iterator[str]:
    for finding in context.findings:
        for size in sizes(context, check.id):
            try:
                share = _share(context, check.id, finding, size)
            except StatisticsError:
                continue
            columns = depended_on(context, finding) if share.value > HALF else []
            if columns:
                yield (
                    f"{finding}: with patches of {size} of the side shuffled the model keeps {share.value:.0%} "
                    f"[{share.lower:.0%}, {share.upper:.0%}] of its AUROC above chance, and its score depends on "
                    f"{', '.join(columns)}: it may read a global trait of the images there (kernel, noise, brightness). "
                    "Confirm with shortcut.background-swap or a shift of that trait."
                )
                break


def _table(context: JudgeContext, check: CheckSpec, pairs: list[tuple[str, str]]) -> Table:
    return Table(
        check=check.id,
        domain=check.domain,
        title="What is left without the layout of the image",
        columns=["finding", "patch", "draws", "what", "estimate", "lower", "upper", "note"],
        rows=[row for finding, size in pairs for row in _rows(context, check.id, finding, size)],
        note="Patch: share of the shorter side. Kept: AUROC above 0.5 on shuffled images, as a share of that on clean ones. A "
        "detector of small lesions keeps some for good reasons; noise, kernel and brightness survive whole.",
    )


def _rows(context: JudgeContext, condition: str, finding: str, size: str) -> Iterator[list[Cell]]:
    confidence = context.confidence
    draws = len(sizes(context, condition)[size])
    makes: dict[str, Callable[[], Estimate]] = {
        "AUROC, clean": lambda: interval(_clean(context, condition, finding, size), confidence=confidence),
        "AUROC, shuffled": lambda: interval(_shuffled(context, condition, finding, size), confidence=confidence),
        "AUROC, clean minus shuffled": lambda: difference_of_rankings(
            _clean(context, condition, finding, size),
            _shuffled(context, condition, finding, size),
            confidence=confidence,
        ),
        "kept": partial(_share, context, condition, finding, size),
    }
    for name, make in makes.items():
        found = try_interval(make)
        why = "" if found.estimate is not None else f"not assessable: {found.method}"
        yield [finding, size, draws, name, found.estimate, found.lower, found.upper, why]
