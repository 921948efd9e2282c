"""The linear probe: what it finds, that it finds nothing where there is nothing, and what it refuses."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.probe import FOLDS, PENALTIES, Probe, prepare, told
from robustbench_rad.statistics.probe.ridge import _best_penalty


def drawn(seed=0, *, patients=150, images=2, numbers=20, shift=0.0, values=2):
    """Vectors, codes, labels and patients: the first number moves with the code, the second with the label."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), images)
    code = rng.integers(0, values, patients)[owner].astype(float)
    label = (rng.random(patients) < np.where(code[::images] == 0, 0.3, 0.7)).astype(float)[owner]
    vectors = rng.normal(size=(patients, numbers))[owner] + 0.5 * rng.normal(size=(len(owner), numbers))
    vectors[:, 0] += shift * code
    vectors[:, 1] += 2 * label
    return vectors, code, label, owner


def probed(vectors, code, label, owner, **options):
    options = {"seed": 0, "draws": 199, **options}
    return told(prepare(vectors, code, owner), code, label, owner, int(owner.max()) + 1, **options)


def test_a_value_that_moves_one_number_is_told_and_the_area_is_that_of_two_normals():
    found = probed(*drawn(patients=1500, images=1, numbers=5, shift=1.5))
    expected = 0.828  # Phi(1.5 / sqrt(2 * 1.25)), the spread of a vector being sqrt(1.25)
    assert found.auc.lower < expected < found.auc.upper
    assert found.auc.value == pytest.approx(expected, abs=0.02)
    assert found.p == 1 / 200


def test_what_the_label_alone_explains_is_not_told_within_the_label():
    vectors, code, label, owner = drawn(patients=600)
    within = probed(vectors, code, label, owner)
    overall = probed(vectors, code, np.zeros(len(code)), owner)
    assert within.auc.lower < 0.5 < within.auc.upper
    assert within.p > 0.05
    assert overall.auc.lower > 0.5
    assert overall.p == 1 / 200


def test_p_is_uniform_and_the_interval_covers_where_there_is_nothing():
    found = [probed(*drawn(seed, patients=50, numbers=15), seed=seed, draws=99) for seed in range(80)]
    p = np.array([item.p for item in found])
    assert 0.4 < p.mean() < 0.6
    assert (p <= 0.05).mean() < 0.12
    assert np.mean([item.auc.lower <= 0.5 <= item.auc.upper for item in found]) >= 0.9


def test_ridge_is_the_closed_form_of_the_textbook_with_more_numbers_than_cases_too():
    for numbers in (4, 90):
        vectors, code, _, owner = drawn(patients=40, images=1, numbers=numbers, shift=1.0)
        probe = prepare(vectors, code, owner)
        target = code[probe.rows, None, None] - code.mean()
        predicted = probe.predict(target)[:, 0, 0]
        part = probe.folds[0]
        rest = probe.fold != 0
        design = vectors[probe.rows]
        design = (design - design.mean(0)) / design.std(0)
        centred = design[rest] - design[rest].mean(0)
        outcome = target[rest, 0, 0]
        unit = max(part.values.sum() / len(part.values), 1e-12)
        fits = []
        for penalty in PENALTIES * unit:
            scatter = centred.T @ centred
            line = np.linalg.solve(scatter + penalty * np.eye(numbers), centred.T @ (outcome - outcome.mean()))
            hat = centred @ np.linalg.solve(scatter + penalty * np.eye(numbers), centred.T)
            degrees = 1 + np.trace(hat)
            residual = ((outcome - outcome.mean() - centred @ line) ** 2).sum()
            fits.append((residual / max(1 - degrees / rest.sum(), 1e-3) ** 2, line))
        line = min(fits, key=lambda fit: fit[0])[1]
        expected = (design[part.held] - design[rest].mean(0)) @ line + outcome.mean()
        np.testing.assert_allclose(predicted[part.held], expected, rtol=1e-6, atol=1e-8)


