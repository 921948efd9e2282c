"""The three steps in words: decodable, in the features, used; and what is said where they cannot be asked."""

from itertools import product

import numpy as np
import pytest

from robustbench_rad.checks import scanner_probe
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable

ID = "shortcut.scanner-probe"
N = 400
RNG = np.random.default_rng(3)
LABEL = np.tile([1.0, 0.0], N // 2)
SCANNER = np.where(RNG.random(N) < 0.5, "A", "B")
HAS = (SCANNER == "B").astype(float)
NOISE = RNG.normal(size=(N, 12))
SHOWS = NOISE + 1.5 * HAS[:, None] * (np.arange(12) == 0)
CLEAN = 1.5 * LABEL + RNG.normal(size=N)


def outcome(score=CLEAN, image=SHOWS, features=SHOWS, order=None, **columns):
    columns = columns or {"scanner": SCANNER}
    rows = np.arange(N) if order is None else order
    vectors = {"image": image, "features": features}
    return scanner_probe.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, rows)),
                columns={Column(condition="clean", level="", finding="f"): np.asarray(score, np.float32)[rows]},
                quantities={},
                vectors={(ID, name): v[rows].astype(np.float32) for name, v in vectors.items() if v is not None},
            ),
            findings=("f",),
            labels=LABEL[rows, None],
            patients=rows // 2 if order is None else np.unique(rows // 2, return_inverse=True)[1],
            metadata={name: [str(values[row]) for row in rows] for name, values in columns.items()},
            roles=dict.fromkeys(columns, "nuisance"),
        ),
        check_spec(ID, {}),
    )


def words(found, column="scanner"):
    return next(row[-1] for row in found.tables[0].rows if row[1] == column)


def test_decodable_and_in_the_features_is_no_use():
    found = outcome()
    assert words(found).startswith("decodable from the image, in the features, not shown to be used: no defect")
    assert {item.criterion.verdict for item in found.judged} == {Verdict.INFORMATIONAL}
    assert "no defect" in found.notices[0]


def test_a_score_that_goes_with_it_within_the_label_is_use():
    assert words(outcome(CLEAN + 1.0 * HAS)).startswith("decodable from the image, in the features, used:")


def test_what_is_nowhere_is_said_to_be_nowhere():
    said = words(outcome(image=NOISE, features=NOISE))
    assert said == (
        "not shown to be decodable from the image, not shown to be in the features, not shown to be used: "
        "no sign of it anywhere"
    )


def test_an_image_that_tells_what_the_features_do_not():
    assert words(outcome(features=NOISE)).startswith("decodable from the image, not shown to be in the features")


@pytest.mark.parametrize("answers", list(product((True, False, None), repeat=3)))
def test_every_combination_has_words(answers):
    said = scanner_probe.in_words(*answers)
    assert ("used:" in said.replace("be used:", "")) == (answers[2] is True)
    assert said.count("not assessable") == answers.count(None)
    assert said.split(": ")[1]


def test_a_score_that_falls_with_the_value_is_use_as_well():
    row = next(row for row in outcome(CLEAN - 1.0 * HAS).tables[1].rows if row[3] == "score")
    assert row[8] > 0.6


def test_a_model_without_layers_is_probed_from_the_image_and_the_score():
    found = outcome(features=None)
    assert words(found).startswith("decodable from the image, features not assessable, not shown to be used")
    note = next(row[-1] for row in found.tables[1].rows if row[3] == "features")
    assert "TorchScript" in note


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["A"] * N, "two are needed"),
        ([f"site {number % 500}" for number in range(N)], "group them"),
        ([""] * N, "two are needed"),
    ],
)
def test_columns_that_cannot_be_told_say_what_is_needed(values, said):
    found = outcome(scanner=values)
    assert said in words(found)
    assert words(found).startswith("not assessable")
    assert found.judged[0].criterion.reason.startswith("not assessable")


def test_missing_values_are_left_out_and_counted():
    some = ["" if number % 10 == 0 else value for number, value in enumerate(SCANNER)]
    found = outcome(scanner=some)
    row = next(row for row in found.tables[1].rows if row[3] == "image")
    assert row[4] == N - N // 10
    assert row[-1] == "40 missing values left out"
    assert words(found).startswith("decodable")


def test_no_metadata_at_all_is_said():
    context = JudgeContext(
        scores=ScoreTable(cases=("a",), columns={}, quantities={}),
        findings=("f",),
        labels=np.ones((1, 1)),
        patients=np.zeros(1, np.int64),
    )
    item = scanner_probe.judge(context, check_spec(ID, {})).judged[0].criterion
    assert "declare some" in item.reason
    assert item.verdict is Verdict.INFORMATIONAL


def test_scores_that_are_no_numbers_leave_the_other_steps():
    score = CLEAN.copy()
    score[3] = np.inf
    assert "decodable from the image, in the features, use not assessable" in words(outcome(score))


def test_order_of_cases_changes_no_number_of_the_probes():
    order = np.random.default_rng(8).permutation(N)
    one, other = (outcome(order=rows).tables[1].rows for rows in (np.arange(N), order))
    for left, right in zip(one[:2], other[:2], strict=True):
        assert left[:5] == right[:5]
        np.testing.assert_allclose(left[5:11], right[5:11], atol=1e-9)
        assert left[12:] == right[12:]


def test_continuous_columns_are_told_in_fifths():
    found = outcome(age=40 + 20 * HAS + RNG.random(N))
    row = found.tables[1].rows[0]
    assert row[2] == 5
    assert row[9] > 0.55


def test_many_columns_leave_what_is_told_told():
    """Holm over thirty columns, of which one is told: the least p that can be drawn is small enough."""
    rng = np.random.default_rng(9)
    noise = {f"column {number}": rng.choice(["x", "y"], N) for number in range(29)}
    found = outcome(scanner=SCANNER, **noise)
    assert words(found).startswith("decodable from the image, in the features")
    told = [row for row in found.tables[0].rows if row[-1].startswith("decodable")]
    assert len(told) <= 3
