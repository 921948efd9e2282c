"""Hidden strata as they are shown and judged: which strata, when they may fail, small lesions, slices nobody declared."""

import numpy as np
import pytest

from robustbench_rad.checks import hidden_strata
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

ID = "shortcut.hidden-strata"
MARGINS = {"tolerance": {"auroc": 0.05, "sensitivity": 0.10}}
N = 2400
RNG = np.random.default_rng(4)
LABEL = np.tile([1.0, 0.0], N // 2)
TUBE = np.where((RNG.random(N) < 0.5) & (LABEL == 1), "yes", RNG.choice(["no", "yes"], N, p=[0.8, 0.2]))
FAIR = 3.2 * (LABEL - 0.5) + RNG.normal(size=N)
BLIND = FAIR - 2.0 * ((TUBE == "no") & (LABEL == 1))  # what it sees is the tube


def outcome(margins=FAIR, *, roles=None, options=None, sizes=None, features=None, label=LABEL, **columns):
    columns = columns or {"tubes": TUBE}
    n = len(label)
    quantities = {} if sizes is None else {Quantity(condition=ID, name="lesion_mm"): np.asarray(sizes, np.float32)}
    vectors = {} if features is None else {("shortcut.scanner-probe", "features"): np.asarray(features, np.float32)}
    return hidden_strata.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(n))),
                columns={Column(condition="clean", level="", finding="f"): np.asarray(margins, np.float32)},
                quantities=quantities,
                vectors=vectors,
            ),
            findings=("f",),
            labels=np.asarray(label, float)[:, None],
            patients=np.arange(n),
            metadata={name: [str(value) for value in values] for name, values in columns.items()},
            roles=roles or dict.fromkeys(columns, "risk_factor"),
        ),
        check_spec(ID, options or {}),
    )


def strata(found):
    """Criteria of strata by column and metric; slices are another matter."""
    items = [item.criterion for item in found.judged if item.criterion.quantity != hidden_strata.SLICE]
    return {(item.subgroup, item.quantity.split()[0]): item for item in items}


def test_a_stratum_that_is_missed_fails_where_the_plan_asks():
    found = strata(outcome(BLIND, options={"columns": ["tubes"], **MARGINS}))
    assert found["tubes", "sensitivity"].verdict is Verdict.FAIL
    assert found["tubes", "AUROC"].verdict is Verdict.FAIL
    assert found["tubes", "sensitivity"].level.name == "no against the rest"


