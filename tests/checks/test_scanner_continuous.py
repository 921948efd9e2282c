"""Continuous, missing and unusable columns of scanner dependence; who may fail; how often the verdict is wrong."""

import numpy as np
import pytest

from robustbench_rad.checks import scanner_dependence
from robustbench_rad.checks.attributes import attribute
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable

CHECK = check_spec("shortcut.scanner-dependence", {})
N = 600
RNG = np.random.default_rng(1)
LABEL = np.tile([1.0, 0.0], N // 2)
KVP = np.round(RNG.uniform(60, 120, N), 1)
FAIR = 2 * LABEL - 1 + RNG.normal(size=N)


def judged(margins=FAIR, *, label=LABEL, role="nuisance", patients=None, seed=0, **columns):
    columns = columns or {"kvp": KVP}
    n = len(label)
    return scanner_dependence.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(n))),
                columns={Column(condition="clean", level="", finding="f"): np.asarray(margins, np.float32)},
                quantities={},
            ),
            findings=("f",),
            labels=np.asarray(label, float)[:, None],
            patients=np.arange(n) if patients is None else patients,
            metadata={name: [str(value) for value in values] for name, values in columns.items()},
            roles=dict.fromkeys(columns, role),
            seed=seed,
        ),
        CHECK,
    )


def test_a_score_that_rises_with_a_continuous_column_fails_with_its_p_beside():
    outcome = judged(FAIR + 0.03 * KVP)
    (item,) = outcome.judged
    assert item.criterion.verdict is Verdict.FAIL
    assert item.criterion.subgroup == "kvp"
    assert "kvp: permutation p 0.0005" in item.criterion.reason
    (row,) = outcome.tables[0].rows
    assert row[2:4] == ["continuous", N]
    assert row[4] == pytest.approx(0.5 + item.criterion.harm.estimate, abs=1e-6)


def test_continuous_and_halved_have_about_the_same_harm():
    tilted = FAIR + 0.8 * (np.median(KVP) < KVP)
    (continuous,) = judged(tilted).judged
    (halved,) = judged(tilted, half=np.where(np.median(KVP) < KVP, "high", "low")).judged
    assert continuous.criterion.harm.estimate == pytest.approx(halved.criterion.harm.estimate, rel=0.25)


def test_missing_values_are_named_and_left_out():
    some = [str(value) if place % 3 else "" for place, value in enumerate(KVP)]
    outcome = judged(FAIR + 0.03 * KVP, kvp=some)
    (item,) = outcome.judged
    assert item.criterion.patients == N - N // 3
    assert ["f", "kvp", "(missing)", N // 3, None, None, None, "not powered"] in outcome.tables[0].rows


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([f"serial-{i}" for i in range(N)], "0 values with 10 cases or more of 600 different ones: group them"),
        ([f"serial-{i % 500}" for i in range(N)], "of 500 different ones: group them"),
        ([""] * N, "0 values with 10 cases or more: two are needed"),
        (["7"] * N, "1 value with 10 cases or more: two are needed"),
        (np.where(np.arange(N) < 595, "A", "B"), "1 value with 10 cases or more: two are needed"),
    ],
    ids=["all different", "500 values", "missing", "one value", "second value too rare"],
)
def test_a_column_that_cannot_be_looked_at_says_what_it_needs(values, said):
    outcome = judged(scanner=values)
    (item,) = outcome.judged
    assert item.criterion.verdict is Verdict.INCONCLUSIVE
    assert item.criterion.reason.startswith("not assessable: ")
    assert said in item.criterion.reason


@pytest.mark.parametrize("role", ["risk_factor", "demographic"])
def test_only_a_nuisance_column_can_fail(role):
    outcome = judged(FAIR + 0.05 * KVP, role=role)
    refused, shown = (item.criterion for item in outcome.judged)
    assert "no nuisance column" in refused.reason
    assert shown.verdict is Verdict.INFORMATIONAL
    assert shown.harm.lower > 0.05
    assert f"a {role.replace('_', ' ')} column" in shown.reason


def test_a_shown_column_changes_nothing_of_what_is_judged():
    alone = judged(kvp=KVP).judged[0].criterion
    made = JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={Column(condition="clean", level="", finding="f"): FAIR.astype(np.float32)},
            quantities={},
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        metadata={"kvp": list(map(str, KVP)), "sex": list(RNG.choice(["F", "M"], N))},
        roles={"kvp": "nuisance", "sex": "demographic"},
    )
    both = scanner_dependence.judge(made, CHECK).judged
    assert [item.criterion.verdict for item in both][1] is Verdict.INFORMATIONAL
    assert both[0].criterion == alone


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ([str(i % 30) for i in range(300)], "continuous", ()),
        ([str(i % 20) for i in range(300)], "categorical", tuple(sorted(map(str, range(20))))),
        ([f"{i % 90:03d}Y" for i in range(300)], "continuous", ()),
        ([str(i % 30) for i in range(299)] + ["n/a"], "not assessable", None),
        ([str(i % 30) for i in range(299)] + ["inf"], "not assessable", None),
        (["1.0"] * 150 + ["2"] * 150, "categorical", ("1.0", "2")),
    ],
    ids=["numbers", "twenty numbers", "DICOM ages", "a word among numbers", "infinite", "two numbers"],
)
def test_what_kind_of_column_it_is(text, kind, values):
    found = attribute("c", "nuisance", text)
    assert found.kind == kind
    assert values is None or found.values == values


def test_groups_of_a_continuous_column_are_of_about_equal_size():
    grouped = attribute("kvp", "nuisance", [*map(str, KVP), "", ""]).grouped()
    assert grouped.kind == "categorical"
    assert len(grouped.values) == 5
    assert grouped.missing() == 2
    sizes = [grouped.text.count(value) for value in grouped.values]
    assert max(sizes) - min(sizes) <= 5


def test_the_verdict_is_seldom_wrong_on_a_fair_model(monkeypatch):
    """The verdict's type I error: a score that depends on neither column beyond the label."""
    monkeypatch.setattr(scanner_dependence, "DRAWS", 1)  # the p-value stands beside the verdict
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        label = np.repeat([1.0, 0.0], [60, 240])
        scanner = np.where(rng.random(300) < np.where(label == 1, 0.8, 0.2), "A", "B")
        kvp = np.round(80 + 10 * label + 10 * rng.normal(size=300), 2)
        criteria = [
            i.criterion for i in judged(1.5 * label + rng.normal(size=300), label=label, s=scanner, k=kvp).judged
        ]
        wrong += any(criterion.verdict is Verdict.FAIL for criterion in criteria)
    assert wrong <= 0.05 * 200


def test_a_property_of_pure_noise_does_not_alarm_where_positives_are_rare(monkeypatch):
    """Thirty positives among a thousand: what is rare is no shortcut, however the noise of a property happens to fall."""
    monkeypatch.setattr(scanner_dependence, "DRAWS", 1)
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(5000 + seed)
        label = np.repeat([1.0, 0.0], [30, 970])
        brightness = np.round(rng.normal(size=1000), 4)
        outcome = judged(1.5 * label + rng.normal(size=1000), label=label, brightness=brightness)
        alarms += any(item.criterion.verdict is Verdict.FAIL for item in outcome.judged)
    assert alarms <= 5
