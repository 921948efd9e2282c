"""JUnit XML: one case per criterion, and no green file over trouble."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from robustbench_rad.reports.junit import render_junit
from robustbench_rad.result import AuditResult, Criterion, PreflightItem, Score, Verdict


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode("utf-8"))


def test_golden(result: AuditResult, golden: Any) -> None:
    golden("report.junit.xml", render_junit(result))


def test_one_case_per_criterion(result: AuditResult) -> None:
    root = parse(render_junit(result))
    cases = root.findall(".//testcase")
    assert len(cases) == len(result.criteria)
    assert cases[2].attrib["classname"] == "adversarial.attack.pgd-linf"
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    assert int(root.attrib["tests"]) == sum(int(suite.attrib["tests"]) for suite in root) == len(cases)


@pytest.mark.parametrize(("strict", "failures", "skipped"), [(False, 3, 4), (True, 7, 0)])
def test_inconclusive_is_skipped_or_strictly_failed(
    result: AuditResult, strict: bool, failures: int, skipped: int
) -> None:
    root = parse(render_junit(result, strict=strict))
    assert (len(root.findall(".//failure")), len(root.findall(".//skipped"))) == (failures, skipped)
    assert (root.attrib["failures"], root.attrib["skipped"]) == (str(failures), str(skipped))
    for element in [*root.findall(".//failure"), *root.findall(".//skipped")]:
        assert element.attrib["message"]


def passing(result: AuditResult, **changes: object) -> AuditResult:
    criteria = [c for c in result.criteria if c.verdict is Verdict.PASS]
    return result.model_copy(update={"criteria": criteria, "verdict": Verdict.PASS, **changes})


def test_a_passing_result_is_green(result: AuditResult) -> None:
    root = parse(render_junit(passing(result), strict=True))
    assert root.attrib["failures"] == root.attrib["skipped"] == "0"


def informational(criterion: Criterion) -> Criterion:
    return criterion.model_copy(update={"verdict": Verdict.INFORMATIONAL})


@pytest.mark.parametrize("trouble", ["complete", "claims", "preflight", "nothing", "shown only"])
def test_trouble_beside_the_criteria_is_never_green(result: AuditResult, trouble: str) -> None:
    gate = Score(**(result.score.model_dump() | {"utility_gate": Verdict.FAIL}))
    changes: dict[str, dict[str, object]] = {
        "complete": {"complete": False},
        "claims": {"score": gate},
        "preflight": {"preflight": [PreflightItem(name="determinism", status="error", detail="Two runs differ.")]},
        "nothing": {"criteria": []},
        "shown only": {"criteria": [informational(criterion) for criterion in result.criteria]},
    }
    root = parse(render_junit(passing(result, **changes[trouble]), strict=True))
    assert int(root.attrib["failures"]) == 1


def test_hostile_text_is_legal_xml(hostile: AuditResult) -> None:
    root = parse(render_junit(hostile))
    assert "<script>alert(1)</script>␛[31m[red]" in root.findall(".//testcase")[2].attrib["name"]
