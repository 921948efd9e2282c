"""Markdown: whole, escaped, within its limit."""

from __future__ import annotations

import re
from typing import Any

import pytest

from robustbench_rad.reports.markdown import escape, render_markdown
from robustbench_rad.result import AuditResult, Score, Verdict


def test_golden(result: AuditResult, golden: Any) -> None:
    golden("report.md", render_markdown(result))


def test_worst_comes_first(result: AuditResult) -> None:
    text = render_markdown(result)
    rows = [
        line for line in text.split("<details>")[0].splitlines() if "**Fail**" in line or "**Inconclusive**" in line
    ]
    assert "shortcut.masked-anatomy" in rows[0]
    assert [("**Fail**" in row) for row in rows] == sorted((("**Fail**" in row) for row in rows), reverse=True)


def test_no_score_says_why(result: AuditResult) -> None:
    score = result.score.model_dump() | {
        "total": None,
        "lower": None,
        "upper": None,
        "why_none": "AUROC 0.61 is below 0.70.",
    }
    text = render_markdown(result.model_copy(update={"score": Score(**score)}))
    assert "No score: AUROC 0.61 is below 0.70." in text


def test_an_incomplete_audit_says_so(result: AuditResult) -> None:
    assert "not complete" in render_markdown(result.model_copy(update={"complete": False}))
    assert "not complete" not in render_markdown(result)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("`c`", r"\`c\`"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](y)", r"\[x\](y)"),
        ("http://x.y", r"http\://x.y"),
        ("@team", "@\u200bteam"),
        ("a\n# b", r"a \# b"),
        ("*_~$", r"\*\_\~\$"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_hostile_text_stays_text_and_in_its_cell(hostile: AuditResult) -> None:
    text = render_markdown(hostile)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    tags = set(re.findall(r"<(/?\w+)", text))
    assert tags == {"details", "/details", "summary", "/summary"}
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


@pytest.mark.parametrize("limit", [200, 1_000, 3_000, 6_000, 60_000])
def test_limit_is_kept_and_what_is_missing_is_said(make_result: Any, limit: int) -> None:
    result = make_result()
    many = [
        criterion.model_copy(update={"id": f"{criterion.id}/{n}", "reason": criterion.reason * 3})
        for n in range(60)
        for criterion in result.criteria
    ]
    text = render_markdown(result.model_copy(update={"criteria": many}), limit=limit)
    assert len(text) <= limit
    assert "Shortened to fit" in text
    assert text.count("<details>") == text.count("</details>")
    assert render_markdown(result, limit=60_000).find("Shortened") == -1


def test_zero_criteria_is_not_a_pass(make_result: Any) -> None:
    text = render_markdown(make_result(criteria=[], verdict=Verdict.INCONCLUSIVE))
    assert "Inconclusive" in text.splitlines()[0]
    assert "Nothing was judged" in text
