"""The result on a terminal: one screen in 80 columns, readable without colour and through a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_rad.reports import _positions, _words
from robustbench_rad.reports._certify import METRICS, certify_rows, certify_words
from robustbench_rad.reports._format import amount, count, interval, number, plain, points
from robustbench_rad.result import (
    AuditResult,
    Certifiable,
    Criterion,
    DomainScore,
    Regression,
    RegressionVerdict,
    Verdict,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INFORMATIONAL: "dim",
}
_ROWS, _CRITERIA, _POSITIONS = 8, 6, 2
_BAR = 20
_ASCII = str.maketrans(
    {
        "█": "#",
        "░": ".",
        "−": "-",
        "–": "-",
        "δ": "d",
        "✓": "+",
        "✕": "x",
        "…": "~",
        "·": "-",
        "≤": "<",
        "≥": ">",
        "×": "x",
        "ε": "e",
    }
)


def render_console(result: AuditResult, report: Path | None = None) -> RenderableType:
    """Build the summary.

    Args:
        result: What the audit found.
        report: Where the full report lies, named in the last line.
    """
    from rich.console import Group

    parts: list[RenderableType] = [_panel(result), "", _domains(result.score.domains)]
    criteria, positions = _words.open_criteria(result), _by_position(result)
    rows = _CRITERIA - bool(positions)  # so that all of it stays on one screen
    if criteria:
        parts += ["", _criteria(criteria[:rows])]
    if len(criteria) > rows:
        parts.append(_dim(f"  and {count(len(criteria) - rows)} more failed or undecided, in the report"))
    if result.score.costliest:
        parts += ["", _costliest(result)]
    if positions:
        parts += ["", *positions]
    if result.certifiable:
        parts += ["", *_certify(result.certifiable)]
    if result.regression:
        parts += ["", *_regression(result.regression)]
    if notices := [_notice(notice) for notice in _warnings(result)]:
        parts += ["", *notices]
    if report is not None:
        parts += ["", _line("Report  ", str(report))]
    return Group(*parts)


def print_summary(result: AuditResult, console: Console, report: Path | None = None) -> None:
    """Print the summary, in the letters that the console's encoding has."""
    renderable = render_console(result, report)
    if not console.options.ascii_only:
        console.print(renderable)
        return
    with console.capture() as captured:
        console.print(renderable)
    text = captured.get().translate(_ASCII).encode("ascii", "replace").decode("ascii")
    console.file.write(text)


def verdict_text(verdict: Verdict) -> Text:
    """A verdict as sign and word, in its colour where there is one."""
    from rich.text import Text

    words = _words.VERDICTS[verdict]
    return Text(f"{words.sign} {words.word}", style=STYLES[verdict])


def _panel(result: AuditResult) -> Panel:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    words = _words.VERDICTS[result.verdict]
    head = Text(f"{words.sign} {words.word.upper()}", style=f"bold {STYLES[result.verdict]}")
    title = Text(plain(result.title, 60), style="bold")
    lines: list[RenderableType] = [head, Text(_words.headline(result)), Text(), _facts(result)]
    return Panel(Group(*lines), title=title, title_align="left", border_style=STYLES[result.verdict], padding=(0, 2))


