"""Findings that the plan exempts: their evidence may lie anywhere in the image, as that of a pacemaker or a catheter.

What lies outside of the anatomy is then no shortcut, so audits that take it away show their numbers and do not judge them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from robustbench_rad.checks.comparisons import Comparison, judge_jointly
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.informational import shown
from robustbench_rad.criteria import Judged
from robustbench_rad.profile import CheckSpec
from robustbench_rad.shortcuts._regions import EXEMPT

WHY = "the plan exempts it: its evidence may lie anywhere in the image; shown, not judged"


def is_exempt(context: JudgeContext, finding: str) -> bool:
    """Whether the plan says that the evidence of a finding may lie anywhere."""
    return context.legitimate.get(finding) == EXEMPT


def judge_others(context: JudgeContext, check: CheckSpec, comparisons: Sequence[Comparison]) -> list[Judged]:
    """Judge the comparisons of all findings but the exempt ones, whose numbers are shown, each level by itself.

    Args:
        context: Labels, patients and what the plan exempts.
        check: The check.
        comparisons: Of all findings.
    """
    held = [item for item in comparisons if is_exempt(context, item.finding)]
    others = [item for item in comparisons if not is_exempt(context, item.finding)]
    judged = judge_jointly(context, check, others) if others else []
    return [*judged, *(_shown(context, check, item) for item in held)]


def _shown(context: JudgeContext, check: CheckSpec, comparison: Comparison) -> Judged:
    level = f" ({comparison.level})" if comparison.level else ""
    return shown(
        context,
        check,
        comparison.finding,
        f"{comparison.quantity}{level}",
        partial(comparison.estimate, context.confidence),
        reason=WHY,
        cases=None if comparison.cases is None else comparison.cases(),
    )


def notices(context: JudgeContext, check: str) -> list[str]:
    """That some findings were not judged; nothing where none is exempt."""
    names = [finding for finding in context.findings if is_exempt(context, finding)]
    return [f"{check}: {', '.join(names)} not judged: exempt by [data.anatomy] legitimate"] if names else []
