"""One permutation p-value for all values of an attribute: exact, whole patients, within labels."""

import itertools

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.permutation import any_value_permutation_p


def sample(seed, n=120, images=1, values=3):
    rng = np.random.default_rng(seed)
    label, code = rng.integers(0, 2, n), rng.integers(0, values, n)
    score = 2 * label + rng.normal(size=n)
    rows = np.repeat(np.arange(n), images)
    return label[rows], score[rows] + rng.normal(size=len(rows)) / 10, code[rows].astype(float), rows


def test_p_is_that_of_every_order_counted():
    score, scanner = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0.0, 0, 1, 0, 1, 1])
    sums = [abs(sum(np.arange(6)[list(chosen)] - 2.5)) for chosen in itertools.combinations(range(6), 3)]
    exact = np.mean(np.array(sums) >= abs((scanner * (np.arange(6) - 2.5)).sum()) - 1e-9)
    p = any_value_permutation_p(np.ones(6), score, scanner, range(6), 6, seed=0, draws=6000)
    assert p == pytest.approx(exact, abs=0.012)


def test_only_what_a_permutation_can_change_counts():
    # Three patients with both labels all have the scanner and rank high; six with one label are in reverse order.
    label = np.r_[np.zeros(6), np.tile([0.0, 1.0], 3)]
    score = np.r_[1.0, 2, 3, 4, 5, 6, np.tile([90.0, 90.0], 3)]
    scanner = np.r_[1.0, 1, 1, 0, 0, 0, np.ones(6)]
    person = np.r_[np.arange(6), np.repeat([6, 7, 8], 2)]
    p = any_value_permutation_p(label, score, scanner, person, 9, seed=0, draws=4000)
    assert p == pytest.approx(0.1, abs=0.015)


def test_the_level_holds_under_no_dependence_whatever_the_number_of_values():
    rejected = [any_value_permutation_p(*sample(seed, 60), 60, seed=seed, draws=99) <= 0.1 for seed in range(300)]
    assert 0.05 < np.mean(rejected) < 0.15


def test_prevalence_alone_is_no_dependence_and_one_odd_value_is():
    rng = np.random.default_rng(0)
    n = 600
    code = rng.integers(0, 5, n).astype(float)
    label = (rng.random(n) < np.where(code < 2, 0.8, 0.2)).astype(float)
    score = 3 * label + rng.normal(size=n)
    assert any_value_permutation_p(label, score, code, range(n), n, seed=0) > 0.05
    assert any_value_permutation_p(label, score + (code == 4), code, range(n), n, seed=0) == pytest.approx(1 / 2001)


def test_order_of_cases_and_names_of_values_do_not_matter():
    label, score, code, patients = sample(3, images=2)
    order = np.random.default_rng(0).permutation(len(label))
    one = any_value_permutation_p(label, score, code, patients, 120, seed=0, draws=500)
    assert (
        any_value_permutation_p(label[order], score[order], code[order], patients[order], 120, seed=0, draws=500) == one
    )
    assert any_value_permutation_p(label, score, code * 7 - 3, patients, 120, seed=0, draws=500) == one


def test_a_patient_with_both_labels_is_permuted_among_its_like():
    label, score, code, patients = sample(4, images=2)
    label = np.where(np.arange(len(label)) % 4 == 1, 1 - label, label)
    assert 0 < any_value_permutation_p(label, score, code, patients, 120, seed=0, draws=200) <= 1


def mixed(seed, used=0.0):
    """Patients with a score of their own, three images each and as many scanners as chance gives them."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(40), 3)
    label, code = rng.integers(0, 2, 40)[patients], rng.integers(0, 2, 120).astype(float)
    score = label + 2 * rng.normal(size=40)[patients] + rng.normal(size=120) + used * code
    return label, score, code, patients, 40


def test_patients_with_several_values_keep_the_level_and_are_compared_with_themselves():
    none = [any_value_permutation_p(*mixed(seed), seed=seed, draws=99) <= 0.1 for seed in range(300)]
    assert 0.05 < np.mean(none) < 0.15
    told = [any_value_permutation_p(*mixed(seed, 2.0), seed=seed, draws=99) <= 0.05 for seed in range(20)]
    assert np.mean(told) > 0.9


def often(seed, used=0.0):
    """Forty patients of a ward come five times on average, 160 others once or twice; images of a patient are alike."""
    rng = np.random.default_rng(seed)
    ward, label = np.arange(200) < 40, rng.integers(0, 2, 200)
    rows = np.repeat(np.arange(200), 1 + rng.poisson(np.where(ward, 4, 0.6)))
    score = label[rows] + rng.normal(size=200)[rows] + 0.8 * rng.normal(size=len(rows)) + used * ward[rows]
    return label[rows], score, ward[rows].astype(float), rows, 200


def test_patients_who_come_more_often_are_no_dependence():
    none = [any_value_permutation_p(*often(seed), seed=seed, draws=99) <= 0.1 for seed in range(300)]
    assert 0.05 < np.mean(none) < 0.15  # 0.22 where they are exchanged for patients with one image
    told = [any_value_permutation_p(*often(seed, 2.0), seed=seed, draws=99) <= 0.05 for seed in range(20)]
    assert np.mean(told) > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": [0, 0, 0, 0]}, "two values or more, got 1"),
        ({"code": [np.nan] * 4}, "two values or more, got 0"),
        ({"score": [1, np.nan, 2, 3]}, "1 cases have no score"),
        ({"score": [1, 1, 1, 1]}, "nothing to exchange"),
        ({"label": [1, 0, 0, 0], "code": [1, 0, 0, 0]}, "nothing to exchange"),
        ({"label": [1] * 4, "patients": [0, 1, 1, 1], "code": [0, 1, 1, 1]}, "about as many images"),
        ({"label": [1], "score": [0.5], "code": [0], "patients": [0]}, "got 1"),
    ],
    ids=["one value", "no value", "no score", "all tied", "value is the label", "images", "n = 1"],
)
def test_what_cannot_be_permuted_is_refused(change, message):
    given = {"label": [1, 1, 0, 0], "score": [4, 3, 2, 1], "code": [0, 1, 0, 1], "patients": [0, 1, 2, 3], **change}
    with pytest.raises(StatisticsError, match=message):
        any_value_permutation_p(given["label"], given["score"], given["code"], given["patients"], 4, seed=0)
