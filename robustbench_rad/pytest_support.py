"""What the pytest plugin hands to tests; imported on first use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from robustbench_rad.errors import RobustbenchRadError, RunFolderBusyError, suggestion
from robustbench_rad.reports._format import points
from robustbench_rad.result import AuditResult, Criterion, Verdict

POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """A finished audit with assertion helpers.

    Attributes:
        result: Everything the audit found.
        strict: Whether an inconclusive check fails instead of skipping.
    """

    result: AuditResult
    strict: bool = False

    @property
    def headline(self) -> str:
        """Verdict and score in one line."""
        score = self.result.score
        shown = f"score {points(score.total)}" if score.total is not None else f"no score ({score.why_none})"
        return f"{self.result.title}: {self.result.verdict}, {shown}"

    def criteria(self, check: str, *, finding: str | None = None, quantity: str | None = None) -> list[Criterion]:
        """Criteria of a check; an unknown check or finding fails the test and names the nearest one."""
        __tracebackhide__ = True
        known = {criterion.check for criterion in self.result.criteria}
        if check not in known:
            pytest.fail(f"the audit holds no check {check!r}. {suggestion(check, known)}", pytrace=False)
        findings = {criterion.finding for criterion in self.result.criteria if criterion.finding}
        if finding is not None and finding not in findings:
            pytest.fail(f"the audit holds no finding {finding!r}. {suggestion(finding, findings)}", pytrace=False)
        return [
            criterion
            for criterion in self.result.criteria
            if criterion.check == check
            and (finding is None or criterion.finding in (finding, ""))
            and (quantity is None or quantity in criterion.quantity)
        ]

    def assert_check(self, check: str, *, finding: str | None = None, quantity: str | None = None) -> list[Criterion]:
        """Fail unless every criterion passes; inconclusive skips, or fails when strict."""
        __tracebackhide__ = True
        criteria = self.criteria(check, finding=finding, quantity=quantity)
        if not criteria:
            pytest.fail(f"{check}: no criterion with quantity {quantity!r}", pytrace=False)
        self._settle(criteria, Verdict.FAIL, fails=True)
        self._settle(criteria, Verdict.INCONCLUSIVE, fails=self.strict)
        return criteria

    def assert_score(self, at_least: float) -> None:
        """Fail unless the lower end of the score's interval reaches ``at_least``."""
        __tracebackhide__ = True
        score = self.result.score
        if score.total is None or score.lower is None:
            self._inconclusive(f"no score: {score.why_none}")
        elif score.lower < at_least:
            pytest.fail(
                f"score {score.total:.1f} [{score.lower:.1f}, {score.upper:.1f}]: its lower end is below {at_least}",
                pytrace=False,
            )

    def assert_auroc(self, finding: str, at_least: float) -> None:
        """Fail unless the lower end of the clean AUROC's interval reaches ``at_least``; too little data skips."""
        __tracebackhide__ = True
        found = {summary.name: summary for summary in self.result.findings}
        if finding not in found:
            pytest.fail(f"the audit holds no finding {finding!r}. {suggestion(finding, found)}", pytrace=False)
        auroc = found[finding].auroc
        if auroc.estimate is None or auroc.lower is None or auroc.upper is None:
            self._inconclusive(f"{finding}: no AUROC: {auroc.method}")
        elif auroc.upper < at_least:
            pytest.fail(
                f"{finding}: AUROC {_shown(auroc.estimate, auroc.lower, auroc.upper)} < {at_least}", pytrace=False
            )
        elif auroc.lower < at_least:
            self._inconclusive(
                f"{finding}: AUROC {_shown(auroc.estimate, auroc.lower, auroc.upper)} is not shown to reach {at_least}"
            )

    def _settle(self, criteria: list[Criterion], verdict: Verdict, *, fails: bool) -> None:
        __tracebackhide__ = True
        found = [describe(criterion) for criterion in criteria if criterion.verdict is verdict]
        if found and fails:
            pytest.fail("\n".join(found), pytrace=False)
        elif found:
            pytest.skip("; ".join(found))

    def _inconclusive(self, reason: str) -> None:
        __tracebackhide__ = True
        if self.strict:
            pytest.fail(f"inconclusive: {reason}", pytrace=False)
        pytest.skip(f"inconclusive: {reason}")


def describe(criterion: Criterion) -> str:
    """One line: what, where, how much against what, why."""
    harm = criterion.harm
    numbers = ""
    if harm.estimate is not None and harm.lower is not None and harm.upper is not None:
        numbers = f" = {_shown(harm.estimate, harm.lower, harm.upper)}, tolerance {criterion.tolerance:g}"
    at = f" at {criterion.level.name} {criterion.level.unit}".rstrip() if criterion.level else ""
    where = f" ({criterion.finding})" if criterion.finding else ""
    return f"{criterion.verdict}: {criterion.check}{where}: {criterion.quantity}{at}{numbers}: {criterion.reason}"


def _shown(estimate: float, lower: float, upper: float) -> str:
    return f"{estimate:.3f} [{lower:.3f}, {upper:.3f}]"


def open_session(*, plan: Path | None, result: Path | None, strict: bool) -> Robustness:
    """Read a finished result, or run the plan's audit (once: a second process waits and reads what the first made)."""
    __tracebackhide__ = True
    if result is None and plan is None:
        pytest.fail(
            "no audit: give --robustness-plan PLAN.toml or --robustness-result RESULT.json, or set it in the ini file",
            pytrace=False,
        )
    try:
        if result is not None:
            return Robustness(result=AuditResult.read(result), strict=strict)
        assert plan is not None
        return Robustness(result=_run(plan), strict=strict)
    except RobustbenchRadError as error:
        pytest.fail(str(error), pytrace=False)


def _run(path: Path) -> AuditResult:
    from robustbench_rad.audit import run_audit
    from robustbench_rad.plan import read_plan
    from robustbench_rad.reports.writer import write_reports

    plan = read_plan(path)
    while True:
        try:
            done = run_audit(plan)
        except RunFolderBusyError:
            time.sleep(POLL_S)
            continue
        write_reports(done.result, done.folder, plan.report.formats)
        return done.result
