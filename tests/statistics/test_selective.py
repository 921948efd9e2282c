"""Risk-coverage: by hand, by brute force, and what may be promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.selective import risk_coverage, safe_coverage


def sample(seed, n=300, ties=False, images=1):
    rng = np.random.default_rng(seed)
    sure = np.abs(rng.normal(size=n) * 2)
    wrong = (rng.random(n) < 0.4 * np.exp(-sure)).astype(float)
    sure = np.round(sure) if ties else sure
    return np.repeat(wrong, images), np.repeat(sure, images), np.repeat(np.arange(n), images)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_ties_are_the_mean_over_random_orders(seed):
    wrong, sure, patients = sample(seed, 12, ties=True)
    rng = np.random.default_rng(seed)
    curve = risk_coverage(wrong, sure, patients, 12)
    shuffled = [risk_coverage(wrong, sure + 1e-6 * rng.random(12), patients, 12).area.value for _ in range(300)]
    assert curve.area.value == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / np.sqrt(300) + 1e-12)
    assert curve.risk[-1] == pytest.approx(wrong.mean())


def test_an_ideal_order_has_no_excess_and_the_worst_has_most():
    wrong = np.r_[np.zeros(90), np.ones(10)]
    ideal = risk_coverage(wrong, np.arange(100, 0, -1), range(100), 100)
    assert ideal.excess.value == pytest.approx(0)
    worst = risk_coverage(wrong, np.arange(100), range(100), 100)
    useless = risk_coverage(wrong, np.zeros(100), range(100), 100)
    assert useless.area.value == pytest.approx(0.1)
    assert ideal.area.value < useless.area.value < worst.area.value


def test_standard_errors_are_the_bootstraps():
    wrong, sure, patients = sample(1)
    curve = risk_coverage(wrong, sure, patients, 300)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        chosen = rng.integers(0, 300, 300)
        one = risk_coverage(wrong[chosen], sure[chosen] + 1e-9 * rng.random(300), np.arange(300), 300)
        drawn.append((one.area.value, one.excess.value))
    area, excess = np.std(drawn, axis=0)
    assert curve.area.standard_error == pytest.approx(area, rel=0.15)
    assert curve.excess.standard_error == pytest.approx(excess, rel=0.15)


def test_copies_change_nothing():
    one, many = (risk_coverage(*sample(2, images=k), 300) for k in (1, 4))
    assert many.area.value == pytest.approx(one.area.value, rel=0.02)
    assert many.area.standard_error == pytest.approx(one.area.standard_error, rel=0.02)


def test_no_error_is_not_certain():
    curve = risk_coverage(np.zeros(60), np.arange(60), range(60), 60)
    assert curve.area.value == curve.excess.value == 0
    rate = 1 - 0.025 ** (1 / 60)
    assert curve.area.upper == pytest.approx(rate - rate * np.log(rate))


def test_every_case_wrong():
    curve = risk_coverage(np.ones(20), np.arange(20), range(20), 20)
    assert (curve.area.value, curve.excess.value) == pytest.approx((1, 0))


def test_a_promised_risk_holds():
    """The error rate beyond a certainty s is known: a fresh large sample says what the kept cases are wrong in."""
    fresh_wrong, fresh_sure, _ = sample(999, 200_000)
    broken = 0
    for seed in range(100):
        e = safe_coverage(*sample(seed), 300, target=0.12)
        assert e.shown <= e.observed
        kept = fresh_sure >= e.threshold
        broken += bool(kept.any() and fresh_wrong[kept].mean() > 0.12)
    assert broken <= 10  # P(more | 5 %) = 0.01


def test_a_target_beyond_every_risk_keeps_all_and_one_below_keeps_none():
    wrong, sure, patients = sample(3)
    assert safe_coverage(wrong, sure, patients, 300, target=1.0).shown == 1
    nothing = safe_coverage(np.ones(30), np.arange(30), range(30), 30, target=0.1)
    assert (nothing.observed, nothing.shown, nothing.threshold) == (0, 0, np.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_coverage([1, 2], [1, 1], [0, 1], 2), "expected 1, 0 or NaN"),
        (lambda: risk_coverage([1, 0], [np.nan, 1], [0, 1], 2), "no certainty"),
        (lambda: risk_coverage([1], [1], [0], 1), "two patients"),
        (lambda: risk_coverage([1, 0], [1], [0, 1], 2), "shape"),
        (lambda: safe_coverage([1, 0], [1, 2], [0, 1], 2, target=1.5), "target"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
