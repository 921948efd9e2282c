"""The comparison with a baseline in every report: verdict, rows, and no markup from foreign text."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from robustbench_rad.reports.console import print_summary
from robustbench_rad.reports.html import render_html
from robustbench_rad.reports.junit import render_junit
from robustbench_rad.reports.markdown import render_markdown
from robustbench_rad.result import (
    AuditResult,
    Domain,
    Interval,
    LevelRecord,
    Regression,
    RegressionRow,
    RegressionVerdict,
)

HOSTILE = "<script>alert(1)</script>|[red]x"


def row(verdict: RegressionVerdict, check: str, finding: str = "effusion") -> RegressionRow:
    return RegressionRow(
        check=check,
        domain=Domain.ACQUISITION_SHIFT,
        finding=finding,
        quantity="AUROC loss",
        level=LevelRecord(name="0.25", value=0.25, unit="of the exposure"),
        baseline=Interval(estimate=0.91, lower=0.88, upper=0.94),
        current=Interval(estimate=0.85, lower=0.81, upper=0.89),
        loss=Interval(estimate=0.06, lower=0.03, upper=0.09),
        margin=0.02,
        verdict=verdict,
        reason="the 98 % interval lies wholly beyond the tolerance",
    )


def regression(*rows: RegressionRow, baseline: str = "release-2.2") -> Regression:
    return Regression(
        baseline=baseline,
        measurement_sha256="a" * 64,
        weights_sha256="b" * 64,
        finished="2026-01-01T08:07:21Z",
        paired=True,
        pairing="paired: both runs are on the same cases",
        verdict=rows[0].verdict if rows else RegressionVerdict.CANNOT_TELL,
        rows=list(rows),
        not_compared=["attack.new: not measured in the baseline"],
    )


THREE = [
    row(RegressionVerdict.REGRESSED, "shift.xr.dose"),
    row(RegressionVerdict.CANNOT_TELL, "attack.fgsm"),
    row(RegressionVerdict.NOT_REGRESSED, "clean.performance"),
]


def console(result: AuditResult) -> str:
    stream = io.StringIO()
    print_summary(result, Console(file=stream, width=80, no_color=True))
    return stream.getvalue()


RENDERERS = {"console": console, "html": render_html, "markdown": render_markdown, "junit": render_junit}


@pytest.mark.parametrize("name", ["console", "html", "markdown"])
def test_what_is_not_compared_is_said(make_result: Any, name: str) -> None:
    text = re.sub("<[^>]*>", "", RENDERERS[name](make_result(regression=regression(*THREE)))).lower()
    assert "not compared: attack.new: not measured in the baseline" in text


def test_the_console_says_how_much_more_is_not_compared(make_result: Any) -> None:
    many = regression(*THREE).model_copy(update={"not_compared": [f"check.{n}: reason {n}" for n in range(11)]})
    text = console(make_result(regression=many))
    assert "not compared: check.7: reason 7" in text
    assert "and 3 more not compared, in the report" in text


@pytest.mark.parametrize("name", RENDERERS)
def test_every_report_shows_the_comparison(make_result: Any, name: str) -> None:
    text = RENDERERS[name](make_result(regression=regression(*THREE)))
    assert "egressed" in text
    assert "shift.xr.dose" in text
    assert "cannot tell" in text
    assert "same cases" in text.replace("\n", " ")
    assert "egressed" not in RENDERERS[name](make_result())


@pytest.mark.parametrize("name", ["html", "markdown"])
def test_foreign_text_stays_text(make_result: Any, name: str) -> None:
    hostile = regression(row(RegressionVerdict.REGRESSED, HOSTILE, finding=HOSTILE), baseline=HOSTILE)
    assert "<script>" not in RENDERERS[name](make_result(regression=hostile))


def test_console_keeps_its_width(make_result: Any) -> None:
    many = [row(RegressionVerdict.REGRESSED, "shift.xr.dose", finding="f" * 200) for _ in range(20)]
    text = console(make_result(regression=regression(*many)))
    assert max(map(len, text.splitlines())) <= 80
    assert "and 12 more" in text


def test_junit_has_a_case_per_comparison_and_is_never_green_without_one(make_result: Any) -> None:
    root = ElementTree.fromstring(render_junit(make_result(regression=regression(*THREE))))
    (suite,) = [suite for suite in root if suite.attrib["name"] == "regression"]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("3", "1", "1")
    root = ElementTree.fromstring(render_junit(make_result(regression=regression())))
    (suite,) = [suite for suite in root if suite.attrib["name"] == "regression"]
    assert suite.attrib["failures"] == "1"
