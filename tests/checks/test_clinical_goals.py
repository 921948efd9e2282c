"""How goals about all findings are judged and shown, on measurements whose answer is known."""

import numpy as np
import pytest

from robustbench_rad.checks import clinical_goals, defaults
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Quantity, ScoreTable

ID, N = "attack.clinical-goals", 200
LEVELS = (Level(name="1/255", value=1 / 255, unit=""), Level(name="2/255", value=2 / 255, unit=""))


def context(measured, patients=None, **more):
    quantities = {
        Quantity(condition=ID, name=name, level=level, finding=finding): np.asarray(values, np.float32)
        for (name, level, finding), values in measured.items()
    }
    labels = np.tile([1.0, 0.0], N // 2)[:, None].repeat(2, 1)
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))), columns={}, quantities=quantities, reasons=more.pop("reasons", {})
        ),
        findings=("a", "b"),
        labels=labels,
        patients=np.arange(N) if patients is None else patients,
        levels={ID: LEVELS},
        thresholds={"a": 0.5},
        **more,
    )


def check(*goals, **options):
    return check_spec(ID, {"goals": list(goals), **options})


def reached(share, level="2/255", name="all-clear", finding=""):
    values = (np.arange(N) % 100) < 100 * share
    return {(f"reached {name}", one, finding): values * (one == level) for one in ("1/255", "2/255")}


def criteria(outcome):
    return {item.criterion.quantity.partition(":")[0]: item.criterion for item in outcome.judged}


@pytest.mark.parametrize(("share", "verdict"), [(0.1, "pass"), (0.3, "inconclusive"), (0.6, "fail")])
def test_the_worst_level_is_held_against_the_tolerance(share, verdict):
    found = criteria(clinical_goals.judge(context(reached(share)), check("all-clear")))["all-clear"]
    assert found.verdict is Verdict(verdict)
    assert found.harm.estimate == pytest.approx(share)
    assert found.level.name == "2/255"
    assert found.finding == ""


def test_cases_that_count_and_have_no_answer_allow_no_pass():
    measured = reached(0.0)
    measured["reached all-clear", "1/255", ""] = np.full(N, np.inf)
    reasons = {(ID, "1/255"): "less than one grey level"}
    found = criteria(clinical_goals.judge(context(measured, reasons=reasons), check("all-clear")))["all-clear"]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no answer for 200 case(s): less than one grey level" in found.reason


def test_blind_searches_allow_no_pass_and_take_back_no_failure():
    blind = {("zero_gradient all-clear", "", ""): np.eye(N)[0]}
    low = criteria(clinical_goals.judge(context(reached(0.0) | blind), check("all-clear")))["all-clear"]
    assert low.verdict is Verdict.INCONCLUSIVE
    assert "masked gradients" in low.reason
    high = criteria(clinical_goals.judge(context(reached(0.9) | blind), check("all-clear")))["all-clear"]
    assert high.verdict is Verdict.FAIL


def test_cases_in_which_the_goal_makes_no_sense_do_not_dilute_it():
    measured = reached(0.5)
    for name in measured:
        measured[name] = np.where(np.arange(N) < 20, measured[name], np.nan)
    measured["reached all-clear", "2/255", ""][:20] = np.arange(20) < 15
    outcome = clinical_goals.judge(context(measured), check("all-clear"))
    assert criteria(outcome)["all-clear"].harm.estimate == pytest.approx(0.75)
    (table,) = outcome.tables
    row = table.rows[-1]
    assert row[table.columns.index("attackable")] == 20
    assert row[table.columns.index("reached")] == 15


def test_images_of_one_patient_widen_the_interval():
    measured = {name: np.repeat(values[:40], 5) for name, values in reached(0.3).items()}
    alone = criteria(clinical_goals.judge(context(measured), check("all-clear")))["all-clear"].harm
    patients = np.repeat(np.arange(40), 5)
    together = criteria(clinical_goals.judge(context(measured, patients), check("all-clear")))["all-clear"].harm
    assert together.upper - together.lower > 1.5 * (alone.upper - alone.lower)


def test_quiet_is_judged_finding_by_finding_and_a_missing_one_is_said():
    outcome = clinical_goals.judge(context(reached(0.0, name="quiet", finding="a")), check("quiet"))
    by_finding = {item.criterion.finding: item.criterion for item in outcome.judged}
    assert by_finding["a"].verdict is Verdict.PASS
    assert by_finding["b"].verdict is Verdict.INCONCLUSIVE
    assert "no case in which this goal" in by_finding["b"].reason


def test_a_swap_is_named_by_both_findings():
    outcome = clinical_goals.judge(
        context(reached(0.9, name="swap to b", finding="a")), check("swap", pairs=[["a", "b"]])
    )
    (item,) = outcome.judged
    assert item.criterion.verdict is Verdict.FAIL
    assert item.criterion.quantity == "swap: a hidden and b called"


def test_what_is_only_shown_has_intervals_and_no_verdict():
    measured = reached(0.9, name="any") | reached(0.2, name="alarm")
    for level in LEVELS:
        measured["alarms raised", level.name, ""] = np.arange(N) % 3
        measured["drift", level.name, "a"] = np.linspace(0, 1, N)
    outcome = clinical_goals.judge(context(measured), check("any", "alarm", "drift"))
    assert not outcome.judged
    goals, alarms, drifts = outcome.tables
    assert {row[-1] for row in goals.rows} == {"shown"}
    assert alarms.rows[0][2:5] == pytest.approx([1.0, 0.885, 1.115], abs=0.01)
    median = next(row for row in drifts.rows if row[0] == "a" and row[3] == "median")
    assert median[5] < 0.5 < median[6]
    assert {row[-1] for row in drifts.rows if row[0] == "b"} == {
        "no threshold is declared, so the largest class decides and there is no probability"
    }


def test_the_tolerances_can_be_declared_goal_by_goal():
    default = defaults(ID)
    assert set(default.tolerance) == set(clinical_goals.JUDGED) == set(default.critical_harm)
