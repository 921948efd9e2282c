"""The words for what planning numbers rest on: one wording for the command line, the console, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from robustbench_rad.reports._format import NOTHING, amount, number, percent
from robustbench_rad.result import Certifiable

if TYPE_CHECKING:
    from robustbench_rad.planning_numbers import Question

TITLE = "What this data set can certify"
COLUMNS = ("Positives", "Negatives", "Patients", "One condition", "Jointly", "Gap", "Tolerance", "Positives for it")
"""Of a row of numbers, in this order, in every report."""
LEGEND = (
    "One condition: the same cases with and without it (paired). Jointly: judged together with the other comparisons of a "
    "check. Gap: a subgroup against the rest, or the whole set against another one of its size (unpaired). Positives for "
    f"it: at which the joint drop is the tolerance. {NOTHING}: not even a fall to chance would show. All of it is planned from "
    "numbers of cases by large-sample formulas; the number of cases that a verdict says would decide is another, from the "
    "harm and the interval that were measured, which in few cases is wider than planned."
)


def introduction(rows: Sequence[Certifiable]) -> str:
    """What the section says, in two sentences."""
    return (
        f"The smallest drop that these cases would show with {percent(rows[0].power)} power, from their numbers and the "
        "clean performance supposed below. A smaller harm can hide here; where the joint drop is above the tolerance, "
        "most checks will stay inconclusive."
    )


def supposed_levels(rows: Iterable[Certifiable]) -> list[tuple[str, str]]:
    """Finding (foreign text) and its supposed clean performance.

    >>> supposed_levels([Certifiable.model_construct(finding="nodule", auroc=0.91, sensitivity=0.86)])
    [('nodule', 'AUROC 0.91, sensitivity 0.86')]
    """
    whole = [row for row in rows if not row.subgroup]
    return [(row.finding, f"AUROC {number(row.auroc)}, sensitivity {number(row.sensitivity)}") for row in whole]


def assumptions_of_rows(rows: Sequence[Certifiable]) -> list[str]:
    """Everything else that the rows rest on; it is the same for all of one plan."""
    row = rows[0]
    comparisons = max(item.comparisons for item in rows)
    return [
        _test(row.power, row.alpha),
        f"jointly: {amount(comparisons, 'comparison')} judged together share that level (Bonferroni, the worst case)",
        _correlated(row.correlation),
        discordance_words(row.gained, row.sensitivity_tolerance),
        "gap: two independent groups of the same clean performance",
        f"images of one patient correlated {row.icc:g} (ICC)",
    ]


def assumptions_of_question(question: Question) -> list[str]:
    """Everything that answers from numbers alone rest on, one phrase each; nothing that no answer uses."""
    parts = [_test(question.power, question.alpha)]
    if question.comparisons > 1:
        parts.append(f"{amount(question.comparisons, 'comparison')} share that level (Bonferroni)")
    if question.auroc is not None:
        parts += [f"clean AUROC {question.auroc:g}", _correlated(question.correlation)]
        parts.append(f"{question.negatives_per_positive:.4g} negatives per positive")
    if question.sensitivity is not None:
        parts += [f"clean sensitivity {question.sensitivity:g}", discordance_words(question.gained, question.drop)]
    parts.append("unpaired: two independent groups of equal size")
    if question.cluster_size > 1:
        images = f"{question.cluster_size:g} images per patient, correlated {question.icc:g} (ICC)"
        parts.append(f"{images}: {question.effect:.2f} times the cases")
    else:
        parts.append("one image per patient")
    return parts


def discordance_words(gained: float, drop: float | None) -> str:
    """What paired sensitivity supposes of cases that change.

    >>> discordance_words(0.02, 0.10).partition(", ")[2]
    'so a drop of 0.10 has a discordance of 14% (12% lost, 2% gained)'
    >>> discordance_words(0.02, None)
    'paired sensitivity: 2% of positives turn from missed to found by chance, so discordance is the drop and 4%'
    """
    chance = f"paired sensitivity: {_share(gained)} of positives turn from missed to found by chance"
    if not drop:
        return f"{chance}, so discordance is the drop and {_share(2 * gained)}"
    shares = f"({_share(gained + drop)} lost, {_share(gained)} gained)"
    return f"{chance}, so a drop of {number(drop)} has a discordance of {_share(2 * gained + drop)} {shares}"


def _share(value: float) -> str:
    """A share as percent with the decimals that it has."""
    return f"{100 * value:.3g}%"


def _test(power: float, alpha: float) -> str:
    return f"{percent(power)} power at a two-sided level of {alpha:g}"


def _correlated(correlation: float) -> str:
    return f"paired AUROC: the two areas of the same cases are correlated {correlation:g}"
