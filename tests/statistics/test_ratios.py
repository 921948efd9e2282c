"""Fieller's interval: a textbook value, coverage, and the ratio that has no bounds."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.means import mean
from robustbench_rad.statistics.ratios import ratio


def _means(seed, n=40, true=(2.0, 4.0)):
    values = np.random.default_rng(seed).multivariate_normal(true, [[1.0, 0.6], [0.6, 2.0]], size=n)
    return [mean(column, range(n), n) for column in values.T]


def test_limits_solve_fiellers_equation():
    a, b = _means(0)
    found = ratio(a, b, degrees=39)
    for r in (found.lower, found.upper):
        gap = mean_of(a, b, r)
        assert abs(gap.value) == pytest.approx(2.0227 * gap.standard_error, rel=1e-3)


def mean_of(a, b, r):
    return Estimate(value=a.value - r * b.value, lower=0, upper=0, influence=a.influence - r * b.influence)


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    found = [ratio(*_means(seed), degrees=39) for seed in range(800)]
    assert 0.93 <= np.mean([each.lower <= 0.5 <= each.upper for each in found]) <= 0.97


def test_the_influence_is_that_of_a_ratio():
    a, b = _means(3, n=4000)
    found = ratio(a, b, degrees=3999)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * found.standard_error, rel=0.01)


def test_a_denominator_that_may_be_zero_has_no_ratio():
    a, b = _means(1, true=(2.0, 0.0))
    with pytest.raises(StatisticsError, match="not told from zero"):
        ratio(a, b, degrees=39)
    with pytest.raises(StatisticsError, match="influence"):
        ratio(Estimate(value=1, lower=0, upper=2), b, degrees=39)
