"""The result as JUnit XML: one test case per criterion, and one more for whatever else forbids a pass."""

from __future__ import annotations

from xml.etree import ElementTree

from robustbench_rad.reports import _words
from robustbench_rad.reports._format import amount, count, plain, points
from robustbench_rad.result import AuditResult, Criterion, Domain, Regression, Verdict


def render_junit(result: AuditResult, strict: bool = False) -> str:
    """Render a result as JUnit XML, one suite per domain.

    A failed criterion is a ``failure``; an inconclusive one is ``skipped`` with its reason, or a ``failure`` when
    ``strict``. An incomplete audit, an unmet claim, a preflight error or a result that judged nothing add a test case
    of their own to the suite ``audit``, so that a file without failures never hides them.
    """
    root = ElementTree.Element("testsuites", name=plain(result.title))
    for domain in Domain:
        criteria = [criterion for criterion in result.criteria if criterion.domain is domain]
        if criteria:
            suite = _suite(root, str(domain), result)
            for criterion in criteria:
                _criterion(suite, criterion, strict)
    if result.regression is not None:
        _regression_suite(root, result, result.regression, strict)
    _audit_suite(root, result, strict)
    for element in [*root, root]:
        _count(element)
    ElementTree.indent(root, space=" ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: ElementTree.Element, name: str, result: AuditResult) -> ElementTree.Element:
    suite = ElementTree.SubElement(root, "testsuite", name=name, timestamp=plain(result.provenance.started))
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(result).items():
        ElementTree.SubElement(properties, "property", name=key, value=plain(value))
    return suite


def _properties(result: AuditResult) -> dict[str, str]:
    return {
        "verdict": str(result.verdict),
        "score": _words.score_words(result),
        "evidence_coverage": f"{result.score.evidence_coverage:.3f}",
        "measurement_sha256": result.provenance.measurement_sha256,
        "policy_sha256": result.provenance.policy_sha256,
    }


def _criterion(suite: ElementTree.Element, criterion: Criterion, strict: bool) -> None:
    name = f"{_words.subject(criterion)}: {plain(criterion.quantity)}"
    check = plain(criterion.check)
    place = check if check.startswith(f"{criterion.domain}.") else f"{criterion.domain}.{check}"
    case = _case(suite, place, name)
    _outcome(case, criterion.verdict, plain(criterion.reason), strict, detail=_detail(criterion))


def _detail(criterion: Criterion) -> str:
    lines = [
        f"{plain(criterion.id)}{' (critical)' if criterion.critical else ''}",
        f"harm {_words.measured(criterion)}",
        f"worst level {_words.level_words(criterion.level)}",
        f"points {points(criterion.points)}",
        f"{amount(criterion.positives, 'positive')}, {amount(criterion.negatives, 'negative')}, "
        f"{amount(criterion.patients, 'patient')}",
    ]
    if criterion.needed_positives is not None:
        lines.append(f"{count(criterion.needed_positives)} {criterion.needed_counted} needed to decide")
    return "\n".join(lines)


def _case(suite: ElementTree.Element, classname: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=name, time="0")


def _outcome(case: ElementTree.Element, verdict: Verdict, reason: str, strict: bool, detail: str = "") -> None:
    if verdict is Verdict.FAIL or (strict and verdict is Verdict.INCONCLUSIVE):
        ElementTree.SubElement(case, "failure", message=reason, type=str(verdict)).text = detail
    elif verdict is Verdict.INCONCLUSIVE:
        ElementTree.SubElement(case, "skipped", message=reason).text = detail
    elif detail:
        ElementTree.SubElement(case, "system-out").text = f"{reason}\n{detail}"


def _regression_suite(root: ElementTree.Element, result: AuditResult, regression: Regression, strict: bool) -> None:
    """One test case per comparison with the baseline, and one that fails when there is none."""
    suite = _suite(root, "regression", result)
    for row in regression.rows:
        case = _case(suite, f"regression.{plain(row.check)}", f"{plain(row.finding)}: {plain(row.quantity)}")
        detail = (
            f"loss {_words.loss_words(row)}\nworst level {_words.level_words(row.level)}\n{plain(regression.pairing)}"
        )
        reason = f"{row.verdict}: {plain(row.reason)}"
        _outcome(case, _words.REGRESSION[row.verdict], reason, strict, detail)
    if not regression.rows:
        _outcome(_case(suite, "regression", "something was compared"), Verdict.FAIL, "nothing was compared", strict)


def _audit_suite(root: ElementTree.Element, result: AuditResult, strict: bool) -> None:
    troubles = _troubles(result)
    if troubles:
        suite = _suite(root, "audit", result)
        for name, verdict, reason in troubles:
            _outcome(_case(suite, "audit", name), verdict, reason, strict)


def _troubles(result: AuditResult) -> list[tuple[str, Verdict, str]]:
    """What forbids a pass and is no criterion: name, verdict, reason."""
    gate, words = _words.claims_words(result)
    troubles = []
    if not result.complete:
        troubles.append(("complete", Verdict.INCONCLUSIVE, "Some of the planned conditions were not measured."))
    if not any(criterion.verdict is not Verdict.INFORMATIONAL for criterion in result.criteria):
        troubles.append(("something was judged", Verdict.FAIL, _words.headline(result)))
    if gate in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        troubles.append(("claims", gate, plain(result.score.utility_reason) or words))
    for item in result.preflight:
        if item.status == "error":
            troubles.append((f"preflight: {plain(item.name)}", Verdict.FAIL, plain(item.detail)))
    return troubles


def _count(element: ElementTree.Element) -> None:
    element.set("tests", str(len(element.findall(".//testcase"))))
    element.set("failures", str(len(element.findall(".//failure"))))
    element.set("skipped", str(len(element.findall(".//skipped"))))
    element.set("errors", "0")