def _facts(result: AuditResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    claims, claim_words = _words.claims_words(result)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    if not result.complete:
        grid.add_row("Complete", Text("no: some of the planned conditions were not measured", style="yellow"))
    grid.add_row("Score", Text(_words.score_words(result), style="bold"))
    if result.score.cap is not None:
        grid.add_row("Cap", Text(f"{points(result.score.cap)}: {plain(result.score.cap_reason, 200)}"))
    grid.add_row("Evidence", _words.evidence_words(result.score))
    grid.add_row("Claims", Text(claim_words, style=STYLES[claims]))
    grid.add_row("Tested", Text(_tested(result)))
    return grid


def _tested(result: AuditResult) -> str:
    data = result.data
    role = "internal, an upper bound" if data.role == "internal" else plain(data.role, 20)
    cases = f"{amount(data.cases, 'case')} of {amount(data.patients, 'patient')}"
    return f"{plain(result.model.source, 40)} on {cases} ({role})"


def _domains(scores: Iterable[DomainScore]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), show_header=True, header_style="dim", expand=False)
    table.add_column("Domain", no_wrap=True)
    table.add_column("Points", justify="right", no_wrap=True)
    table.add_column("0" + " " * (_BAR - 4) + "100", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Decided", justify="right", no_wrap=True)
    for score in scores:
        bar = Text(_bar(score.points), style=STYLES[score.verdict])
        decided = _words.decided_words(score)
        title = _words.title_of(score.domain)
        table.add_row(title, points(score.points), bar, verdict_text(score.verdict), decided)
    return table


def _bar(earned: float | None) -> str:
    if earned is None:
        return ""
    full = round(_BAR * min(max(earned, 0.0), 100.0) / 100)
    return "█" * full + "░" * (_BAR - full)


def _criteria(criteria: Iterable[Criterion]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Failed or undecided, worst first", overflow="fold")
    for criterion in criteria:
        table.add_row(verdict_text(criterion.verdict), _why(criterion))
    return table


def _why(criterion: Criterion) -> Text:
    from rich.text import Text

    text = Text(plain(criterion.check, 40), style="bold")
    text.append(f" {plain(_words.subject(criterion), 60)}", style="not bold")
    if criterion.critical:
        text.append(" (critical)", style="not bold")
    line = f"\n{_words.measured(criterion)}  {plain(criterion.quantity, 60)}"
    return text.append(line, style="not bold").append(f"\n{plain(criterion.reason, 200)}", style="not bold dim")


def _costliest(result: AuditResult) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("Costliest checks", overflow="fold")
    table.add_column("Points", justify="right", no_wrap=True)
    for cost in result.score.costliest:
        table.add_row(
            _line("", plain(cost.check, 40), f" {plain(cost.finding, 40)}"), f"−{number(cost.points_lost, 1)}"
        )
    return table


def _by_position(result: AuditResult) -> list[RenderableType]:
    """Where an object moved the score most, in SD of the score; nothing where none was laid anywhere."""
    from rich.table import Table
    from rich.text import Text

    found = [(shown.check, item) for shown in result.tables for item in _positions.positions(shown)]
    checks = {id(item): check for check, item in found}
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("Where an object moves the score most", overflow="fold")
    table.add_column("Object minus placebo", justify="right", no_wrap=True)
    strongest = _positions.strongest(item for _, item in found)[:_POSITIONS]
    for item in strongest:
        words = Text(plain(checks[id(item)], 40), style="bold")
        words.append(f" {plain(item.name, 30)}, {plain(item.finding, 40)}", style="not bold")
        table.add_row(words, f"{interval(item.effect)} SD")
    return [table] if strongest else []


def _certify(certifiable: Sequence[Certifiable]) -> list[RenderableType]:
    """Whole findings only, joint drops beside their tolerances; the report has the rest."""
    from rich.table import Table
    from rich.text import Text

    words = certify_words(certifiable)
    if words is None:
        return []
    whole = [item for item in certifiable if not item.subgroup]
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column(words.title, overflow="fold", min_width=len(words.title))
    for title in ("Positives", *METRICS):
        table.add_column(title, justify="right", no_wrap=True)
    for rows in zip(*(certify_rows(whole[:_ROWS], metric) for metric in METRICS), strict=True):
        cells = [f"{number(row.joint, 3)}, δ {number(row.tolerance, 3)}" for row in rows]
        table.add_row(Text(plain(rows[0].name, 40)), count(rows[0].counts.positives), *cells)
    more = [_dim(f"  and {amount(len(whole) - _ROWS, 'more finding')}, in the report")] if len(whole) > _ROWS else []
    rest = _dim(f" Planned, not measured: joint drop beside its tolerance, {words.power}; see report.")
    return [table, *more, rest]


def _regression(regression: Regression) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    tone = _words.REGRESSION[regression.verdict]
    heading = _line("Against the baseline  ", regression.baseline)
    words = Text(f"{_words.VERDICTS[tone].sign} {_words.regression_words(regression)}", style=STYLES[tone])
    rows = [row for row in _words.regression_rows(regression) if row.verdict is not RegressionVerdict.NOT_REGRESSED]
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows[:_ROWS]:
        tone = _words.REGRESSION[row.verdict]
        text = Text(plain(row.check, 40), style="bold").append(f" {plain(row.finding, 60)}", style="not bold")
        text.append(f"\n{plain(row.quantity, 60)} {_words.loss_words(row)}", style="not bold")
        text.append(f"\n{plain(row.reason, 200)}", style="not bold dim")
        table.add_row(Text(f"{_words.VERDICTS[tone].sign} {row.verdict}", style=STYLES[tone]), text)
    more = [_dim(f"  and {count(len(rows) - _ROWS)} more, in the report")] if len(rows) > _ROWS else []
    left = [_dim(f"  not compared: {plain(text, 200)}") for text in regression.not_compared[:_ROWS]]
    if len(regression.not_compared) > _ROWS:
        left.append(_dim(f"  and {count(len(regression.not_compared) - _ROWS)} more not compared, in the report"))
    return [heading, words, *([table] if rows else []), *more, *left]


def _warnings(result: AuditResult) -> list[str]:
    flagged = [item for item in result.preflight if item.status != "ok"]
    return [f"preflight {item.status}: {item.name}: {item.detail}" for item in flagged] + list(result.notices[:5])


def _notice(notice: str) -> Text:
    from rich.text import Text

    return Text(f"! {plain(notice, 300)}", style=STYLES[Verdict.INCONCLUSIVE])


def _dim(text: str) -> Text:
    from rich.text import Text

    return Text(text, style="dim")


def _line(label: str, strong: str, rest: str = "") -> Text:
    from rich.text import Text

    return Text(label, style="dim").append(plain(strong), style="not dim bold").append(rest, style="not dim")
