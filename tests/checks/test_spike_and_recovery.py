"""The limit of detection: an implanted model is exactly what it says, and audits that see little may not pass."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad.checks import spike_and_recovery
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.checks.implanted import COLUMN, Implanted, implanted
from robustbench_rad.judgement import judge_audit
from robustbench_rad.profile import Profile, check_spec
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import CLEAN, Column, Quantity, ScoreTable
from robustbench_rad.shortcuts.spike_and_recovery import CLEAN as UNALTERED
from robustbench_rad.shortcuts.spike_and_recovery import MARGINS, SEEN, vector_name

SPIKE = check_spec("shortcut.spike-and-recovery", {})
MASKED = check_spec("shortcut.masked-anatomy", {})
SCANNER = check_spec("shortcut.scanner-dependence", {})
FILLS = ("atlas-mean", "atlas-blur", "atlas-donor")


def context(n=1000, *, visible=1.0, retained=0.003, seed=0, shortcut=0.0):
    """A model that reads the anatomy: nothing but dust without it; the marker shows to this share under the fills."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype(float)
    clean = 1.5 * (label - 0.5) * 2 / 1.5 + rng.normal(size=n)
    outside = shortcut * (rng.random(n) < np.where(label == 1, 0.9, 0.1))
    columns = {("clean", ""): clean + outside}
    vectors = {}

    def keep(condition, level, margins, seen):
        vectors[SPIKE.id, vector_name(condition, level, MARGINS)] = margins[:, None].astype(np.float32)
        both = np.stack([rng.normal(0, 0.02, n), np.full(n, seen)], axis=1)
        vectors[SPIKE.id, vector_name(condition, level, SEEN)] = both.astype(np.float32)

    keep(UNALTERED, "", clean + outside + rng.normal(0, 0.01, n), 1.0)
    for fill in FILLS:
        columns[MASKED.id, fill] = retained * rng.normal(size=n) + outside
        keep(MASKED.id, fill, columns[MASKED.id, fill] + retained * rng.normal(size=n), visible)
    scores = ScoreTable(
        cases=tuple(f"c{i}" for i in range(n)),
        columns={Column(condition=c, level=v, finding="f"): m.astype(np.float32) for (c, v), m in columns.items()},
        quantities={},
        vectors=vectors,
    )
    return JudgeContext(
        scores=scores, findings=("f",), labels=label[:, None], patients=np.arange(n), checks=(MASKED, SCANNER, SPIKE)
    )


def dealt(found, draw=0):
    return Implanted.dealt(found, SPIKE.id, "f", association=0.7, draw=draw)


def test_the_implanted_model_is_the_margin_plus_what_its_detector_sees():
    found = context()
    world = implanted(found, dealt(found), 0.5)
    carried = np.array([value == "with" for value in world.metadata[COLUMN]])
    clean = found.clean("f").astype(np.float32)
    marked = found.vectors(SPIKE.id, vector_name(UNALTERED, "", MARGINS))[:, 0]
    seen = found.vectors(SPIKE.id, vector_name(UNALTERED, "", SEEN))
    expected = np.where(carried, marked, clean) + 0.5 * clean.astype(float).std() * np.where(
        carried, seen[:, 1], seen[:, 0]
    )
    np.testing.assert_allclose(world.clean("f"), expected, atol=1e-6)
    label = found.label("f")
    assert carried[label == 1].mean() == pytest.approx(0.7, abs=0.06)
    assert carried[label == 0].mean() == pytest.approx(0.3, abs=0.06)
    assert world.roles == {COLUMN: "nuisance"}


def test_who_carries_the_marker_does_not_depend_on_the_order_of_the_cases():
    found = context(n=50)
    order = np.random.default_rng(1).permutation(50)
    cases = tuple(found.scores.cases[i] for i in order)
    other = replace(found, scores=replace(found.scores, cases=cases))
    np.testing.assert_array_equal(dealt(other).uniform, dealt(found).uniform[order])


def test_all_films_of_a_patient_carry_the_marker_or_none_does_in_any_order_of_the_cases():
    patients = np.arange(60) // 3
    one = context(n=60)
    found = replace(one, patients=patients, labels=(patients % 2).astype(float)[:, None])
    drawn = dealt(found).uniform
    assert (drawn.reshape(20, 3) == drawn[::3, None]).all()
    assert len(np.unique(drawn)) == 20
    carried = dealt(found).carries(found.label("f"), drawn)
    assert 0 < carried.sum() < 60
    order = np.random.default_rng(2).permutation(60)
    cases = tuple(found.scores.cases[i] for i in order)
    renumbered = np.unique(patients[order] * 7 % 20, return_inverse=True)[1]  # other numbers for the same patients
    other = replace(found, scores=replace(found.scores, cases=cases), patients=renumbered)
    np.testing.assert_array_equal(dealt(other).uniform, drawn[order])


