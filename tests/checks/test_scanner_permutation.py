"""The permutation p-value beside the interval of scanner dependence, adjusted over findings and columns."""

import numpy as np
import pytest

from robustbench_rad.checks import scanner_dependence
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.statistics.multiplicity import holm

CHECK = check_spec("shortcut.scanner-dependence", {})
N = 400
RNG = np.random.default_rng(1)
LABEL = np.tile([1.0, 0.0], N // 2)
SCANNER = RNG.choice(["A", "B", "C"], N)
ROOM = RNG.choice(["1", "2"], N)
FAIR = 2 * LABEL - 1 + RNG.normal(size=N)


def judged(margins=None, label=LABEL, patients=None, **columns):
    margins = {"f": FAIR} if margins is None else margins
    columns = columns or {"scanner": SCANNER, "room": ROOM}
    n = len(label)
    return scanner_dependence.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(n))),
                columns={
                    Column(condition="clean", level="", finding=name): np.asarray(values[:n], np.float32)
                    for name, values in margins.items()
                },
                quantities={},
            ),
            findings=tuple(margins),
            labels=np.repeat(np.asarray(label, float)[:, None], len(margins), axis=1),
            patients=np.arange(n) if patients is None else patients,
            metadata={name: [str(value) for value in values[:n]] for name, values in columns.items()},
            roles=dict.fromkeys(columns, "nuisance"),
        ),
        CHECK,
    )


def p_rows(outcome):
    return {(row[0], row[1]): row for row in outcome.tables[1].rows}


def test_a_dependence_has_the_least_p_and_the_rest_has_not():
    outcome = judged({"f": FAIR, "g": FAIR[::-1] + 1.5 * (SCANNER == "B")})
    rows = p_rows(outcome)
    assert set(rows) == {(finding, column) for finding in "fg" for column in ("scanner", "room")}
    assert float(rows["g", "scanner"][3]) == pytest.approx(1 / 2001, rel=0.01)
    assert min(float(rows[pair][3]) for pair in rows if pair != ("g", "scanner")) > 0.01
    raw, adjusted = ([float(row[place]) for row in rows.values()] for place in (3, 4))
    assert adjusted == pytest.approx(holm(raw), abs=0.02)


def test_the_criterion_has_it_beside_its_interval():
    outcome = judged({"f": FAIR + 1.5 * (SCANNER == "B")})
    reasons = {item.criterion.subgroup: item.criterion.reason for item in outcome.judged}
    assert "scanner: permutation p 0.0005, by Holm 0.001" in reasons["scanner=B"]
    assert "room: permutation p" in reasons["room=1"]


def test_a_fail_is_called_a_scanner_dependent_score_and_says_what_would_confirm_a_shortcut():
    outcome = judged({"f": FAIR + 1.5 * (SCANNER == "B")})
    by_verdict = {item.criterion.subgroup: item.criterion for item in outcome.judged}
    assert by_verdict["scanner=B"].verdict is Verdict.FAIL
    for criterion in by_verdict.values():
        assert ("a scanner-dependent score" in criterion.reason) is (criterion.verdict is Verdict.FAIL)


@pytest.mark.parametrize("constant", [True, False])
def test_a_model_without_signal_never_passes_and_what_it_tells_is_told(constant):
    rng = np.random.default_rng(3)
    n = 3000
    label, room = np.tile([1.0, 0.0], n // 2), rng.choice(["1", "2"], n)
    score = np.zeros(n) if constant else rng.normal(size=n)
    (item,) = judged({"f": score}, label=label, room=room).judged
    assert item.criterion.verdict is Verdict.INCONCLUSIVE
    assert "not assessable: the model shows no signal" in item.criterion.reason
    assert item.criterion.harm.upper < 0.05  # would pass else
    (item,) = judged({"f": score + 2 * label}, label=label, room=room).judged
    assert item.criterion.verdict is Verdict.PASS
    (item,) = judged({"f": score + (room == "1")}, label=label, room=room).judged
    assert item.criterion.verdict is Verdict.FAIL


def test_counts_are_those_of_the_cases_with_a_known_value_and_patients_would_decide():
    some = np.where(np.arange(N) < 300, ROOM, "")
    criterion = judged({"f": FAIR + 0.2 * (ROOM == "2")}, room=some, patients=np.arange(N) // 2).judged[0].criterion
    assert (criterion.positives, criterion.negatives, criterion.patients) == (150, 150, 150)
    assert criterion.verdict is Verdict.INCONCLUSIVE
    assert (criterion.needed_counted, criterion.available) == ("patients", 150)
    assert "patients would decide, there are 150" in criterion.reason


def test_the_p_value_never_changes_a_verdict():
    """A tiny dependence in many cases: p is small, and the interval still lies within the tolerance."""
    n = 20_000
    label, scanner = np.tile([1.0, 0.0], n // 2), np.random.default_rng(2).choice(["A", "B"], n)
    margins = 2 * label + np.random.default_rng(3).normal(size=n) + 0.06 * (scanner == "A")
    (item,) = judged({"f": margins}, label, scanner=scanner).judged
    assert item.criterion.verdict is Verdict.PASS
    assert "permutation p 0.0005" in item.criterion.reason


def test_a_patient_on_two_scanners_is_compared_with_itself():
    patients = np.arange(N) // 4
    same = np.repeat(RNG.normal(size=N // 4), 4) * 3
    used = judged({"f": same + FAIR + 1.5 * (SCANNER == "B")}, patients=patients, scanner=SCANNER)
    assert float(p_rows(used)["f", "scanner"][3]) < 0.01
    fair = judged({"f": same + FAIR}, patients=patients, scanner=SCANNER)
    assert float(p_rows(fair)["f", "scanner"][3]) > 0.01


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": np.full(N, np.nan)}, "known label"),
        ({"label": LABEL[:1]}, "0 value"),
        ({"scanner": ["A"] * N}, "1 value"),
        ({"scanner": [""] * N}, "0 value"),
        ({"scanner": [f"s{i % 40}" for i in range(N)]}, "40 values: group them"),
        ({"margins": {"f": np.zeros(N)}}, "nothing to exchange"),
        ({"margins": {"f": np.where(np.arange(N) == 3, np.inf, FAIR)}}, "NaN or infinity on 1 case"),
        ({"scanner": np.where(LABEL == 1, "A", "B")}, "nothing to exchange"),
    ],
    ids=["no label", "n = 1", "one value", "missing", "many values", "ties", "not a number", "scanner is the label"],
)
def test_bad_input_has_no_p_and_says_why(changes, said):
    rows = p_rows(judged(**changes))
    assert rows
    assert any(said in row[5] for row in rows.values())
    assert all((row[3] == "") == row[5].startswith("not assessable") for row in rows.values())


def test_one_class_and_patients_with_both_labels_are_fine():
    assert 0 < float(p_rows(judged(label=np.ones(N)))["f", "scanner"][3]) <= 1
    both = judged(patients=np.arange(N) // 2, scanner=np.repeat(SCANNER[: N // 2], 2))
    assert 0 < float(p_rows(both)["f", "scanner"][3]) <= 1


def test_missing_margins_leave_their_cases_out():
    kept = np.arange(N) % 4 != 0
    missing = p_rows(judged({"f": np.where(kept, FAIR, np.nan)}, scanner=SCANNER))
    assert 0 < float(missing["f", "scanner"][3]) <= 1
