"""Predictive values and costs: known answers, coverage, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.operating_point import (
    Costs,
    cost_curve,
    expected_cost,
    predictive_value_estimates,
)
from robustbench_rad.statistics.proportions import proportion


def rates(true_positive, positives, true_negative, negatives):
    n = positives + negatives
    right = np.r_[np.arange(positives) < true_positive, np.arange(negatives) < true_negative]
    positive = np.arange(n) < positives
    return tuple(proportion(right, valid, range(n), n) for valid in (positive, ~positive))


def test_predictive_values_of_a_confusion_table():
    ppv, npv = predictive_value_estimates(*rates(5, 10, 80, 90), 0.1)
    assert (ppv.value, npv.value) == pytest.approx((1 / 3, 80 / 85))
    assert ppv.lower < 1 / 3 < ppv.upper


@pytest.mark.parametrize(("prevalence", "ppv"), [(0.10, 0.4857), (0.03, 0.2082), (0.01, 0.0791)])
def test_ppv_at_a_prevalence(prevalence, ppv):
    found, _ = predictive_value_estimates(*rates(85, 100, 900, 1000), prevalence)
    assert round(found.value, 4) == ppv
    assert found.lower < ppv < found.upper


@pytest.mark.parametrize(("se", "sp", "positives"), [(0.85, 0.9, 66), (0.95, 0.99, 30), (0.6, 0.7, 20)])
def test_intervals_cover(se, sp, positives):
    rng = np.random.default_rng(1)
    true = se * 0.03 / (se * 0.03 + (1 - sp) * 0.97), sp * 0.97 / (sp * 0.97 + (1 - se) * 0.03)
    held = np.zeros(2)
    for _ in range(300):
        found = predictive_value_estimates(
            *rates(rng.binomial(positives, se), positives, rng.binomial(300, sp), 300), 0.03
        )
        held += [e.lower <= t <= e.upper for e, t in zip(found, true, strict=True)]
    assert (held / 300 >= 0.915).all()  # P(fewer | 95 %) = 0.006


def test_standard_error_is_the_delta_method():
    (se, sp), step = rates(56, 66, 600, 660), 1e-6
    ppv, _ = predictive_value_estimates(se, sp, 0.03)

    def value(a, b):
        return a * 0.03 / (a * 0.03 + (1 - b) * 0.97)

    by_se = (value(se.value + step, sp.value) - value(se.value - step, sp.value)) / (2 * step)
    by_sp = (value(se.value, sp.value + step) - value(se.value, sp.value - step)) / (2 * step)
    assert ppv.standard_error == pytest.approx(np.hypot(by_se * se.standard_error, by_sp * sp.standard_error), rel=1e-4)


@given(st.integers(0, 30), st.integers(0, 40), st.floats(0.001, 0.999))
@settings(max_examples=60, deadline=None)
def test_any_table_gives_limits_between_zero_and_one(hits, rejections, prevalence):
    se, sp = rates(hits, 30, rejections, 40)
    if (hits == 0 and rejections == 40) or (hits == 30 and rejections == 0):
        with pytest.raises(StatisticsError, match="no case would be called"):
            predictive_value_estimates(se, sp, prevalence)
        return
    for e in predictive_value_estimates(se, sp, prevalence):
        assert 0 <= e.lower <= e.value <= e.upper <= 1
        assert e.upper > e.lower


def test_perfect_specificity_is_not_a_certain_ppv():
    ppv, _ = predictive_value_estimates(*rates(50, 60, 100, 100), 0.03)
    assert ppv.value == ppv.upper == 1
    assert ppv.lower < 0.7


def test_expected_cost_by_hand_and_its_bounds():
    cost = expected_cost(*rates(8, 10, 90, 100), 0.5, Costs(miss=10, false_alarm=2))
    assert cost.value == pytest.approx(0.5 * 0.2 * 10 + 0.5 * 0.1 * 2)
    assert cost.lower < cost.value < cost.upper
    assert Costs(miss=20, false_alarm=1).of_constant(0.03) == pytest.approx(0.6)


def test_cost_curve_holds_the_operating_point_and_both_constant_policies():
    rng = np.random.default_rng(0)
    labels = np.r_[np.ones(40), np.zeros(200), np.nan]
    margins = np.r_[rng.normal(1, 1, 40), rng.normal(-1, 1, 200), np.nan]
    costs = Costs(miss=5, false_alarm=1)
    curve = cost_curve(labels, margins, 0.1, costs)
    assert curve.costs[0] == pytest.approx(0.9)
    assert curve.costs[-1] == pytest.approx(0.5)
    assert curve.least[1] <= min(curve.costs[0], curve.costs[-1])
    se, sp = (margins[labels == 1] >= 0).mean(), (margins[labels == 0] < 0).mean()
    at_zero = curve.costs[np.searchsorted(curve.thresholds, 0.0)]
    assert at_zero == pytest.approx(0.1 * 5 * (1 - se) + 0.9 * (1 - sp))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Costs(miss=-1, false_alarm=1),
        lambda: Costs(miss=np.nan, false_alarm=1),
        lambda: predictive_value_estimates(*rates(5, 10, 5, 10), 0.0),
        lambda: predictive_value_estimates(
            Estimate(value=0.5, lower=0.4, upper=0.6), Estimate(value=0.5, lower=0.4, upper=0.6, confidence=0.9), 0.1
        ),
        lambda: expected_cost(*rates(5, 10, 5, 10), 1.5, Costs(miss=1, false_alarm=1)),
        lambda: cost_curve([1, 1], [0, 1], 0.1, Costs(miss=1, false_alarm=1)),
        lambda: cost_curve([1, 0], [0, np.nan], 0.1, Costs(miss=1, false_alarm=1)),
    ],
)
def test_refuses_what_it_is_not_defined_for(call):
    with pytest.raises(StatisticsError):
        call()
