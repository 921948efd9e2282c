"""Calibration line, Brier score, predictive values."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.calibration import brier, calibration_line, predictive_values


def sample(slope=1.0, intercept=0.0, n=2000):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=n) * 1.5 - 1
    return (rng.random(n) < expit(intercept + slope * logits)).astype(float), logits


def test_line_is_the_maximum_likelihood_fit():
    labels, logits = sample(0.6, 0.3, 500)
    intercept, slope = calibration_line(labels, logits, range(500), 500)
    fit = LogisticRegression(C=1e10, tol=1e-10).fit(logits[:, None], labels)
    assert (intercept.value, slope.value) == pytest.approx((fit.intercept_[0], fit.coef_[0, 0]), abs=1e-4)


def test_calibrated_model_holds_zero_and_one_and_a_flat_one_does_not():
    intercept, slope = calibration_line(*sample(), range(2000), 2000)
    assert intercept.lower < 0 < intercept.upper
    assert slope.lower < 1 < slope.upper
    assert slope.upper - slope.lower < 0.3
    assert calibration_line(*sample(0.5), range(2000), 2000)[1].upper < 0.7


def test_duplicates_change_nothing():
    labels, logits = sample(n=200)
    one = calibration_line(labels, logits, range(200), 200)[1]
    twice = calibration_line(np.repeat(labels, 2), np.repeat(logits, 2), np.repeat(np.arange(200), 2), 200)[1]
    assert (twice.value, twice.lower) == pytest.approx((one.value, one.lower))


@pytest.mark.parametrize(("p", "score"), [((0.2, 0.8), 0.16), ((0.3, 0.7), 0.17)])
def test_brier_known_answers(p, score):
    labels = [1, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert brier(labels, np.repeat(p, 5), range(10), 10).value == pytest.approx(score)


def test_predictive_values_at_a_prevalence():
    assert [round(predictive_values(0.85, 0.9, p)[0], 4) for p in (0.10, 0.03, 0.01)] == [0.4857, 0.2082, 0.0791]
    assert predictive_values(5 / 10, 80 / 90, 0.1) == pytest.approx((1 / 3, 80 / 85))
    assert np.isnan(predictive_values(0.0, 1.0, 0.1)[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: calibration_line([1, 1], [0, 1], [0, 1], 2),
        lambda: calibration_line([1, 0], [0, 0], [0, 1], 2),
        lambda: calibration_line([1, 0], [0, np.inf], [0, 1], 2),
        lambda: calibration_line([0, 0, 1, 1], [-2, -1, 1, 2], range(4), 4),
        lambda: brier([1, 0], [1.2, 0.5], [0, 1], 2),
        lambda: predictive_values(1.1, 0.5, 0.1),
    ],
)
def test_refuses_what_it_is_not_defined_for(call):
    with pytest.raises(StatisticsError):
        call()
