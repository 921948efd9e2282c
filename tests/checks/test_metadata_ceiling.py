"""The metadata ceiling as it is shown: what is said, what alarms, and what cannot be told."""

import numpy as np
import pytest

from robustbench_rad.checks import metadata_ceiling
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable

CHECK = check_spec("shortcut.metadata-ceiling", {})
N = 600
RNG = np.random.default_rng(2)
LABEL = np.tile([1.0, 0.0, 0.0], N // 3)
GOOD = 2.5 * LABEL + RNG.normal(size=N)
NOISE = RNG.choice(["A", "B"], N)
SITE = np.where(RNG.random(N) < np.where(LABEL == 1, 0.85, 0.15), "A", "B")
COLUMNS = ["finding", "column", "role", "cases", "AUROC", "lower", "upper", "model above it", "lower", "upper"]


def outcome(margins=GOOD, *, label=LABEL, roles=None, **columns):
    return metadata_ceiling.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(len(label)))),
                columns={Column(condition="clean", level="", finding="f"): np.asarray(margins, np.float32)},
                quantities={},
            ),
            findings=("f",),
            labels=np.asarray(label, float)[:, None],
            patients=np.arange(len(label)),
            metadata={name: [str(value) for value in values] for name, values in columns.items()},
            roles=roles or dict.fromkeys(columns, "nuisance"),
        ),
        CHECK,
    )


def by_column(found):
    return {row[1]: row for row in found.tables[0].rows}


def test_it_never_judges_and_says_what_the_model_has_beyond():
    found = outcome(site=SITE)
    alone, beyond = (item.criterion for item in found.judged)
    assert {item.criterion.verdict for item in found.judged} == {Verdict.INFORMATIONAL}
    assert alone.harm.lower > 0.75
    assert 0 < beyond.harm.lower < beyond.harm.estimate < 0.25
    assert found.notices == []


def test_a_model_that_reads_the_site_alone_is_warned_of():
    found = outcome((SITE == "A") + 0.0, site=SITE)
    (notice,) = found.notices
    assert "metadata alone reach an AUROC of 0.8" in notice
    assert "beyond it" in notice


def test_nuisance_columns_that_alone_reach_the_model_are_warned_of_beside_others():
    rng = np.random.default_rng(5)
    ward = np.where(rng.random(N) < np.where(LABEL == 1, 0.8, 0.2), "A", "B")
    found = outcome((SITE == "A") + 0.0, site=SITE, ward=ward, roles={"site": "nuisance", "ward": "risk_factor"})
    assert [notice.split(" alone")[0] for notice in found.notices] == [
        "f: the declared metadata",
        "f: the nuisance columns",
    ]


@pytest.mark.parametrize("prevalence", [0.5, 0.1, 0.03])
def test_a_column_of_noise_never_alarms_beside_a_good_model_and_seldom_beside_a_poor_one(prevalence):
    alarms = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        label = (np.arange(1000) < 1000 * prevalence).astype(float)
        score, noise = rng.normal(size=1000), rng.choice(list("ABCDE"), 1000)
        assert outcome(score + 2.5 * label, label=label, noise=noise).notices == []
        alarms += bool(outcome(score, label=label, noise=noise).notices)
    assert alarms <= 2


def test_the_table_says_which_audits_are_not_powered_for_a_column():
    rows = by_column(outcome(site=SITE, noise=NOISE, roles={"site": "nuisance", "noise": "risk_factor"}))
    assert rows["site"][10] == "can see it"
    assert rows["noise"][10].startswith("not powered")
    assert rows["all columns"][4] >= rows["site"][4] - 0.02
    assert rows["noise"][2] == "risk factor"


def test_nuisance_columns_are_shown_by_themselves_beside_all():
    found = outcome(site=SITE, sex=NOISE, roles={"site": "nuisance", "sex": "demographic"})
    names = [item.criterion.subgroup for item in found.judged]
    assert names == ["all columns", "all columns", "nuisance columns", "nuisance columns"]


def test_missing_values_are_a_value_of_their_own_and_may_tell_the_label():
    """Films of the ill lack the entry: that is how missing data leak."""
    lost = np.where(LABEL == 1, "", RNG.choice(["A", "B"], N))
    row = by_column(outcome(site=lost))["site"]
    assert row[3] == N
    assert row[5] > 0.9


def test_a_few_missing_values_leave_their_cases_out():
    some = SITE.copy()
    some[:5] = ""
    row = by_column(outcome(site=some))["site"]
    assert row[3] == N - 5


def test_a_continuous_column_is_looked_at_in_fifths():
    age = np.round(50 + 10 * LABEL + RNG.normal(0, 8, N), 1)
    found = outcome(age=age)
    assert by_column(found)["age"][5] > 0.6
    assert len([row for row in found.tables[1].rows if row[1] == "age"]) == 5


def test_shares_by_value_have_their_counts():
    found = outcome(site=SITE)
    assert [row[2] for row in found.tables[1].rows] == ["A", "B"]
    for _, _, value, cases, positives, share, lower, upper in found.tables[1].rows:
        assert cases == (value == SITE).sum()
        assert share == pytest.approx(positives / cases)
        assert lower < share < upper


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "no metadata column: declare some"),
        ({"scanner": ["A"] * N}, "1 value with 10 cases or more: two are needed"),
        ({"scanner": [f"s{i % 500}" for i in range(N)]}, "500 different ones: group them"),
        ({"scanner": [""] * N}, "two are needed"),
    ],
    ids=["none", "one value", "500 values", "missing"],
)
def test_what_cannot_be_told_says_what_is_needed(columns, said):
    found = outcome(**columns)
    (item,) = found.judged
    assert item.criterion.verdict is Verdict.INFORMATIONAL
    assert item.criterion.reason.startswith("not assessable: ")
    assert said in item.criterion.reason
    assert all(row[-1].startswith("not assessable") for table in found.tables[:1] for row in table.rows)


def test_one_class_and_a_broken_model_say_so():
    for changes, said in (({"label": np.ones(N)}, "0 negatives"), ({"margins": np.full(N, np.inf)}, "NaN or infinity")):
        found = outcome(**{"margins": GOOD, "label": LABEL, **changes}, site=SITE)
        assert all(said in item.criterion.reason for item in found.judged)
