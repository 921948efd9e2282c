"""What the HTML page shows of each domain, within a budget of bytes for charts and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from robustbench_rad.reports import _format, _positions, _words, charts
from robustbench_rad.result import AuditResult, Criterion, Curve, Domain, DomainScore, Panel, Picture, Table, Verdict

PICTURE_BUDGET = 2_500_000
CHART_BUDGET = 1_200_000
FOREST_ROWS = 30
Cell = str | float | int | None
TABLE_ROWS = 400


@dataclass(frozen=True, kw_only=True)
class Forest:
    """A forest plot of one quantity."""

    quantity: str
    criteria: list[Criterion]
    left_out: int
    svg: str


@dataclass(frozen=True, kw_only=True)
class CurveFigure:
    """A curve with its picture; no picture once the budget is spent, the data table stays."""

    curve: Curve
    svg: str


@dataclass(frozen=True, kw_only=True)
class CurveGroup:
    """Curves of one check, side by side; those of one metric on one scale."""

    check: str
    tolerated: bool
    figures: list[CurveFigure]


@dataclass(frozen=True, kw_only=True)
class PositionFigure:
    """Positions of one finding with their effects, drawn."""

    finding: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class ShownTable:
    """A table as text, with the columns that hold numbers; where it has positions, drawn too."""

    check: str
    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]
    numeric: frozenset[int]
    figures: list[PositionFigure] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ShownPicture:
    """A picture with its panels, those that belong together in one group."""

    picture: Picture
    groups: list[list[Panel]]

    @property
    def paired(self) -> bool:
        """Whether panels stand together."""
        return any(len(group) > 1 for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of one check."""

    check: str
    pictures: list[ShownPicture]


@dataclass(frozen=True, kw_only=True)
class DomainView:
    """Everything of one domain, in the order of the page."""

    domain: Domain
    title: str
    gloss: str
    score: DomainScore | None
    verdict: Verdict
    criteria: list[Criterion]
    forests: list[Forest]
    curves: list[CurveGroup]
    tables: list[ShownTable]
    galleries: list[Gallery]
    pictures_left_out: int

    @property
    def key(self) -> str:
        """Anchor on the page."""
        return self.domain.value


@dataclass
class Budget:
    """Bytes left for charts and for pictures; what does not fit is named, not shown."""

    charts: int = field(default_factory=lambda: CHART_BUDGET)
    pictures: int = field(default_factory=lambda: PICTURE_BUDGET)
    drawn: int = 0

    def chart(self, svg: str) -> str:
        """The chart if it fits, else nothing."""
        if len(svg) > self.charts:
            return ""
        self.charts -= len(svg)
        return svg

    def key(self) -> str:
        """A prefix that no other chart of the page has."""
        self.drawn += 1
        return f"chart{self.drawn}"


def domain_views(result: AuditResult) -> list[DomainView]:
    """Every domain that the result says something of, in the order of a report."""
    budget = Budget()
    return [_domain(result, domain, budget) for domain in _shown_domains(result)]


def _shown_domains(result: AuditResult) -> list[Domain]:
    parts: Iterable[Any] = (*result.criteria, *result.curves, *result.tables, *result.pictures, *result.score.domains)
    present = {part.domain for part in parts}
    return [domain for domain in Domain if domain in present]


def _domain(result: AuditResult, domain: Domain, budget: Budget) -> DomainView:
    title, gloss = _words.DOMAINS[domain]
    criteria = _words.worst_first(c for c in result.criteria if c.domain is domain)
    score = next((s for s in result.score.domains if s.domain is domain), None)
    pictures = [picture for picture in result.pictures if picture.domain is domain and not picture.field]
    shown = _fitting(pictures, budget)
    return DomainView(
        domain=domain,
        title=title,
        gloss=gloss,
        score=score,
        verdict=score.verdict if score else Verdict.INFORMATIONAL,
        criteria=criteria,
        forests=_forests(criteria, budget),
        curves=_curves([curve for curve in result.curves if curve.domain is domain], criteria, budget),
        tables=_shown_tables((table for table in result.tables if table.domain is domain), result.pictures, budget),
        galleries=_galleries(shown),
        pictures_left_out=len(pictures) - len(shown),
    )


def _fitting(pictures: Iterable[Picture], budget: Budget) -> list[Picture]:
    shown = []
    for picture in pictures:
        size = _size(picture)
        if size <= budget.pictures:
            budget.pictures -= size
            shown.append(picture)
    return shown


def _size(picture: Picture) -> int:
    """Characters of all its images."""
    panels = sum(len(panel.jpeg_base64) + len(panel.difference_base64) for panel in picture.panels)
    return len(picture.png_base64) + panels


def _galleries(pictures: Sequence[Picture]) -> list[Gallery]:
    """Pictures by check, in the order they came."""
    checks = dict.fromkeys(picture.check for picture in pictures)
    return [
        Gallery(check=check, pictures=[_picture(picture) for picture in pictures if picture.check == check])
        for check in checks
    ]


