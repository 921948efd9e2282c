"""Average precision against scikit-learn, by hand and under resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.precision_recall import (
    _derivatives,
    _order,
    _weighted,
    average_precision,
    bootstrap_average_precision,
)


def sample(seed, n=200, prevalence=0.2, ties=False):
    rng = np.random.default_rng(seed)
    labels = np.r_[1.0, 0.0, rng.random(n - 2) < prevalence]
    scores = rng.normal(size=n) + labels
    return labels, np.round(scores) if ties else scores


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=20, deadline=None)
def test_value_agrees_with_scikit_learn(seed, ties):
    labels, scores = sample(seed, 60, ties=ties)
    found = average_precision(labels, scores, range(60), 60, seed=0, draws=20)
    assert found.estimate.value == pytest.approx(average_precision_score(labels, scores))
    assert found.prevalence == labels.mean()
    assert 0 <= found.estimate.lower <= found.estimate.value <= found.estimate.upper <= 1


@pytest.mark.parametrize("ties", [False, True])
def test_draws_are_exact_against_weighted_scikit_learn(ties):
    labels, scores = sample(1, 40, ties=ties)
    patients = np.arange(40) // 2
    order = _order(labels, scores, patients)
    drawn = bootstrap_average_precision(order, draws=5, seed=7)
    generator = np.random.default_rng(7)
    for value in drawn:
        weight = np.bincount(generator.integers(0, 20, 20), minlength=20)[patients]
        assert value == pytest.approx(average_precision_score(labels, scores, sample_weight=weight))


@pytest.mark.parametrize("ties", [False, True])
def test_influence_is_the_derivative(ties):
    labels, scores = sample(2, 50, ties=ties)
    order = _order(labels, scores, np.arange(50))
    exact = _derivatives(order, _weighted(order, np.ones(50)))
    step = 1e-6
    numeric = [(_weighted(order, 1 + step * e) - _weighted(order, 1 - step * e)) / (2 * step) for e in np.eye(50)]
    assert exact == pytest.approx(numeric, abs=1e-8)
    assert exact.sum() == pytest.approx(0, abs=1e-12)


def test_standard_error_is_the_bootstraps():
    labels, scores = sample(3, 1000)
    found = average_precision(labels, scores, range(1000), 1000, seed=0, draws=10).estimate
    drawn = bootstrap_average_precision(_order(labels, scores, np.arange(1000)), draws=400, seed=0)
    assert found.standard_error == pytest.approx(drawn.std(), rel=0.12)


def test_images_of_one_patient_widen_the_interval():
    labels, scores = sample(4, 100)
    alone = average_precision(labels, scores, range(100), 100, seed=0).estimate
    copied = average_precision(
        np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(np.arange(100), 3), 100, seed=0
    ).estimate
    assert copied.value == pytest.approx(alone.value)
    assert (copied.lower, copied.upper) == pytest.approx((alone.lower, alone.upper), abs=0.01)


def test_perfect_order_is_not_certain():
    found = average_precision([1] * 10 + [0] * 90, range(100, 0, -1), range(100), 100, seed=0).estimate
    assert (found.value, found.upper) == (1, 1)
    assert found.lower == pytest.approx(0.025**0.1)


def test_all_tied_is_the_prevalence():
    found = average_precision([1, 1, 0, 0, 0, 0, 0, 0], [3] * 8, range(8), 8, seed=0)
    assert found.estimate.value == found.prevalence == 0.25
    assert found.estimate.upper - found.estimate.lower > 0.2


def test_unknown_labels_are_ignored():
    labels, scores = sample(5, 50)
    gap = np.r_[labels, np.nan, np.nan], np.r_[scores, 9.0, np.nan]
    one = average_precision(labels, scores, range(50), 52, seed=0)
    assert average_precision(*gap, range(52), 52, seed=0).estimate.value == one.estimate.value


@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [1, 2]), ([0, 0], [1, 2]), ([1, 0], [1, np.nan]), ([], [])])
def test_refuses_what_it_is_not_defined_for(labels, scores):
    with pytest.raises(StatisticsError, match="average precision"):
        average_precision(labels, scores, np.arange(len(labels)), 2, seed=0)
