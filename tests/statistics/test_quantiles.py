"""Quantiles with Woodruff's interval."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.quantiles import quantile


def test_the_interval_covers_the_quantile_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for share, truth in ((0.5, 0.0), (0.9, 1.2815516)):
        hits = 0
        for _ in range(400):
            found = quantile(rng.normal(size=60), share, np.arange(60), 60)
            hits += found.lower <= truth <= found.upper
        assert hits / 400 >= 0.92


def test_images_of_one_patient_widen_it():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=40), 5)
    alone = quantile(values, 0.5, np.arange(200), 200)
    together = quantile(values, 0.5, np.repeat(np.arange(40), 5), 40)
    assert together.value == alone.value
    assert together.upper - together.lower > 1.5 * (alone.upper - alone.lower)


def test_what_is_not_measured_does_not_count_and_order_changes_nothing():
    values = np.array([3.0, np.nan, 1.0, 2.0])
    found = quantile(values, 0.5, np.arange(4), 4)
    assert found.value == 2.0
    again = quantile(values[::-1], 0.5, np.arange(4), 4)
    assert (again.lower, again.upper) == (found.lower, found.upper)


@pytest.mark.parametrize(
    ("values", "share", "said"),
    [([np.nan], 0.5, "finite value"), ([np.inf], 0.5, "infinite"), ([1.0], 1.0, "between 0 and 1")],
)
def test_what_has_no_quantile_is_refused(values, share, said):
    with pytest.raises(StatisticsError, match=said):
        quantile(values, share, np.arange(len(values)), len(values))
