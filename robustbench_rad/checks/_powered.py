"""What an audit by AUROC for the label can see: a use of columns that go with the label in these cases, and of no others.

Where scanners are balanced over the labels, ranking by scanner ranks no case, so a model that reads the scanner keeps its AUROC
whatever is taken from the image. The audit is *not powered* for such a column: its pass says nothing of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustbench_rad.checks.attributes import NUISANCE, Attribute, attributes
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.metadata_ceiling import Source, ceiling
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.result import Verdict
from robustbench_rad.statistics.estimate import Estimate

NOT_POWERED = "not powered for"
STILL_SEEN = (
    "a use of it would not be seen here: shortcut.scanner-dependence and the insertions still see it; audit cases in which it "
    "goes with the label as in development too"
)


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """A nuisance column that is not shown to go with the label of a finding.

    Attributes:
        column: Its name.
        tells: AUROC of the column for the label; None where it cannot be told.
    """

    column: str
    tells: Estimate | None

    def __str__(self) -> str:
        """The column and how well it tells the label."""
        if self.tells is None:
            return f"{self.column} (too few cases to tell its AUROC for the label)"
        tells = self.tells
        return f"{self.column} (AUROC for the label {tells.value:.2f} [{tells.lower:.2f}, {tells.upper:.2f}])"


def unseen(context: JudgeContext, finding: str) -> list[Unseen]:
    """Nuisance columns of which an audit by AUROC for the label sees no use, with their association.

    Args:
        context: Labels, patients and columns.
        finding: Which finding.
    """
    columns = [column.grouped() for column in attributes(context) if column.role == NUISANCE]
    made = [(column.column, _tells(context, finding, column)) for column in columns if column.assessable]
    return [Unseen(column=name, tells=tells) for name, tells in made if tells is None or tells.lower <= 0.5]


def _tells(context: JudgeContext, finding: str, column: Attribute) -> Estimate | None:
    try:
        return ceiling(context, finding, Source(name=column.column, role=column.role, columns=(column,)))
    except StatisticsError:
        return None


def marked(context: JudgeContext, judged: Sequence[Judged]) -> tuple[list[Judged], list[str]]:
    """Criteria that say what they are not powered for, and one sentence per such column with its findings.

    A failure stands whatever else could not be seen, and what is not assessable needs no second reason.

    Args:
        context: Labels, patients and columns.
        judged: Criteria of one check.
    """
    done, findings = [], defaultdict[str, list[str]](list)
    said = {item.criterion.finding: unseen(context, item.criterion.finding) for item in judged if _may_miss(item)}
    for item in judged:
        columns = said.get(item.criterion.finding, []) if _may_miss(item) else []
        done.append(_marked(item, columns))
    for finding, columns in said.items():
        for one in columns:
            findings[one.column].append(finding)
    return done, [_sentence(judged[0].criterion.check, column, names) for column, names in findings.items()]


def _may_miss(item: Judged) -> bool:
    return item.criterion.harm.estimate is not None and item.criterion.verdict in (Verdict.PASS, Verdict.INCONCLUSIVE)


def _marked(item: Judged, columns: Sequence[Unseen]) -> Judged:
    if not columns:
        return item
    reason = f"{item.criterion.reason}; {NOT_POWERED} {', '.join(map(str, columns))}"
    return replace(item, criterion=item.criterion.model_copy(update={"reason": reason}))


def _sentence(check: str, column: str, findings: Sequence[str]) -> str:
    return (
        f"{check}: {NOT_POWERED} {column} ({', '.join(findings)}), which is not shown to go with the label in these cases; "
        f"{STILL_SEEN}"
    )
