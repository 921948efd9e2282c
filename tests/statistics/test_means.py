"""Means and retained spread, clustered by patient."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.means import mean, spread_ratio


def test_mean_of_single_images_is_students():
    values = np.random.default_rng(0).normal(size=17)
    e = mean(values, range(17), 17)
    reference = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (e.value, e.lower, e.upper) == pytest.approx((values.mean(), reference.low, reference.high))


def test_duplicates_and_missing_values_change_nothing():
    values = np.array([1.0, 4.0, np.nan, 2.0])
    one = mean(values, range(4), 4)
    twice = mean(np.repeat(values, 2), np.repeat(np.arange(4), 2), 4)
    assert (twice.value, twice.lower, twice.upper) == pytest.approx((one.value, one.lower, one.upper))
    assert one.influence[2] == 0


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_patients_all_alike_leave_room_for_those_not_seen(value):
    patients = np.repeat(np.arange(20), 2)
    e = mean(np.full(40, value), patients, 20, bounds=(0, 1))
    unseen = 1 - 0.025 ** (1 / 20)
    assert (e.value, e.lower, e.upper) == pytest.approx((value, value * (1 - unseen), value + (1 - value) * unseen))
    assert "alike" in e.method
    same = mean(np.tile([0.0, 1.0], 20), patients, 20, bounds=(0, 1))  # cases vary, their patients do not
    assert same.lower < 0.45
    assert same.upper > 0.55


def test_limits_stay_within_the_bounds_of_a_value():
    e = mean([0.0, 0.0, 0.0, 0.4], range(4), 4, bounds=(0, 1))
    assert (e.lower, e.value) == (0, pytest.approx(0.1))
    assert mean([0.0, 0.0, 0.0, 0.4], range(4), 4).lower < 0


def test_retained_spread_of_a_shrunken_score_is_its_factor():
    clean = np.random.default_rng(1).normal(size=50)
    e = spread_ratio(0.02 * clean + 5, clean, range(50), 50)
    assert (e.value, e.lower, e.upper) == pytest.approx((0.02, 0.02, 0.02))


def test_retained_spread_covers():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        person = np.repeat(np.arange(80), 2)
        clean = rng.normal(size=80)[person] + rng.normal(size=160)
        masked = 0.1 * rng.normal(size=80)[person] + 0.1 * rng.normal(size=160)
        e = spread_ratio(masked, clean, person, 80)
        held += e.lower <= 0.1 <= e.upper
    assert held / 200 >= 0.92


def test_constant_output_retains_nothing():
    e = spread_ratio(np.full(5, 3.0), np.arange(5.0), range(5), 5)
    assert (e.value, e.lower, e.upper) == (0, 0, 0)
    assert e.method == "constant in all cases seen, up to 52.18% of others may vary"


def test_spread_uses_the_cases_that_have_both():
    clean, masked = np.array([1.0, 2, 4, np.nan, 9]), np.array([2.0, 4, 8, 1, np.nan])
    assert spread_ratio(masked, clean, range(5), 5).value == pytest.approx(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean([1.0, 2.0], [0, 0], 1), "two patients"),
        (lambda: mean([np.nan, np.nan], [0, 1], 2), "two patients"),
        (lambda: mean([3.0, 3.0], [0, 1], 2), "nothing of how it varies"),
        (lambda: mean([1.0, np.inf], [0, 1], 2), "finite"),
        (lambda: spread_ratio([1.0, 2.0], [3.0, 3.0], [0, 1], 2), "do not vary"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
