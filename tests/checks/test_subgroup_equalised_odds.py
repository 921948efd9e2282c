"""The equalised-odds gap beside the judged gaps: right by hand, never judged, small cells said."""

import numpy as np
import pytest

from robustbench_rad.checks import subgroup
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable

CHECK = check_spec("subgroup.performance", {})
N = 1200
LABEL = np.tile([1.0, 0.0], N // 2)
SEX = np.random.default_rng(3).choice(["F", "M"], N)
RIGHT = np.where(LABEL == 1, 2.0, -2.0) + np.random.default_rng(4).normal(size=N) / 4


def gaps(margins=RIGHT, label=LABEL, roles=None, patients=None, **columns):
    columns = columns or {"sex": SEX}
    n = len(label)
    made = JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={Column(condition="clean", level="", finding="f"): np.asarray(margins[:n], np.float32)},
            quantities={},
        ),
        findings=("f",),
        labels=np.asarray(label, np.float64)[:, None],
        patients=np.arange(n) if patients is None else patients,
        metadata={name: [str(value) for value in values[:n]] for name, values in columns.items()},
        roles=roles or dict.fromkeys(columns, "demographic"),
    )
    outcome = subgroup.judge(made, CHECK)
    return [item for item in outcome.judged if item.criterion.quantity == subgroup.EQUALISED_ODDS]


def only(**more):
    (item,) = gaps(**more)
    return item.criterion


def flipped(where, share, seed=5):
    return np.where(where & (np.random.default_rng(seed).random(N) < share), -RIGHT, RIGHT)


def test_it_is_the_largest_difference_of_either_rate():
    margins = flipped((SEX == "M") & (LABEL == 0), 0.3)
    criterion = only(margins=margins)
    specificity = {sex: (margins[(sex == SEX) & (LABEL == 0)] < 0).mean() for sex in "FM"}
    assert criterion.harm.estimate == pytest.approx(specificity["F"] - specificity["M"])
    assert 0 < criterion.harm.lower < criterion.harm.estimate < criterion.harm.upper
    assert criterion.reason.startswith("specificity: M below F")


def test_it_is_shown_and_never_judged():
    (item,) = gaps(margins=flipped(SEX == "M", 0.4))
    criterion = item.criterion
    assert criterion.verdict is Verdict.INFORMATIONAL
    assert (criterion.tolerance, criterion.points, item.influence) == (None, None, None)
    assert criterion.subgroup == "sex"


def test_its_counts_are_those_of_the_cases_with_a_known_value():
    some = np.where(np.arange(N) < 1000, SEX, "")
    criterion = only(sex=some)
    assert (criterion.positives, criterion.negatives, criterion.patients) == (500, 500, 1000)


def test_every_column_has_its_own_and_ids_differ():
    scanner = np.random.default_rng(6).choice(["A", "B", "C"], N)
    found = gaps(margins=flipped(scanner == "B", 0.3), sex=SEX, scanner=scanner)
    assert {item.criterion.subgroup for item in found} == {"sex", "scanner"}
    assert len({item.criterion.id for item in found}) == 2
    assert " B below " in next(i.criterion.reason for i in found if i.criterion.subgroup == "scanner")


def test_a_risk_factor_is_said_to_be_one():
    assert "a risk factor" in only(roles={"sex": "risk_factor"}).reason
    assert "a risk factor" not in only().reason


def test_small_cells_are_not_powered_and_said():
    sex = SEX.astype("<U7")
    sex[:12] = "X"
    criterion = only(margins=np.where(sex == "X", -RIGHT, RIGHT), sex=sex)
    assert criterion.harm.estimate < 0.05  # X errs in every case and would lead otherwise
    assert "not powered: sensitivity of X (6 positives, 10 needed)" in criterion.reason


def test_without_positives_in_a_group_only_the_other_rate_is_compared():
    label = np.where(SEX == "M", 0.0, LABEL)
    margins = np.where(label == 1, 2.0, -2.0)
    margins = np.where((SEX == "M") & (np.random.default_rng(1).random(N) < 0.2), 2.0, margins)
    criterion = only(label=label, margins=margins)
    assert criterion.reason.startswith("specificity: M below F")
    assert "sensitivity of M (0 positives" in criterion.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": np.ones(30), "sex": np.array(["F", "M"] * 6 + [""] * 18)}, "not powered"),
        ({"label": np.full(N, np.nan)}, "no case with a known label"),
        ({"label": LABEL[:1]}, "known value"),
        ({"margins": np.where(np.arange(N) == 3, np.inf, RIGHT)}, "NaN or infinity on 1 case"),
        ({"sex": np.array([str(i % 30) for i in range(N)])}, "30 values: group them"),
    ],
    ids=["few of one class", "no label", "n = 1", "not a number", "many values"],
)
def test_bad_input_is_not_assessable_and_says_why(changes, said):
    criterion = only(**changes)
    assert criterion.harm.estimate is None
    assert criterion.reason.startswith("not assessable")
    assert said in criterion.reason


def test_ties_everywhere_missing_margins_and_one_class():
    tied = only(margins=np.zeros(N))
    assert (tied.harm.estimate, tied.harm.lower) == (0, 0)
    assert tied.harm.upper > 0  # no error seen is not no error
    assert tied.reason.startswith("no difference")
    missing = only(margins=np.where(np.arange(N) % 3 == 0, np.nan, RIGHT))
    assert missing.harm.estimate is not None
    one_class = only(label=np.ones(N))
    assert one_class.harm.estimate is not None
    assert "specificity of F (0 negatives" in one_class.reason


def test_patients_in_several_groups_and_with_both_labels():
    margins = flipped(SEX == "M", 0.3)
    apart, together = only(margins=margins), only(margins=margins, patients=np.arange(N) // 4)
    assert together.harm.estimate == pytest.approx(apart.harm.estimate)
    assert together.harm.lower < together.harm.estimate < together.harm.upper
