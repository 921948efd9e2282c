"""Subgroups: a planted gap is found in its column, small cells are said, risk factors are not judged."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robustbench_rad.checks import defaults, subgroup
from robustbench_rad.checks.context import CheckOutcome, JudgeContext
from robustbench_rad.checks.subgroup import check_options
from robustbench_rad.errors import PlanError
from robustbench_rad.measured import make_conditions
from robustbench_rad.plan import make_plan
from robustbench_rad.profile import CheckSpec, effective_profile, read_profile
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Column, ScoreTable

ID = "subgroup.performance"
N = 2000
LABEL = np.tile([1.0, 0.0], N // 2)
RNG = np.random.default_rng(11)
SEX = RNG.choice(["F", "M"], N)
SCANNER = RNG.choice(["A", "B", "C"], N)
FAIR = 4 * (LABEL - 0.5) + RNG.normal(size=N)


def unfair(where, share=0.3):
    """Margins with the wrong sign for a share of the cases of one group."""
    hit = where & (np.random.default_rng(2).random(N) < share)
    return np.where(hit, -FAIR, FAIR)


def context(margins=FAIR, *, label=LABEL, roles=None, **columns) -> JudgeContext:
    columns = columns or {"sex": SEX, "scanner": SCANNER}
    n = len(label)
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={Column(condition="clean", level="", finding="f"): np.asarray(margins[:n], np.float32)},
            quantities={},
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(n),
        metadata={name: [str(value) for value in values] for name, values in columns.items()},
        roles=roles or dict.fromkeys(columns, "demographic"),
    )


def spec(**options) -> CheckSpec:
    default = defaults(ID)
    return CheckSpec(
        id=ID,
        domain=default.domain,
        options=options,
        tolerance=default.tolerance,
        critical_harm=default.critical_harm,
        critical=False,
    )


def judge(made, check) -> CheckOutcome:
    """What is judged or would be; the equalised-odds gaps, which never are, have a file of their own."""
    outcome = subgroup.judge(made, check)
    kept = [item for item in outcome.judged if item.criterion.quantity != subgroup.EQUALISED_ODDS]
    return dataclasses.replace(outcome, judged=kept)


def verdicts(outcome) -> dict:
    return {
        (item.criterion.subgroup, item.criterion.quantity.split()[0]): item.criterion.verdict for item in outcome.judged
    }


def test_a_fair_model_passes_everywhere():
    outcome = judge(context(), spec())
    assert set(verdicts(outcome).values()) == {Verdict.PASS}
    assert len(outcome.judged) == 2 * 3
    assert all(item.influence is not None for item in outcome.judged)


def test_a_planted_gap_fails_in_its_column_and_names_the_value():
    outcome = judge(context(unfair(SCANNER == "B")), spec())
    found = verdicts(outcome)
    assert {verdict for (column, _), verdict in found.items() if column == "scanner"} == {Verdict.FAIL}
    assert {verdict for (column, _), verdict in found.items() if column == "sex"} <= {
        Verdict.PASS,
        Verdict.INCONCLUSIVE,
    }
    levels = {item.criterion.level.name for item in outcome.judged if item.criterion.subgroup == "scanner"}
    assert levels == {"B against the rest"}


def test_the_gap_is_the_difference_of_the_metrics():
    """Sensitivity gap by hand: rest minus group."""
    margins = unfair(SEX == "M")
    outcome = judge(context(margins), spec(columns=["sex"]))
    (item,) = [i for i in outcome.judged if i.criterion.quantity.startswith("sensitivity")]
    positive = LABEL == 1
    by_hand = (margins[positive & (SEX == "F")] >= 0).mean() - (margins[positive & (SEX == "M")] >= 0).mean()
    assert item.criterion.harm.estimate == pytest.approx(by_hand, abs=1e-6)
    assert item.criterion.level.name == "M against the rest"


def test_a_gap_of_a_crossing_only_is_found_by_the_crossing_only():
    margins = unfair((SEX == "F") & (SCANNER == "A"), share=0.6)
    outcome = judge(context(margins), spec(columns=[], crossings=[["scanner", "sex"]]))
    assert set(verdicts(outcome)) == {("scanner × sex", name) for name in ("AUROC", "sensitivity", "specificity")}
    assert set(verdicts(outcome).values()) == {Verdict.FAIL}
    assert {item.criterion.level.name for item in outcome.judged} == {"A × F against the rest"}


@pytest.mark.parametrize(("role", "judged"), [("demographic", True), ("nuisance", True), ("risk_factor", False)])
def test_risk_factors_are_shown_and_not_judged(role, judged):
    outcome = judge(context(unfair(SEX == "M"), roles={"sex": role}, sex=SEX), spec())
    assert set(verdicts(outcome).values()) == {Verdict.FAIL if judged else Verdict.INFORMATIONAL}
    assert outcome.tables
    assert all(("risk factor" in item.criterion.reason) is not judged for item in outcome.judged)


def test_a_crossing_with_a_risk_factor_is_not_judged():
    roles = {"sex": "demographic", "scanner": "risk_factor"}
    outcome = judge(context(unfair(SEX == "M"), roles=roles), spec(columns=[], crossings=[["sex", "scanner"]]))
    assert set(verdicts(outcome).values()) == {Verdict.INFORMATIONAL}


def test_small_cells_are_said_never_dropped():
    sex = SEX.copy().astype("<U7")
    sex[:8] = "X"
    outcome = judge(context(sex=sex), spec())
    assert set(verdicts(outcome).values()) == {Verdict.PASS}
    assert all("not powered: X (4 " in item.criterion.reason for item in outcome.judged)
    (row,) = [row for row in outcome.tables[0].rows if row[1] == "X"]
    assert row[2:5] == [8, 4, 4]
    assert row[5:-1] == [None] * 9
    assert row[-1] == "not powered: 4 positives, 10 needed"


def test_only_small_cells_is_inconclusive():
    outcome = judge(context(label=LABEL[:30], sex=SEX[:30]), spec())
    assert set(verdicts(outcome).values()) == {Verdict.INCONCLUSIVE}
    assert all("not powered" in item.criterion.reason for item in outcome.judged)


def test_undecided_gaps_say_how_many_would_decide():
    outcome = judge(context(unfair(SEX == "M", 0.1), label=LABEL[:300], sex=SEX[:300]), spec())
    undecided = [item.criterion for item in outcome.judged if item.criterion.verdict is Verdict.INCONCLUSIVE]
    assert undecided
    assert any(criterion.needed_positives for criterion in undecided)


def test_missing_values_are_in_no_group_and_shown():
    sex = np.where(np.arange(N) % 4 < 2, SEX, "")
    outcome = judge(context(sex=sex), spec())
    assert [row[1] for row in outcome.tables[0].rows] == ["F", "M", "(missing)"]
    assert outcome.tables[0].rows[2][2] == N // 2
    known = judge(context(FAIR[sex != ""], label=LABEL[sex != ""], sex=sex[sex != ""]), spec())
    for with_missing, without in zip(outcome.judged, known.judged, strict=True):
        assert with_missing.criterion.harm.estimate == pytest.approx(without.criterion.harm.estimate, abs=1e-9)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"sex": ["F"] * N}, "has 1 known value"),
        ({"sex": [""] * N}, "has 0 known value"),
        ({"age": [str(i % 40) for i in range(N)]}, "has 40 values: group them"),
    ],
    ids=["one value", "no value", "too many values"],
)
def test_columns_that_cannot_be_compared_say_why(columns, reason):
    outcome = judge(context(**columns), spec())
    assert set(verdicts(outcome).values()) == {Verdict.INCONCLUSIVE}
    assert all(reason in item.criterion.reason for item in outcome.judged)


def test_no_metadata_is_one_inconclusive_criterion_that_says_what_is_needed():
    bare = context()
    bare = JudgeContext(scores=bare.scores, findings=("f",), labels=bare.labels, patients=bare.patients)
    (item,) = judge(bare, spec()).judged
    assert item.criterion.verdict is Verdict.INCONCLUSIVE
    assert "[data] metadata" in item.criterion.reason


def test_the_order_of_cases_does_not_matter():
    order = np.random.default_rng(0).permutation(N)
    margins = unfair(SEX == "M", 0.1)
    one = judge(context(margins), spec())
    other = judge(context(margins[order], label=LABEL[order], sex=SEX[order], scanner=SCANNER[order]), spec())
    for a, b in zip(one.judged, other.judged, strict=True):
        assert a.criterion.harm.estimate == pytest.approx(b.criterion.harm.estimate, abs=1e-9)


def plan(options, metadata=None):
    model = {"factory": "a:b", "head": "single-logit", "findings": ["f"], "input": {"size": [8, 8], "range": [0, 1]}}
    declared = {"sex": "demographic", "scanner": "nuisance"} if metadata is None else metadata
    data = {"manifest": "m.csv", "metadata": declared}
    return make_plan({"profile": "quick", "model": model, "data": data, "checks": {ID: options}}, base=Path())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["sexx"]}, "'sexx' is not declared.*Did you mean 'sex'"),
        ({"columns": "sex"}, 'expected a list such as \\["scanner"\\]'),
        ({"crossings": [["sex"]]}, "expected pairs such as"),
        ({"crossings": [["sex", "sex"]]}, "expected pairs such as"),
        ({"crossings": ["sex", "scanner"]}, "expected pairs such as"),
        ({"crossings": [["sex", "site"]]}, "'site' is not declared"),
        ({"colums": ["sex"]}, "unknown option 'colums'.*Did you mean 'columns'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_run(options, message):
    made = plan(options)
    with pytest.raises(PlanError, match=f"(?s){message}"):
        make_conditions(made, effective_profile(made))


def test_right_options_are_policy_not_measurement():
    plain, crossed = plan({}), plan({"columns": ["sex"], "crossings": [["sex", "scanner"]]})
    check_options(crossed, crossed.checks[ID])
    a, b = effective_profile(plain), effective_profile(crossed)
    assert a.measurement == b.measurement
    assert a.policy != b.policy


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_every_profile_judges_subgroups(name):
    file = read_profile(name)
    assert ID in file.checks
    assert file.domains[Domain.SUBGROUP].weight > 0