def test_a_fair_model_passes():
    rng = np.random.default_rng(0)
    n = 12_000
    label = np.tile([1.0, 0.0], n // 2)
    made = outcome(
        3.2 * (label - 0.5) + rng.normal(size=n),
        label=label,
        options={"columns": ["tubes"], **MARGINS},
        tubes=rng.choice(["no", "yes"], n),
    )
    assert {item.verdict for item in strata(made).values()} == {Verdict.PASS}


def test_without_a_stated_tolerance_it_is_only_shown():
    for options in ({}, {"columns": ["tubes"]}):
        found = strata(outcome(BLIND, options=options))
        assert {item.verdict for item in found.values()} == {Verdict.INFORMATIONAL}
        assert found["tubes", "sensitivity"].harm.lower > 0.10


def test_a_risk_factor_that_nobody_names_cannot_fail():
    found = outcome(BLIND, options=MARGINS)
    named = strata(found)
    assert named["tubes", "sensitivity"].verdict is Verdict.INFORMATIONAL
    assert named["", "not"].verdict is Verdict.INCONCLUSIVE
    assert "no strata to judge: name columns" in named["", "not"].reason


def test_columns_that_subgroups_judge_are_not_shown_twice():
    found = outcome(roles={"tubes": "risk_factor", "sex": "demographic"}, tubes=TUBE, sex=RNG.choice(["F", "M"], N))
    assert {subgroup for subgroup, _ in strata(found)} == {"tubes"}


def test_small_lesions_are_set_against_large_ones_with_the_same_negatives():
    sizes = np.where(LABEL == 1, RNG.uniform(4, 40, N), np.nan)
    missed = FAIR - 2.0 * (sizes < 22)
    found = outcome(missed, options=MARGINS, sizes=sizes, roles={"tubes": "demographic"}, tubes=TUBE)
    named = strata(found)
    assert named["lesion size", "sensitivity"].verdict is Verdict.FAIL
    assert named["lesion size", "AUROC"].verdict is Verdict.FAIL
    assert "up to 2" in named["lesion size", "sensitivity"].level.name
    assert all(row[1] == "lesion size" for row in found.tables[0].rows)
    assert found.tables[0].rows[0][4] == 600


def test_the_table_has_every_stratum_with_p_by_holm():
    some = TUBE.copy()
    some[:3] = "old"
    two = {row[3]: row[10:12] for row in outcome(BLIND).tables[0].rows}
    assert two["sensitivity"][1] <= 2 * two["sensitivity"][0]  # of two values, one against the other is one question
    rows = {(row[2], row[3]): row for row in outcome(BLIND, tubes=some).tables[0].rows}
    assert rows["no", "sensitivity"][10] < 1e-6
    assert rows["no", "sensitivity"][10] < rows["no", "sensitivity"][11]
    assert rows["old", "AUROC"][-1].startswith("not powered: 2 positives")
    assert rows["no", "sensitivity"][5] < rows["no", "sensitivity"][6]


def test_a_continuous_column_has_three_strata():
    found = outcome(age=np.round(RNG.uniform(20, 80, N), 1))
    assert len({row[2] for row in found.tables[0].rows}) == 3


def test_a_model_without_signal_never_passes():
    rng = np.random.default_rng(1)
    n = 20_000
    label, tubes = np.tile([1.0, 0.0], n // 2), rng.choice(["no", "yes"], n)
    options = {"columns": ["tubes"], **MARGINS}
    for signal, verdict in ((0.0, Verdict.INCONCLUSIVE), (2.0, Verdict.PASS)):
        found = strata(outcome(signal * label + rng.normal(size=n), label=label, options=options, tubes=tubes))
        assert {item.verdict for item in found.values()} == {verdict}
        assert all(item.harm.upper < MARGINS["tolerance"]["auroc"] for item in found.values())
        if not signal:
            assert all("the model shows no signal" in item.reason for item in found.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tubes": ["no"] * N}, "two are needed"),
        ({"tubes": [f"t{i % 500}" for i in range(N)]}, "group them"),
        ({"tubes": [""] * N}, "two are needed"),
        ({"label": np.zeros(N)}, "not powered"),
        ({"margins": np.full(N, np.inf)}, "NaN or infinity"),
    ],
    ids=["one value", "500 values", "missing", "no positives", "infinite"],
)
def test_what_cannot_be_told_is_not_assessable(change, said):
    named = strata(outcome(**{"options": {"columns": ["tubes"], **MARGINS}, "tubes": TUBE, **change}))
    assert {item.verdict for item in named.values()} == {Verdict.INCONCLUSIVE}
    assert all(said in item.reason for item in named.values())


def test_no_strata_at_all_says_what_to_declare():
    for options, verdict in (({}, Verdict.INFORMATIONAL), (MARGINS, Verdict.INCONCLUSIVE)):
        (criterion,) = strata(outcome(roles={"tubes": "nuisance"}, options=options)).values()
        assert criterion.verdict is verdict
        assert "no strata: name columns" in criterion.reason


def test_a_slice_in_the_features_is_shown_and_never_judged():
    hidden = RNG.integers(0, 5, N)
    features = 6 * np.random.default_rng(0).normal(size=(5, 8))[hidden] + RNG.normal(size=(N, 8))
    found = outcome(FAIR - 2.0 * (hidden == 0), features=features, options=MARGINS)
    (item,) = (item.criterion for item in found.judged if item.criterion.quantity == hidden_strata.SLICE)
    assert item.verdict is Verdict.INFORMATIONAL
    assert item.harm.lower > 0.2
    assert "tested on the other half" in item.reason


@pytest.mark.parametrize(
    ("features", "label", "said"),
    [
        (None, LABEL, "no penultimate features"),
        (
            np.zeros((N, 4)),
            (np.arange(N) < 30).astype(float),
            "30 positives in two halves of the patients: 40 are needed",
        ),
        (np.zeros((N, 4)), LABEL, "none has 10 cases"),
    ],
    ids=["no features", "few positives", "all alike"],
)
def test_a_slice_that_cannot_be_looked_for_says_why(features, label, said):
    found = outcome(FAIR, label=label, features=features)
    (item,) = (item.criterion for item in found.judged if item.criterion.quantity == hidden_strata.SLICE)
    assert said in item.reason


def test_the_verdict_is_seldom_wrong_on_a_fair_model():
    failed, n = 0, 400
    label = np.tile([1.0, 0.0], n // 2)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        made = outcome(
            2.5 * (label - 0.5) + rng.normal(size=n),
            label=label,
            options={"columns": ["view"], **MARGINS},
            view=rng.choice(["AP", "PA", "lateral"], n),
        )
        failed += any(item.verdict is Verdict.FAIL for item in strata(made).values())
    assert failed <= 0.05 * 60