def _picture(picture: Picture) -> ShownPicture:
    groups: list[list[Panel]] = []
    for panel in picture.panels:
        if groups and panel.group and groups[-1][0].group == panel.group:
            groups[-1].append(panel)
        else:
            groups.append([panel])
    return ShownPicture(picture=picture, groups=groups)


def _forests(criteria: Iterable[Criterion], budget: Budget) -> list[Forest]:
    """One plot per quantity: harms of different quantities have no common axis."""
    groups: dict[str, list[Criterion]] = {}
    for criterion in criteria:
        if criterion.harm.estimate is not None and criterion.tolerance is not None:
            groups.setdefault(criterion.quantity, []).append(criterion)
    forests = []
    for quantity, members in groups.items():
        drawn = members[:FOREST_ROWS]
        svg = budget.chart(charts.forest_chart(drawn, key=budget.key()))
        if svg:
            forests.append(Forest(quantity=quantity, criteria=drawn, left_out=len(members) - len(drawn), svg=safe(svg)))
    return forests


def _curves(curves: Iterable[Curve], criteria: Iterable[Criterion], budget: Budget) -> list[CurveGroup]:
    tolerances = {(c.check, c.finding, c.quantity.lower()): c.tolerance for c in criteria}
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.check, []).append(curve)
    return [_curve_group(check, members, tolerances, budget) for check, members in groups.items()]


def _curve_group(
    check: str, curves: list[Curve], tolerances: Mapping[tuple[str, str, str], float | None], budget: Budget
) -> CurveGroup:
    figures = []
    tolerated = False
    for curve in curves:
        delta = tolerances.get((check, curve.finding, f"{curve.metric.lower()} drop"))
        floor = None if delta is None or curve.clean.estimate is None else curve.clean.estimate - delta
        tolerated = tolerated or floor is not None
        limits = charts.curve_limits([other for other in curves if other.metric == curve.metric])
        svg = charts.curve_chart(curve, key=budget.key(), limits=limits, floor=floor) if budget.charts > 0 else ""
        figures.append(CurveFigure(curve=curve, svg=safe(budget.chart(svg))))
    return CurveGroup(check=check, tolerated=tolerated, figures=figures)


def _shown_tables(tables: Iterable[Table], pictures: Sequence[Picture], budget: Budget) -> list[ShownTable]:
    """Tables as text; what was said under one of the same title is not said again."""
    said: set[tuple[str, str]] = set()
    shown = []
    for table in tables:
        again = (table.title, table.note) in said
        said.add((table.title, table.note))
        text = _shown(table.model_copy(update={"note": ""}) if again else table)
        shown.append(replace(text, figures=_position_figures(table, pictures, budget)))
    return shown


def _position_figures(table: Table, pictures: Sequence[Picture], budget: Budget) -> list[PositionFigure]:
    """A chart for each of the findings where an object does most."""
    found = _positions.positions(table)
    behind = _positions.background(pictures, table.check) if found else ""
    figures = []
    for finding in _positions.shown_findings(found):
        drawn = _positions.position_chart(found, finding=finding, check=table.check, key=budget.key(), behind=behind)
        if svg := budget.chart(drawn):
            figures.append(PositionFigure(finding=finding, svg=safe(svg)))
    return figures


def _shown(table: Table) -> ShownTable:
    rows = table.rows[:TABLE_ROWS]
    more = len(table.rows) - len(rows)
    groups = [group for group in _columns(table.columns) if not rows or any(_said(row, group) for row in rows)]
    numeric = {place for place, group in enumerate(groups) if any(_is_number(_at(row, group[0])) for row in rows)}
    return ShownTable(
        check=table.check,
        title=table.title,
        note=f"{table.note} {_format.amount(more, 'more row')} in result.json.".strip() if more else table.note,
        columns=[table.columns[group[0]] + (" [interval]" if len(group) == 3 else "") for group in groups],
        rows=[[_format.cells(*(_at(row, column) for column in group)) for group in groups] for row in rows],
        numeric=frozenset(numeric),
    )


def _columns(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Columns that are shown as one: a value and the two after it that end in *lower* and *upper*."""
    groups: list[tuple[int, ...]] = []
    place = 0
    while place < len(names):
        ends = tuple(name.rpartition(" ")[2] for name in names[place + 1 : place + 3])
        width = 3 if ends == ("lower", "upper") else 1
        groups.append(tuple(range(place, place + width)))
        place += width
    return groups


def _at(row: Sequence[Cell], column: int) -> Cell:
    return row[column] if column < len(row) else None


def _said(row: Sequence[Cell], group: Sequence[int]) -> bool:
    """Whether there is anything in these columns: a column without a word is not shown."""
    return any(_at(row, column) not in (None, "") for column in group)


def _is_number(value: Cell) -> bool:
    return value is not None and not isinstance(value, str)


def safe(markup: str) -> str:
    """Markup made here, which escapes what it shows and is not escaped again."""
    from markupsafe import Markup

    return Markup(markup)