def test_many_films_of_few_patients_see_less_than_as_many_patients():
    found = []
    for films in (1, 40):
        patients = np.arange(1000) // films
        given = context()
        label = (patients % 2).astype(float)
        moved = label - given.label("f")  # the model still tells the label, of every film of a patient alike
        for key, values in given.scores.columns.items():
            if key.condition == CLEAN:
                values += (2.0 * moved).astype(np.float32)
        vector = given.scores.vectors[SPIKE.id, vector_name(UNALTERED, "", MARGINS)]
        vector += (2.0 * moved)[:, None].astype(np.float32)
        (table,) = spike_and_recovery.judge(replace(given, patients=patients, labels=label[:, None]), SPIKE).tables
        found.append({row[1]: [int(cell.split()[0]) for cell in row[3:]] for row in table.rows}[MASKED.id])
    assert found[0][3] == 10  # 0.3 SD
    assert sum(found[1]) < 25  # of 60; 30 where each film draws by itself


def test_the_corner_of_a_donor_is_that_of_the_donor():
    found = context(n=200)
    audit = "shortcut.background-swap"
    rng = np.random.default_rng(2)
    number = rng.integers(0, 20, 200).astype(np.float32)
    label = (number % 2).astype(np.float32)
    scores, key = found.scores, Column(condition=audit, level="donor 1", finding="f")

    quantities = {
        Quantity(condition=audit, name="donor", level="donor 1"): number,
        Quantity(condition=audit, name="donor_label", level="donor 1", finding="f"): label,
    }
    vectors = {
        (SPIKE.id, vector_name(audit, "donor 1", MARGINS)): np.ones((200, 1), np.float32),
        (SPIKE.id, vector_name(audit, "donor 1", SEEN)): np.tile([0.0, 1.0], (200, 1)).astype(np.float32),
    }
    columns = {**scores.columns, key: np.zeros(200, np.float32)}
    scores = replace(scores, columns=columns, quantities=quantities, vectors={**scores.vectors, **vectors})
    world = implanted(replace(found, scores=scores), dealt(found), 1.0)
    margins = world.margins(audit, "donor 1", "f")
    assert set(np.unique(margins > 0.5)) == {False, True}
    for donor in range(20):  # one donor carries the marker wherever it goes
        assert len(np.unique(margins[number == donor])) <= 1


def test_a_marker_outside_of_the_anatomy_is_recovered_and_one_that_is_covered_is_not():
    outcome = spike_and_recovery.judge(context(), SPIKE)
    assert not outcome.doubts
    (table,) = outcome.tables
    limits = {row[1]: row[2] for row in table.rows}
    assert float(limits["shortcut.masked-anatomy"]) in (0.2, 0.3)
    assert limits["any shortcut audit"] == limits["shortcut.masked-anatomy"]
    assert float(limits["shortcut.scanner-dependence"]) <= 0.5
    hidden = spike_and_recovery.judge(context(visible=0.0), SPIKE)
    assert {row[1]: row[2] for row in hidden.tables[0].rows}["any shortcut audit"] == "not even 1"
    assert "not even seen at 1 SD of the margin" in hidden.doubts[Domain.SHORTCUT, "f"]


def test_shares_rise_with_the_strength():
    (table,) = spike_and_recovery.judge(context(), SPIKE).tables
    for row in table.rows:
        counts = [int(cell.split()[0]) for cell in row[3:]]
        assert counts == sorted(counts)


def judgement(found):
    weights = {Domain.SHORTCUT: 1.0}
    checks = (MASKED, SPIKE)
    profile = Profile(name="p", version=1, sha256="", minimum_auroc=0.5, weights=weights, checks=checks)
    found = replace(found, checks=checks)
    return judge_audit(found, profile, errors={}, partial={}, preflight=[])


def test_no_shortcut_found_is_inconclusive_where_none_would_be_seen():
    for found, verdict in ((context(), Verdict.PASS), (context(visible=0.0), Verdict.INCONCLUSIVE)):
        (item,) = (one for one in judgement(found).judged if one.criterion.check == MASKED.id)
        assert item.criterion.verdict is verdict
    assert "no shortcut found means little here" in item.criterion.reason


def test_an_audit_that_is_given_no_marked_image_has_no_limit_of_its_own_and_is_named():
    insertion = check_spec("shortcut.insert-marker", {})
    for others in ((MASKED,), ()):
        outcome = spike_and_recovery.judge(replace(context(), checks=(*others, insertion, SPIKE)), SPIKE)
        (table,) = outcome.tables
        assert [row[1] for row in table.rows] == [*(spec.id for spec in others), "any shortcut audit"]
        assert "no image of theirs is made with the marker: shortcut.insert-marker" in table.note
        assert bool(outcome.doubts) is (not others)


def test_few_cases_see_little():
    outcome = spike_and_recovery.judge(context(n=60), SPIKE)
    assert outcome.doubts


def test_a_shortcut_that_is_there_needs_no_limit():
    found = context(shortcut=2.0)
    outcome = spike_and_recovery.judge(found, SPIKE)
    assert not outcome.doubts
    assert "a shortcut is found as it is" in outcome.notices[0]
    (item,) = (one for one in judgement(found).judged if one.criterion.check == MASKED.id)
    assert item.criterion.verdict is Verdict.FAIL


def test_nothing_that_was_measured_is_said():
    found = context(n=40)
    outcome = spike_and_recovery.judge(replace(found, scores=replace(found.scores, vectors={})), SPIKE)
    assert not outcome.tables
    assert "not assessable" in outcome.notices[0]


def test_the_clean_column_has_one_name():
    assert CLEAN == UNALTERED
