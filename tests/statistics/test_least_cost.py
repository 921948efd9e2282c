"""The cheapest threshold: chosen on the cases, with an interval that knows of the choice."""

import numpy as np
import pytest
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.least_cost import least_cost
from robustbench_rad.statistics.operating_point import Costs, cost_curve

COSTS = Costs(miss=20, false_alarm=1)


def sample(seed, n):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=n) - 1.5
    return (rng.random(n) < expit(logits)).astype(float), logits


def found(label, margins, patients=None, **more):
    index = np.arange(len(label)) if patients is None else patients
    given = {"prevalence": 0.03, "costs": COSTS, "seed": 0, "draws": 100, **more}
    return least_cost(label, margins, index, int(np.max(index)) + 1, **given)


def test_threshold_and_value_are_those_of_the_curve():
    label, margins = sample(0, 300)
    at, cost = found(label, margins)
    assert (at, cost.value) == cost_curve(label, margins, 0.03, COSTS).least
    assert cost.lower < cost.value < cost.upper


@pytest.mark.parametrize("n", [100, 400])
def test_the_interval_covers_the_least_cost_that_there_is(n):
    true = cost_curve(*sample(99, 200_000), 0.03, COSTS).least[1]
    estimates = [found(*sample([seed, n], n))[1] for seed in range(80)]
    assert np.mean([e.value for e in estimates]) < true  # the choice is too favourable
    assert np.mean([e.lower <= true <= e.upper for e in estimates]) >= 0.86


def test_it_never_exceeds_the_cost_of_a_constant_call():
    label, margins = sample(1, 60)
    _, cost = found(label, -margins)
    assert cost.upper <= COSTS.of_constant(0.03) + 1e-12


def test_perfect_calls_are_not_certain_to_cost_nothing():
    label = np.tile([1.0, 0.0], 30)
    _, cost = found(label, 4 * label - 2)
    assert (cost.value, cost.lower) == (0, 0)
    assert cost.upper > 0.01


def test_ties_missing_labels_and_patients_with_both_labels():
    label, margins = sample(2, 200)
    at, cost = found(label, np.zeros(200))
    assert cost.value == pytest.approx(COSTS.of_constant(0.03))
    assert at == np.inf
    more = found(np.r_[label, np.nan], np.r_[margins, np.nan])
    assert more[1].value == pytest.approx(found(label, margins)[1].value)
    together = found(label, margins, np.arange(200) // 4)[1]
    assert together.lower <= together.value <= together.upper


@pytest.mark.parametrize(("label", "margins"), [([1, 1], [0.5, 1]), ([1], [1]), ([1, 0], [np.nan, 1])])
def test_one_class_and_missing_margins_are_refused(label, margins):
    with pytest.raises(StatisticsError, match="expected both classes and a margin"):
        found(np.array(label, float), np.array(margins, float))


def test_one_positive_patient_is_wide_but_known():
    label = np.r_[1.0, np.zeros(50)]
    _, cost = found(label, np.r_[2.0, np.linspace(-2, 1, 50)])
    assert 0.5 < cost.upper <= COSTS.of_constant(0.03) + 1e-12
