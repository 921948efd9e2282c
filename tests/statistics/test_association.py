"""Label-conditional dependence: half when the attribute goes through the label only."""

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditional_auc([1, 1, 0, 0], [1, 2, 3, 4], [1, 1, 0, 0], range(4), 4), "no label"),
        (lambda: conditional_auc([1, 1, 0, 0], [1, np.nan, 3, 4], [1, 0, 0, 1], range(4), 4), "NaN"),
        (lambda: conditional_auc([1, 1], [1, 2], [1, 3], range(2), 2), "attribute"),
        (lambda: conditional_auc([1, 1], [1, 2], [1], range(2), 2), "attribute"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
