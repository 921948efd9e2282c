"""``robustbench-rad gate``: from a result to an exit code, of a plan that is run or of a run that is judged again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_rad.cli_support import ExitCode, Output
from robustbench_rad.errors import PlanError
from robustbench_rad.plan import Plan
from robustbench_rad.result import NOT_RUN, AuditResult, RegressionVerdict, Verdict

if TYPE_CHECKING:
    from robustbench_rad.judging import FinishedRun


def check_usage(plan: Path | None, result: Path | None, only_plan: Mapping[str, object], out: Path | None) -> None:
    """Refuse arguments that contradict each other.

    Args:
        plan: The plan to run.
        result: The finished run to judge again.
        only_plan: Option → its value, for options that mean nothing without a plan to run.
        out: File for the new result; means nothing without ``result``.

    Raises:
        PlanError: Both or neither, or an option that would be ignored.
    """
    if plan is None and result is None:
        raise PlanError(
            "gate: expected a plan to run, or --result with a finished run, got neither",
            hint="robustbench-rad gate plan.toml, or robustbench-rad gate --result RUN_FOLDER --profile release.toml",
        )
    if plan is not None and result is not None:
        raise PlanError(
            f"gate: expected a plan to run, or --result with a finished run, got both: {plan} and {result}",
            hint="The run keeps its own plan: leave the plan out.",
        )
    if out is not None and result is None:
        raise PlanError("gate: --out needs --result", hint="A plan that is run writes into its run folder.")
    ignored = [option for option, value in only_plan.items() if value]
    if result is not None and ignored:
        raise PlanError(
            f"gate --result: {', '.join(ignored)} has no meaning here: nothing is run", hint="Leave it out."
        )


def check_baseline(baseline: Path | None, run: Path | None) -> None:
    """Refuse to compare a run with itself: that it has not regressed would say nothing.

    Args:
        baseline: What is compared with; None: nothing is.
        run: Folder or result file that was named for the run; None: the audit names it itself.

    Raises:
        PlanError: Both are the same run.
    """
    if baseline is not None and run is not None and baseline.exists() and _same(baseline, run):
        raise PlanError(
            f"--baseline {baseline}: expected the run of an earlier model, got the folder of this very run",
            hint="Keep the baseline in a folder of its own, or name another --run-folder.",
        )


def _same(place: Path, other: Path) -> bool:
    """Whether both, each a run folder or its result file, are the same run."""
    first, second = (path.parent if path.is_file() else path for path in (place.resolve(), other.resolve()))
    return first == second


def judge_again(
    place: Path, profile: str | None, out: Path | None, against: tuple[Path | None, bool], output: Output
) -> ExitCode:
    """Judge a finished run under another profile, compare it with a baseline if there is one, and show the result.

    Args:
        place: Run folder, or the result file in it.
        profile: Built-in profile or TOML file; None: the one it was run under.
        out: File to write the result to.
        against: Run folder of the baseline, or None; and whether it may be missing.
        output: Where it is shown.
    """
    from robustbench_rad.defences.comparison import beside
    from robustbench_rad.judging import FinishedRun
    from robustbench_rad.reports.writer import write_result

    baseline, allow_missing = against
    check_baseline(baseline, place)
    before = read_baseline(baseline, allow_missing=allow_missing)
    run = FinishedRun.read(place)
    result = compared(beside(run.judge(profile), run.folder), lambda: run.under(profile), baseline, before)
    if out is not None:
        write_result(result, out)
    show(result, run.folder, output)
    return exit_code(result, run.record.plan, output)


def show(result: AuditResult, folder: Path, output: Output, report: Path | None = None) -> None:
    """Print the summary, or the one JSON object."""
    from robustbench_rad.reports.console import print_summary

    if output.json:
        output.print_json({"folder": str(folder), "result": result.model_dump(mode="json")})
    else:
        print_summary(result, output.console, report)


def read_baseline(place: Path | None, *, allow_missing: bool) -> FinishedRun | None:
    """Read the baseline before hours of measuring; None when there is none and that is allowed.

    Raises:
        PlanError: There is none, or ``allow_missing`` without a place.
        RunFolderError: It is no finished run.
    """
    from robustbench_rad.judging import FinishedRun

    if place is None and allow_missing:
        raise PlanError("gate: --allow-missing-baseline needs --baseline", hint="Name the folder it will lie in.")
    if place is None or (allow_missing and not place.exists()):
        return None
    if not place.exists():
        hint = "Name the run folder of an earlier audit, or allow its absence with --allow-missing-baseline."
        raise PlanError(f"--baseline {place}: no such run folder", hint=hint)
    return FinishedRun.read(place)


def against(result: AuditResult, folder: Path, place: Path | None, baseline: FinishedRun | None) -> AuditResult:
    """Add the comparison with the baseline, or the notice that there was none, to the result of the run in ``folder``."""
    from robustbench_rad.judging import FinishedRun

    if baseline is not None and _same(baseline.folder, folder):  # the folder that the audit chose itself
        notice = (
            "The baseline is this very run: plan, model and data are the same, so there is no earlier model to compare."
        )
        result = result.model_copy(update={"notices": [notice, *result.notices]})
    return compared(result, lambda: FinishedRun.read(folder), place, baseline)


def compared(
    result: AuditResult, current: Callable[[], FinishedRun], place: Path | None, baseline: FinishedRun | None
) -> AuditResult:
    """Add the comparison of ``current`` with the baseline at ``place``, or the notice that there was none."""
    from robustbench_rad.regression import compare

    if place is None:
        return result
    if baseline is None:
        notice = f"There is no baseline {place.name} yet: this run was recorded, not compared."
        return result.model_copy(update={"notices": [notice, *result.notices]})
    return result.model_copy(update={"regression": compare(current(), baseline)})


def exit_code(result: AuditResult, plan: Plan, output: Output) -> ExitCode:
    """What the gate tells its caller: 0 passed, 1 failed or regressed, 3 inconclusive (0 when the plan allows it)."""
    if not output.json:
        output.console.print(f"gate: {result.verdict}", markup=False)
    regression = result.regression.verdict if result.regression else RegressionVerdict.NOT_REGRESSED
    if result.regression:
        output.say(f"against the baseline: {regression}")
    if result.verdict is Verdict.FAIL or regression is RegressionVerdict.REGRESSED:
        return ExitCode.FAILED
    open_ = {
        "inconclusive": result.verdict is not Verdict.PASS,
        "cannot tell": regression is not RegressionVerdict.NOT_REGRESSED,
    }
    hollow = _hollow(result)
    allow = plan.inconclusive == "allow" and not hollow
    for word in (word for word, is_open in open_.items() if is_open):
        allowed = 'allowed by the plan (inconclusive = "allow")' if allow else hollow or "not a pass"
        output.messages.print(f"warning: {word}, {allowed}", markup=False)
    return ExitCode.INCONCLUSIVE if any(open_.values()) and not allow else ExitCode.OK


def _hollow(result: AuditResult) -> str:
    """Why this result may not be waved through whatever the plan allows: it holds too little to stand on."""
    if not result.complete:
        return "the run is incomplete"
    judged = [criterion for criterion in result.criteria if criterion.verdict is not Verdict.INFORMATIONAL]
    if not any(criterion.harm.estimate is not None for criterion in judged):
        return "no check was judged"
    missing = [criterion.check for criterion in judged if criterion.critical and criterion.quantity == NOT_RUN]
    return f"critical checks were not run: {', '.join(missing)}" if missing else ""
