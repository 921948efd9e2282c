"""The terminal summary: 80 columns, with and without colour, piped, hostile."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robustbench_rad.reports.console import print_summary, render_console
from robustbench_rad.reports.html import render_html
from robustbench_rad.reports.markdown import render_markdown
from robustbench_rad.result import AuditResult, Domain, Score, Verdict


def printed(result: AuditResult, width: int = 80, encoding: str = "utf-8", **options: Any) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    print_summary(result, Console(file=file, width=width, **options), Path("run/report.html"))
    file.flush()
    return raw.getvalue().decode(encoding)


def test_golden_piped(result: AuditResult, golden: Any) -> None:
    golden("summary.txt", printed(result))


def test_piped_text_has_no_escape_sequences(result: AuditResult) -> None:
    assert "\x1b" not in printed(result)


def test_a_terminal_gets_colour_and_the_same_words(result: AuditResult) -> None:
    coloured = printed(result, force_terminal=True, color_system="standard")
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(result)


def test_no_colour_keeps_every_verdict_in_words(result: AuditResult) -> None:
    text = printed(result, force_terminal=True, no_color=True)
    for word in ("FAIL", "Pass", "Inconclusive", "33 of 100 [27, 41]", "75%", "Costliest", "run/report.html"):
        assert word in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_nothing_is_wider_than_the_terminal(result: AuditResult, hostile: AuditResult, width: int) -> None:
    from rich.cells import cell_len

    for shown in (result, hostile):
        assert max(cell_len(line) for line in printed(shown, width=width).splitlines()) <= width


def test_the_screen_is_one_page(result: AuditResult) -> None:
    assert len(printed(result).splitlines()) <= 62


def test_an_old_terminal_gets_ascii(result: AuditResult, hostile: AuditResult) -> None:
    for shown in (result, hostile):
        text = printed(shown, encoding="ascii")
        assert text.isascii()
        assert "x FAIL" in text
        assert "d 0.300" in text


def test_foreign_text_is_neither_markup_nor_escape(hostile: AuditResult) -> None:
    text = printed(hostile, width=200, force_terminal=True, color_system="standard")
    assert "␛[31m[red]" in text
    assert "\x1b[31m[red]" not in text
    assert "\u202e" not in text


def test_checks_that_the_plan_adds_are_counted_beside_the_profile_in_every_report(result: AuditResult) -> None:
    domains = [
        d.model_copy(update={"added": 2, "added_judged": 1} if d.domain is Domain.SHORTCUT else {})
        for d in result.score.domains
    ]
    more = result.model_copy(update={"score": result.score.model_copy(update={"domains": domains})})
    words = "2 checks added by the plan (+): no part of this share, but able to lower points"
    text = printed(more)
    shortcut = next(n for n, line in enumerate(text.splitlines()) if line.startswith(" Shortcut "))
    assert [line.split()[-3:] for line in text.splitlines()[shortcut : shortcut + 2]] == [
        ["2", "of", "2"],
        ["+1", "of", "2"],
    ]
    for shown in (text, render_markdown(more), render_html(more)):
        assert words in " ".join(shown.replace("│", " ").split())
    assert "1 of 2 that the plan adds" in render_html(more)
    assert "added by the plan" not in printed(result)


def test_no_score_says_why(result: AuditResult) -> None:
    score = result.score.model_dump() | {"total": None, "lower": None, "upper": None, "why_none": "Claims not met."}
    assert "No score: Claims not met." in printed(result.model_copy(update={"score": Score(**score)}))


def test_many_criteria_are_cut_and_counted(make_result: Any) -> None:
    result = make_result()
    failed = [c for c in result.criteria if c.verdict is Verdict.FAIL]
    many = [c.model_copy(update={"id": f"{c.id}/{n}"}) for n in range(20) for c in failed]
    assert "and 55 more failed or undecided" in printed(result.model_copy(update={"criteria": many}))


def test_render_without_a_report(result: AuditResult) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_console(result))
    assert "Report" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_where_an_object_moves_the_score_most_is_said(result: AuditResult) -> None:
    """The two largest effects, whatever their sign; nothing where no object was laid anywhere."""
    text = printed(result)
    assert "shortcut.insert-marker top left, pneumothorax" in text
    assert "0.42 [0.31, 0.54] SD" in text
    assert "−0.12 [−0.24, 0.00] SD" in text
    assert "bottom left" not in text
    assert "insert-marker" not in printed(result.model_copy(update={"tables": result.tables[:1]}))
