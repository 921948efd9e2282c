"""Calibration error: known answers, unbiasedness, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.calibration_error import (
    brier_parts,
    equal_mass_bins,
    observed_over_expected,
    plug_in_calibration_error,
    spiegelhalter,
    squared_calibration_error,
)

LABELS = [1, 0, 0, 0, 0, 1, 1, 1, 1, 0]


def sample(seed, n=400, shift=0.0, images=1):
    """Calibrated probabilities (``shift`` adds to the log-odds), each patient with several images."""
    rng = np.random.default_rng(seed)
    logits = np.repeat(rng.normal(size=n) - 1.5, images)
    truth = np.repeat(rng.random(n) < expit(logits[::images]), images).astype(float)
    return truth, expit(logits + shift), np.repeat(np.arange(n), images)


@pytest.mark.parametrize(
    ("low", "high", "parts"), [(0.2, 0.8, (0.16, 0, 0.09, 0.25)), (0.3, 0.7, (0.17, 0.01, 0.09, 0.25))]
)
def test_brier_parts_known_answers(low, high, parts):
    found = brier_parts(LABELS, [low] * 5 + [high] * 5)
    assert (found.score, found.miscalibration, found.discrimination, found.uncertainty) == pytest.approx(parts)


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_brier_parts_add_up_and_agree_with_scikit_learn(seed, digits):
    truth, p, _ = sample(seed, 60)
    p = np.round(p, digits)
    found = brier_parts(truth, p)
    assert found.score == pytest.approx(brier_score_loss(truth, p))
    assert found.score == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(p, truth).predict(p)
    assert found.score - found.miscalibration == pytest.approx(((fitted - truth) ** 2).mean())
    assert min(found.miscalibration, found.discrimination) >= 0


def test_a_rising_change_of_the_probabilities_leaves_discrimination_alone():
    truth, p, _ = sample(0)
    one, other = brier_parts(truth, p), brier_parts(truth, p**3)
    assert other.discrimination == pytest.approx(one.discrimination)
    assert other.miscalibration > one.miscalibration


def test_spiegelhalter_holds_its_level_and_finds_a_shift():
    p_values = np.array([spiegelhalter(*sample(seed), 400).p_value for seed in range(200)])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.10
    assert spiegelhalter(*sample(0, shift=2.0), 400).p_value < 1e-4


def test_spiegelhalter_does_not_count_copies_twice():
    one = spiegelhalter(*sample(1, shift=0.4), 400)
    truth, p, patients = sample(1, shift=0.4, images=5)
    assert abs(spiegelhalter(truth, p, patients, 400).z) < 1.2 * abs(one.z)
    assert abs(spiegelhalter(truth, p, np.arange(2000), 2000).z) > 2 * abs(one.z)


def test_spiegelhalter_at_probabilities_of_exactly_zero_and_one():
    certain = spiegelhalter([1, 0], [1.0, 0.0], [0, 1], 2)
    assert (certain.z, certain.p_value) == (0, 1)
    assert spiegelhalter([1, 0], [0.0, 0.0], [0, 1], 2).p_value == 0


def test_the_debiased_square_averages_zero_where_the_plug_in_error_does_not():
    values = [squared_calibration_error(*sample(seed, 200), 200).value for seed in range(150)]
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / np.sqrt(150))
    naive = [plug_in_calibration_error(*sample(seed, 200)[:2], seed=0, draws=1).value for seed in range(50)]
    assert np.mean(naive) > 0.04


def test_the_debiased_square_covers_what_it_estimates():
    """Truth by one large sample in fine bins; a shift of 0.8 in the log-odds."""
    truth, p, _ = sample(99, 200_000, shift=0.8)
    exact = squared_calibration_error(truth, p, np.arange(200_000), 200_000).value
    held = [
        (e := squared_calibration_error(*sample(seed, 300, shift=0.8), 300)).lower <= exact <= e.upper
        for seed in range(100)
    ]
    assert np.mean(held) >= 0.88  # P(fewer | 95 %) = 0.002


def test_the_null_expectation_is_what_a_calibrated_model_shows():
    found = [plug_in_calibration_error(*sample(seed, 500)[:2], seed=seed, draws=40) for seed in range(40)]
    assert np.mean([e.value for e in found]) == pytest.approx(np.mean([e.null_mean for e in found]), rel=0.1)
    shifted = plug_in_calibration_error(*sample(0, 500, shift=1.5)[:2], seed=0)
    assert shifted.value > shifted.null_upper > shifted.null_mean


def test_copies_leave_the_debiased_square_alone():
    one = squared_calibration_error(*sample(3, 100, shift=0.5), 100)
    many = squared_calibration_error(*sample(3, 100, shift=0.5, images=3), 100)
    assert (many.value, many.lower, many.standard_error) == pytest.approx((one.value, one.lower, one.standard_error))


def test_observed_over_expected():
    truth, p, patients = sample(5, 2000)
    e = observed_over_expected(truth, p, patients, 2000)
    assert e.value == pytest.approx(truth.sum() / p.sum())
    assert e.lower < 1 < e.upper
    assert observed_over_expected(*sample(5, 2000, shift=1.0), 2000).upper < 1


def test_no_positive_still_has_an_upper_bound():
    e = observed_over_expected([0] * 59, [0.1] * 59, range(59), 59, confidence=0.9)
    assert (e.value, e.lower) == (0, 0)
    assert e.upper == pytest.approx((1 - 0.05 ** (1 / 59)) / 0.1)


def test_bins_have_equal_mass_and_never_split_ties():
    values = np.random.default_rng(0).random(150)
    assert np.bincount(equal_mass_bins(values, 15)).tolist() == [10] * 15
    assert equal_mass_bins(np.zeros(9), 5).tolist() == [0] * 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: observed_over_expected([1, 0], [0, 0], [0, 1], 2), "every probability is 0"),
        (lambda: observed_over_expected([np.nan], [0.5], [0], 1), "no case"),
        (lambda: spiegelhalter([1, 0], [0.5, 0.5], [0, 1], 2), r"0\.5"),
        (lambda: brier_parts([1, 0], [np.nan, 0.5]), "between 0 and 1"),
        (lambda: brier_parts([1, 0], [1.1, 0.5]), "between 0 and 1"),
        (lambda: brier_parts([1, 0], [0.5]), "shape"),
        (lambda: squared_calibration_error([1], [0.5], [0], 1), "two patients"),
        (lambda: squared_calibration_error([1, 0], [0.5, 0.4], [0, 1], 2, bins=0), "one or more"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
