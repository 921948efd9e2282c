"""Label-conditional dependence: half when the attribute goes through the label only."""

import itertools

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc, permutation_p, strongest_association
from robustbench_rad.statistics.auc import auc


def cohort(seed, effect=0.0, patients=300, images=2, prevalence=(0.2, 0.7)):
    """Scanner and label associated; the score sees the label, and the scanner by ``effect`` SD."""
    rng = np.random.default_rng(seed)
    scanner = rng.integers(0, 2, patients)
    label = (rng.random(patients) < np.asarray(prevalence)[scanner]).astype(float)
    person = np.repeat(np.arange(patients), images)
    score = (1.5 * label + effect * scanner + 0.7 * rng.normal(size=patients))[person]
    return label[person], score + 0.7 * rng.normal(size=person.size), scanner[person].astype(float), person


def test_dependence_through_the_label_alone_is_a_half():
    label, score, scanner, person = cohort(0)
    marginal = auc(scanner, score, person, 300)
    e = conditional_auc(label, score, scanner, person, 300)
    assert marginal.lower > 0.55  # the marginal association is plain, and no evidence
    assert e.lower < 0.5 < e.upper
    assert e.upper - e.lower < 0.2


def test_dependence_has_the_binormal_size():
    label, score, scanner, person = cohort(1, effect=0.5, patients=1500)
    e = conditional_auc(label, score, scanner, person, 1500)
    assert e.value == pytest.approx(ndtr(0.5 / np.sqrt(2 * 0.98)), abs=0.02)
    assert e.lower > 0.55


def test_pooled_value_is_the_weighted_mean_of_the_labels():
    label, score, scanner, person = cohort(2, effect=0.3, patients=80, images=1)
    parts, weights = [], []
    for value in (1.0, 0.0):
        at = label == value
        m, n = (scanner[at] == 1).sum(), (scanner[at] == 0).sum()
        parts.append(roc_auc_score(scanner[at], score[at]))
        weights.append(m * n / (m + n + 1))
    assert conditional_auc(label, score, scanner, person, 80).value == pytest.approx(np.average(parts, weights=weights))


def test_false_alarms_keep_the_level():
    beyond = 0
    for seed in range(200):
        label, score, scanner, person = cohort(seed, patients=60)
        e = conditional_auc(label, score, scanner, person, 60)
        beyond += not e.lower <= 0.5 <= e.upper
    assert beyond / 200 <= 0.08


def test_a_label_with_one_value_adds_nothing():
    label = np.repeat([1.0, 0.0], 20)
    scanner = np.r_[np.arange(20) % 2, np.zeros(20)]
    score = np.random.default_rng(0).normal(size=40)
    e = conditional_auc(label, score, scanner, range(40), 40)
    alone = auc(scanner[:20], score[:20], range(20), 20)
    assert e.value == pytest.approx(alone.value)
    assert not e.influence[20:].any()


def test_scanner_that_decides_the_score_is_far_from_a_half():
    label, _, scanner, person = cohort(3)
    e = conditional_auc(label, scanner, scanner, person, 300)
    assert e.value == 1
    assert 0.9 < e.lower < 1
    assert e.upper == 1


def test_strongest_value_is_found_and_its_interval_is_joint():
    rng = np.random.default_rng(4)
    site = rng.integers(0, 4, 400).astype(float)
    label = (rng.random(400) < 0.4).astype(float)
    score = label + rng.normal(size=400) + 1.0 * (site == 2)
    found = strongest_association(label, score, site, range(400), 400, seed=0)
    single = conditional_auc(label, score, (site == 2).astype(float), range(400), 400)
    assert found.level == 2
    assert set(found.levels) == {0, 1, 2, 3}
    assert found.estimate.value == pytest.approx(single.value)
    assert found.estimate.lower < single.lower
    assert found.estimate.lower > 0.55


def test_two_values_need_one_comparison():
    label, score, scanner, person = cohort(5)
    found = strongest_association(label, score, scanner, person, 300, seed=0)
    assert len(found.levels) == 1
    assert found.estimate.confidence == 0.95


def test_permutation_p_is_exact_on_a_tiny_sample():
    score = np.array([1.0, 2, 3, 4, 5, 6])
    scanner = np.array([0.0, 0, 0, 1, 1, 1])
    centred = np.arange(6) - 2.5
    every = [abs(centred[list(chosen)].sum()) for chosen in itertools.combinations(range(6), 3)]
    exact = np.mean(np.array(every) >= abs(centred[3:].sum()) - 1e-9)
    p = permutation_p(np.ones(6), score, scanner, range(6), 6, seed=0, draws=6000)
    assert p == pytest.approx(exact, abs=0.012)


def test_permutation_p_counts_only_what_a_permutation_can_change():
    # Three patients with both labels all have the scanner and rank high; six with one label are in reverse order.
    label = np.r_[np.zeros(6), np.tile([0.0, 1.0], 3)]
    score = np.r_[1.0, 2, 3, 4, 5, 6, np.tile([90.0, 90.0], 3)]
    scanner = np.r_[1.0, 1, 1, 0, 0, 0, np.ones(6)]
    person = np.r_[np.arange(6), np.repeat([6, 7, 8], 2)]
    assert permutation_p(label, score, scanner, person, 9, seed=0, draws=4000) == pytest.approx(0.1, abs=0.015)


def test_permutation_p_sees_dependence_and_keeps_its_level():
    label, score, scanner, person = cohort(6, effect=0.6, patients=100)
    assert permutation_p(label, score, scanner, person, 100, seed=0, draws=300) < 0.02
    p = [permutation_p(*cohort(seed, patients=40), 40, seed=seed, draws=99) for seed in range(150)]
    assert np.mean(np.array(p) <= 0.1) <= 0.16
    assert min(p) >= 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditional_auc([1, 1, 0, 0], [1, 2, 3, 4], [1, 1, 0, 0], range(4), 4), "no label"),
        (lambda: conditional_auc([1, 1, 0, 0], [1, np.nan, 3, 4], [1, 0, 0, 1], range(4), 4), "NaN"),
        (lambda: conditional_auc([1, 1], [1, 2], [1, 3], range(2), 2), "attribute"),
        (lambda: conditional_auc([1, 1], [1, 2], [1], range(2), 2), "attribute"),
        (lambda: strongest_association([1, 0], [1, 2], [5, 5], range(2), 2, seed=0), "two values"),
        (lambda: strongest_association([1, 0], [1, 2], [5, 6], range(2), 2, seed=0), "no label"),
        (lambda: permutation_p([1, 1], [1, 2], [1, 0], [0, 0], 1, seed=0), "both values"),
        (lambda: permutation_p([np.nan], [1], [1], [0], 1, seed=0), "no case"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