def test_problems_solved_together_are_those_solved_alone():
    vectors, code, _, owner = drawn(patients=60, shift=1.0, values=3)
    probe = prepare(vectors, code, owner)
    targets = np.random.default_rng(1).normal(size=(len(probe.rows), 4, 2))
    together = probe.predict(targets)
    alone = np.concatenate([probe.predict(targets[:, [place]]) for place in range(4)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-12)
    assert isinstance(probe, Probe)
    assert _best_penalty(probe.folds[0].values, np.zeros((20, 2)), np.ones(2), 96, 2).shape == (2,)


def test_the_order_of_cases_and_the_numbers_of_patients_change_nothing():
    vectors, code, label, owner = drawn(shift=0.4)
    order = np.random.default_rng(5).permutation(len(code))
    renamed = np.random.default_rng(6).permutation(owner.max() + 1)[owner]
    one = probed(vectors, code, label, owner)
    other = probed(vectors[order], code[order], label[order], renamed[order])
    assert other.auc.value == pytest.approx(one.auc.value, abs=1e-12)
    assert other.auc.lower == pytest.approx(one.auc.lower, abs=1e-9)
    assert other.p == one.p


def test_a_patient_is_never_in_two_folds():
    vectors, code, _, owner = drawn(images=3)
    probe = prepare(vectors, code, owner)
    for patient in np.unique(owner):
        assert len(np.unique(probe.fold[owner[probe.rows] == patient])) == 1
    assert set(probe.fold) == set(range(FOLDS))


def test_patients_seen_again_are_no_proof_of_a_value():
    """Each patient is alike in all images and has one value: folds by image would tell it."""
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(60), 8)
    code = rng.integers(0, 2, 60)[owner].astype(float)
    vectors = rng.normal(size=(60, 40))[owner] + 0.05 * rng.normal(size=(480, 40))
    found = probed(vectors, code, np.zeros(480), owner)
    assert found.auc.lower < 0.5 < found.auc.upper
    assert found.p > 0.05


def test_values_that_go_with_the_number_of_images_have_no_p():
    """Patients of one ward have four images each, all others one: their sums vary more and are no exchange."""
    vectors, code, label, owner = drawn(patients=120, images=4)
    kept = (code == 1) | (np.arange(len(code)) % 4 == 0)
    found = probed(vectors[kept], code[kept], label[kept], owner[kept])
    assert np.isnan(found.p)
    assert found.draws == 0
    assert found.auc.lower < found.auc.value < found.auc.upper


def test_of_several_values_the_one_that_is_told_best_is_named_and_rare_ones_are_left_out():
    vectors, code, label, owner = drawn(patients=300, values=4)
    vectors[:, 3] += 3.0 * (code == 2)
    code[owner < 280] = np.where(code[owner < 280] == 3, 0, code[owner < 280])  # 3 is left to few
    found = probed(vectors, code, label, owner)
    assert found.best == 2
    assert set(found.values) == {0, 1, 2}
    assert found.values[2].value > 0.9
    assert found.auc.value < found.values[2].value


def test_numbers_that_are_missing_or_constant_are_left_out():
    vectors, code, label, owner = drawn(shift=1.0)
    broken = np.column_stack([vectors, np.full(len(code), np.nan), np.ones(len(code))])
    assert probed(broken, code, label, owner).auc.value == pytest.approx(
        probed(vectors, code, label, owner).auc.value, abs=1e-12
    )


def test_what_cannot_be_told_is_refused_by_name():
    vectors, code, label, owner = drawn()
    with pytest.raises(StatisticsError, match="do not vary"):
        prepare(np.ones_like(vectors), code, owner)
    with pytest.raises(StatisticsError, match="do not vary"):
        prepare(np.full_like(vectors, np.nan), code, owner)
    with pytest.raises(StatisticsError, match="one patient"):
        prepare(vectors, code, np.zeros_like(owner))
    with pytest.raises(StatisticsError, match="1 value with 10 patients"):
        probed(vectors, np.zeros(len(code)), label, owner)
    with pytest.raises(StatisticsError, match="0 values"):
        probed(vectors, code, np.full(len(code), np.nan), owner)
