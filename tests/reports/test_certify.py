"""The section on what the data can certify: chart, tables, and what it leaves out."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from robustbench_rad.reports._certify import CHART_ROWS, certify_chart, certify_views
from robustbench_rad.reports.html import render_html
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


def test_a_result_without_it_has_no_section(result: AuditResult) -> None:
    text = render_html(result.model_copy(update={"certifiable": []}))
    assert TITLE not in text
    assert "#certify" not in text


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
