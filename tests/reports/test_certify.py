"""The section on what the data can certify: chart, tables, and what it leaves out."""

from __future__ import annotations

import io
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from robustbench_rad.planning_words import assumptions_of_rows
from robustbench_rad.reports._certify import CHART_ROWS, certify_chart, certify_views, certify_words
from robustbench_rad.reports.console import print_summary
from robustbench_rad.reports.html import render_html
from robustbench_rad.reports.markdown import render_markdown
from robustbench_rad.result import AuditResult

TITLE = "What this data set can certify"


def test_views_hold_both_metrics(result: AuditResult) -> None:
    auroc, sensitivity = certify_views(result.certifiable)
    assert (auroc.metric, sensitivity.metric) == ("AUROC", "sensitivity")
    assert [row.name for row in auroc.rows[:2]] == ["pneumothorax", "pneumothorax, scanner Alpha"]
    assert [row.joint for row in auroc.rows[4:]] == [None, None]
    assert {row.joint for row in sensitivity.rows} == {0.112}


def test_chart_says_its_numbers_and_where_nothing_would_show(result: AuditResult) -> None:
    svg = certify_chart(certify_views(result.certifiable)[0].rows, metric="AUROC", key="k")
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{space}text")]
    assert "pneumothorax (212 positives)" in texts
    assert texts.count("no drop would show") == 2
    description = root.find(f"{space}desc")
    assert description is not None
    assert "pneumothorax: 0.014 under one condition, 0.020 jointly." in (description.text or "")
    assert svg == certify_chart(certify_views(result.certifiable)[0].rows, metric="AUROC", key="k")


def test_page_has_the_section_its_numbers_and_its_link(result: AuditResult) -> None:
    text = render_html(result)
    assert f'<h2 id="certify">{TITLE}</h2>' in text
    assert 'href="#certify"' in text
    for words in ("0.014", "0.112", "217", "27 comparisons", "AUROC 0.91, sensitivity 0.86"):
        assert words in text


def test_every_report_has_the_same_title_and_assumptions(result: AuditResult) -> None:
    for text in (render_html(result), render_markdown(result).replace("\\", "")):
        assert TITLE in text
        for words in (*assumptions_of_rows(result.certifiable), "AUROC 0.91, sensitivity 0.86", "0.112"):
            assert words in text
    assert "27 comparisons" in render_html(result)
    assert "discordance of 14% (12% lost, 2% gained)" in render_html(result)


def test_the_console_says_it_in_short(result: AuditResult) -> None:
    text = " ".join(printed(result).split())
    assert f"{TITLE} Positives AUROC sensitivity pneumothorax 212 0.020, δ 0.050 0.112, δ 0.100" in text
    assert "nodule 4 –, δ 0.050" in text
    assert "Planned, not measured: joint drop beside its tolerance, 80% power; see report." in text


def test_html_and_markdown_have_the_same_introduction_legend_and_columns(result: AuditResult) -> None:
    words = certify_words(result.certifiable)
    assert words is not None
    for text in (render_html(result), render_markdown(result)):
        for part in (words.introduction, words.legend, *words.columns):
            assert part in text


def test_the_assumptions_are_those_of_the_result(result: AuditResult) -> None:
    changed = {"correlation": 0.5, "gained": 0.04, "alpha": 0.01, "power": 0.9, "icc": 0.1}
    rows = [row.model_copy(update=changed) for row in result.certifiable]
    text = render_html(result.model_copy(update={"certifiable": rows}))
    for words in (
        "90% power at a two-sided level of 0.01",
        "correlated 0.5",
        "correlated 0.1 (ICC)",
        "discordance of 18%",
    ):
        assert words in text


def test_the_console_shows_whole_findings_and_counts_the_rest(result: AuditResult) -> None:
    whole = [row for row in result.certifiable if not row.subgroup]
    many = [row.model_copy(update={"finding": f"finding {n}"}) for n in range(10) for row in whole[:1]]
    text = printed(result.model_copy(update={"certifiable": many}))
    assert "finding 7 " in text
    assert "finding 8 " not in text
    assert "and 2 more findings, in the report" in text
    assert "scanner Alpha" not in printed(result)


def test_foreign_names_stay_text_in_markdown(hostile: AuditResult) -> None:
    text = render_markdown(hostile, limit=10**6)
    assert "<script>" not in text
    assert text.count("<details>") == text.count("</details>")


def test_a_result_without_it_has_no_section(result: AuditResult) -> None:
    without = result.model_copy(update={"certifiable": []})
    for text in (render_html(without), render_markdown(without), printed(without)):
        assert TITLE not in text
    assert "#certify" not in render_html(without)


def printed(result: AuditResult) -> str:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    print_summary(result, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_many_rows_stay_small(make_result: Any) -> None:
    result = make_result()
    many = [row.model_copy(update={"subgroup": f"site {n}"}) for n in range(200) for row in result.certifiable]
    view = certify_views(many)[0]
    assert (view.drawn, len(view.rows), view.left_out) == (CHART_ROWS, 400, 800)
    text = render_html(result.model_copy(update={"certifiable": many}))
    assert f"the first {CHART_ROWS} of 1200" in text
    assert "800 more rows in result.json." in text


@pytest.mark.parametrize("field", ["auroc_tolerance", "auroc_gap", "auroc_drop_joint"])
def test_what_is_not_known_is_not_drawn(result: AuditResult, field: str) -> None:
    rows = [row.model_copy(update={field: None}) for row in result.certifiable]
    ElementTree.fromstring(certify_views(rows)[0].svg)
