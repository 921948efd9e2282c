"""The section "What this data set can certify": per finding and subgroup the smallest drop that would show.

Rows, words and chart; HTML, Markdown and console print them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustbench_rad import planning_words
from robustbench_rad.reports import charts
from robustbench_rad.reports._format import amount, count, number, percent, plain
from robustbench_rad.reports._page import TABLE_ROWS, Budget, safe
from robustbench_rad.result import Certifiable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("AUROC", "sensitivity")
CHART_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class CertifyRow:
    """One finding and subgroup of one metric."""

    name: str
    counts: Certifiable
    drop: float | None
    joint: float | None
    gap: float | None
    tolerance: float | None
    needed: int | None


@dataclass(frozen=True, kw_only=True)
class CertifyWords:
    """What stands around the numbers, the same in every report.

    Attributes:
        introduction: Above them.
        levels: Finding (foreign text) and its supposed clean performance.
        assumptions: All else that is supposed, one phrase each.
        power: Where there is room for one phrase only.
    """

    introduction: str
    levels: list[tuple[str, str]]
    assumptions: list[str]
    power: str
    title: str = planning_words.TITLE
    legend: str = planning_words.LEGEND
    columns: tuple[str, ...] = planning_words.COLUMNS


@dataclass(frozen=True, kw_only=True)
class CertifyView:
    """One metric: its rows and their chart."""

    metric: str
    rows: list[CertifyRow]
    drawn: int
    left_out: int
    svg: str


def certify_rows(certifiable: Sequence[Certifiable], metric: str) -> list[CertifyRow]:
    """All rows of AUROC or sensitivity."""
    return [_row(item, metric.lower()) for item in certifiable]


def certify_views(certifiable: Sequence[Certifiable]) -> list[CertifyView]:
    """The two metrics in the order of the page; nothing for a result that says nothing of it."""
    budget = Budget()
    return [_view(certifiable, metric, budget) for metric in METRICS] if certifiable else []


def certify_words(certifiable: Sequence[Certifiable]) -> CertifyWords | None:
    """The section's words; None for a result that says nothing of it."""
    if not certifiable:
        return None
    return CertifyWords(
        introduction=planning_words.introduction(certifiable),
        levels=planning_words.supposed_levels(certifiable),
        assumptions=planning_words.assumptions_of_rows(certifiable),
        power=f"{percent(certifiable[0].power)} power",
    )


def certify_cells(row: CertifyRow) -> tuple[str, ...]:
    """The numbers of a row, in the order of ``planning_words.COLUMNS``."""
    counts = (row.counts.positives, row.counts.negatives, row.counts.patients)
    drops = (row.drop, row.joint, row.gap, row.tolerance)
    return (*map(count, counts), *(number(value, 3) for value in drops), count(row.needed))


def _view(certifiable: Sequence[Certifiable], metric: str, budget: Budget) -> CertifyView:
    rows = certify_rows(certifiable, metric)
    drawn = rows[:CHART_ROWS]
    return CertifyView(
        metric=metric,
        rows=rows[:TABLE_ROWS],
        drawn=len(drawn),
        left_out=len(rows) - len(rows[:TABLE_ROWS]),
        svg=safe(budget.chart(certify_chart(drawn, metric=metric, key=f"certify-{metric.lower()}"))),
    )


def _row(item: Certifiable, key: str) -> CertifyRow:
    return CertifyRow(
        name=", ".join(part for part in (plain(item.finding, 60), plain(item.subgroup, 60)) if part),
        counts=item,
        drop=getattr(item, f"{key}_drop"),
        joint=getattr(item, f"{key}_drop_joint"),
        gap=getattr(item, f"{key}_gap"),
        tolerance=getattr(item, f"{key}_tolerance"),
        needed=getattr(item, f"{key}_needed"),
    )


def certify_chart(rows: Sequence[CertifyRow], *, metric: str, key: str) -> str:
    """Smallest detectable drops: a disc for one condition, a line to all of them jointly, a diamond for the gap.

    Args:
        rows: In the order they are to stand.
        metric: AUROC or sensitivity.
        key: Prefix of the ids, unique on the page.
    """
    height = 0.3 + charts._ROW * len(rows)
    with charts._figure(4.4, height) as figure:
        axes = figure.add_axes((0.03, 0.26 / height, 0.94, 1 - 0.28 / height))
        for position, row in enumerate(rows):
            _draw(axes, position, row)
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.6, -0.8)
        axes.set_xlim(0, _limit(rows))
        axes.grid(axis="x", color=charts._RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        title = f"Smallest drop of {metric} that these cases would show"
        return charts._svg(figure, key, title, " ".join(_sentence(row) for row in rows[:12]))


def _draw(axes: Axes, position: int, row: CertifyRow) -> None:
    paper = {"facecolor": charts._PAPER, "linewidth": 0, "pad": 1}
    spot: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "zorder": 4, "bbox": paper}
    axes.text(0, position - 0.42, plain(f"{row.name} ({amount(row.counts.positives, 'positive')})", 58), **spot)
    if row.drop is None:
        axes.text(0, position, "no drop would show", color=charts._MUTED, **spot)
    else:
        if row.joint is not None:
            axes.plot([row.drop, row.joint], [position] * 2, linewidth=2, solid_capstyle="butt", color=charts._SERIES)
        axes.plot([row.drop], [position], marker="o", markersize=7, markeredgecolor=charts._PAPER, color=charts._SERIES)
    if row.gap is not None:
        axes.plot(
            [row.gap],
            [position],
            marker="D",
            markersize=6,
            color=charts._MUTED,
            markerfacecolor=charts._PAPER,
            zorder=3,
        )
    if row.tolerance is not None:
        axes.plot([row.tolerance] * 2, [position - 0.22, position + 0.22], color=charts._INK, linewidth=1.4)


def _limit(rows: Sequence[CertifyRow]) -> float:
    known = [v for row in rows for v in (row.drop, row.joint, row.gap, row.tolerance) if v is not None]
    return 1.06 * max(known, default=1.0)


def _sentence(row: CertifyRow) -> str:
    return f"{row.name}: {number(row.drop, 3)} under one condition, {number(row.joint, 3)} jointly."
