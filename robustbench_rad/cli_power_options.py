"""Options of ``robustbench-rad power``; every one that is a number of the question bears the name of its field."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robustbench_rad.planning_numbers import Question

Number = float | None

Source = Annotated[
    list[str] | None,
    typer.Argument(help="A plan (TOML) or manifest; with --waterfall the fractions.", show_default=False),
]
Root = Annotated[Path | None, typer.Option("--root", help="Folder that the plan's paths start from.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="TEXT", help="Filter such as 'view = PA | AP', 'age >= 60'; repeat to chain."),
]
By = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="TEXT", help="Column of subgroups; 'sex, view' crosses two; may be repeated."),
]
Finding = Annotated[list[str] | None, typer.Option("--finding", metavar="TEXT", help="Of a manifest: a label column.")]
Patient = Annotated[str, typer.Option("--patient", help="Of a manifest: the patient column.")]
Waterfall = Annotated[
    Number, typer.Option("--waterfall", metavar="CASES", help="Start of a chain of fractions: 377110 .65 .03 …")
]
Sensitivity = Annotated[Number, typer.Option("--sensitivity", help="Before the drop; default: claim, else 0.85.")]
Auroc = Annotated[Number, typer.Option("--auroc", help="Before the drop; default: claim, else 0.85.")]
Drop = Annotated[Number, typer.Option("--drop", help="Drop to be found; default: tolerance of the profile.")]
HalfWidth = Annotated[Number, typer.Option("--half-width", help="Of the interval to be reached.")]
Positives = Annotated[Number, typer.Option("--positives", help="Positives in hand, per group.")]
Negatives = Annotated[Number, typer.Option("--negatives", help="Negatives in hand, per group.")]
Ratio = Annotated[float, typer.Option("--negatives-per-positive", help="Where no negatives are given.")]
Paired = Annotated[
    bool | None, typer.Option("--paired/--unpaired", help="The same cases twice, or two groups; default: both.")
]
Discordance = Annotated[
    Number, typer.Option("--discordance", help="Share of pairs that change either way; default: drop + 0.04.")
]
Correlation = Annotated[float, typer.Option("--correlation", help="Of two AUROCs of the same cases.")]
Power = Annotated[float, typer.Option("--power", help="Chance of finding the drop.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Two-sided level.")]


def _at_least_one(value: int | None) -> int | None:
    # min=1 would do, but writes a range beside the option that leaves the longest name too little of eighty columns.
    if value is not None and value < 1:
        raise typer.BadParameter(f"expected 1 or more, got {value}")
    return value


Comparisons = Annotated[
    int | None,
    typer.Option(
        "--comparisons",
        callback=_at_least_one,
        metavar="N",
        help="Judged together; default: those of the profile, else 1.",
    ),
]
Icc = Annotated[float, typer.Option("--icc", help="Intraclass correlation of images of one patient.")]
ClusterSize = Annotated[float, typer.Option("--cluster-size", help="Images per patient.")]


def question_of(values: Mapping[str, Any]) -> Question:
    """The question that the options ask, from the values of all options by parameter name.

    Raises:
        StatisticsError: A discordance without a drop, or below it.
    """
    from robustbench_rad.planning_numbers import Question

    asked = {field.name: values[field.name] for field in fields(Question)}
    return Question(**{**asked, "comparisons": values["comparisons"] or 1})
