"""Estimates: arithmetic of intervals, and differences of estimates on the same or on separate patients."""

import numpy as np
import pytest
from scipy.stats import norm, t

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate, difference, normal_quantile, student_quantile


def made(value=0.4, influence=None, confidence=0.95):
    influence = np.array([0.02, -0.01, -0.01, 0.0]) if influence is None else np.asarray(influence)
    return Estimate(
        value=value, lower=value - 0.1, upper=value + 0.2, confidence=confidence, method="made", influence=influence
    )


def test_affine_turns_the_limits_with_the_sign():
    e = made().affine(scale=-2, offset=1)
    assert (e.value, e.lower, e.upper) == pytest.approx((0.2, -0.2, 0.4))
    np.testing.assert_allclose(e.influence, [-0.04, 0.02, 0.02, 0])
    assert e.standard_error == pytest.approx(2 * made().standard_error)


def test_standard_error_is_the_documented_variance():
    assert made().standard_error == pytest.approx(np.sqrt(4 / 3 * 0.0006))
    assert np.isnan(Estimate(value=0, lower=0, upper=0).standard_error)


@pytest.mark.parametrize(
    ("value", "lower", "upper", "folded"),
    [(0.7, 0.6, 0.8, (0.2, 0.1, 0.3)), (0.3, 0.2, 0.4, (0.2, 0.1, 0.3)), (0.52, 0.4, 0.55, (0.02, 0.0, 0.1))],
)
def test_folded_is_the_distance_from_the_centre(value, lower, upper, folded):
    e = Estimate(value=value, lower=lower, upper=upper).folded(centre=0.5)
    assert (e.value, e.lower, e.upper) == pytest.approx(folded)


def test_difference_on_separate_patients_adds_in_quadrature():
    d = difference(made(0.6, [0.1, -0.1, 0, 0]), made(0.4, [0, 0, 0.1, -0.1]))
    assert (d.value, d.lower, d.upper) == pytest.approx((0.2, 0.2 - np.hypot(0.1, 0.2), 0.2 + np.hypot(0.2, 0.1)))
    np.testing.assert_allclose(d.influence, [0.1, -0.1, -0.1, 0.1])


def test_difference_of_moving_together_keeps_only_what_differs():
    d = difference(made(0.6), made(0.4))
    assert (d.lower, d.upper) == pytest.approx((0.1, 0.3))


def test_student_limit_is_a_floor_on_each_side():
    a, b = made(0.6, [1, -1, 0, 0]), made(0.4, [0, 0, 1, -1])
    d = difference(a, b, degrees=3)
    half = t.ppf(0.975, 3) * np.sqrt(4 / 3 * 4)
    assert (d.value - d.lower, d.upper - d.value) == pytest.approx((half, half))


def test_difference_without_influence_is_that_of_independent_estimates():
    a = Estimate(value=0.6, lower=0.5, upper=0.8)
    d = difference(a, a)
    assert d.influence is None
    assert d.upper == pytest.approx(np.hypot(0.2, 0.1))


def test_difference_refuses_two_confidence_levels():
    with pytest.raises(StatisticsError, match=r"0\.95 and 0\.99"):
        difference(made(), made(confidence=0.99))


def test_quantiles_are_scipys():
    assert normal_quantile(0.9) == pytest.approx(norm.ppf(0.95))
    assert student_quantile(0.9, 5) == pytest.approx(t.ppf(0.95, 5))
    assert student_quantile(0.9, np.inf) == pytest.approx(norm.ppf(0.95))
    assert student_quantile(0.95, 0) == student_quantile(0.95, 1)
