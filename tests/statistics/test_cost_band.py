"""The cost curve: equal to the cost by hand at every threshold, and a band that covers all of it."""

import numpy as np
import pytest
from scipy.special import ndtr

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.cost_band import band_thresholds, cost_band
from robustbench_rad.statistics.operating_point import Costs, cost_curve

COSTS = Costs(miss=20, false_alarm=1)


def sample(seed, n=400, images=1):
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 5 == 0).astype(float)
    rows = np.repeat(np.arange(n), images)
    return label[rows], (rng.normal(size=n) + 2 * label - 1)[rows], rows


def band(label, margin, patients, thresholds, **given):
    options = {"prevalence": 0.03, "costs": COSTS, "seed": 0, **given}
    return cost_band(label, margin, patients, int(np.max(patients)) + 1, thresholds=thresholds, **options)


def test_values_are_those_of_the_whole_curve():
    label, margin, patients = sample(0)
    curve = cost_curve(label, margin, 0.03, COSTS)
    at = band_thresholds(label, margin)
    expected = [curve.costs[np.searchsorted(curve.thresholds, threshold)] for threshold in at]
    assert [cost.value for cost in band(label, margin, patients, at)] == pytest.approx(expected)


def test_the_band_covers_the_true_curve_at_all_thresholds_together():
    at = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    true = 0.03 * 20 * ndtr(at - 1) + 0.97 * (1 - ndtr(at + 1))
    held = [
        all(cost.lower <= value <= cost.upper for cost, value in zip(band(*sample(seed), at), true, strict=True))
        for seed in range(200)
    ]
    assert np.mean(held) >= 0.93


def test_the_band_is_wider_than_one_interval_and_holds_it():
    label, margin, patients = sample(1)
    alone, (first, _) = band(label, margin, patients, [0.0])[0], band(label, margin, patients, [0.0, 1.5])
    assert first.lower < alone.lower < alone.upper < first.upper
    assert alone.confidence == 0.95


def test_duplicated_images_and_their_order_change_nothing():
    one, twice = sample(2), sample(2, images=2)
    order = np.random.default_rng(0).permutation(len(twice[0]))
    at = band_thresholds(*one[:2])
    assert band_thresholds(*twice[:2]).tolist() == at.tolist()
    limits = [(cost.lower, cost.upper) for cost in band(*one, at)]
    again = [(cost.lower, cost.upper) for cost in band(*(part[order] for part in twice), at)]
    assert np.array(again) == pytest.approx(np.array(limits), abs=1e-9)


def test_a_threshold_beyond_every_margin_still_has_two_limits():
    label, margin, patients = sample(3)
    none, every = band(label, margin, patients, [99.0, -99.0])
    assert (none.value, every.value) == pytest.approx((0.6, 0.97))
    assert none.lower < none.value
    assert every.lower < every.value


@pytest.mark.parametrize(
    ("label", "margin"), [([1, 1], [0, 1]), ([1, 0], [0, np.nan]), ([1, 0], [0, np.inf]), ([], []), ([np.nan], [1])]
)
def test_refuses_what_has_no_curve(label, margin):
    with pytest.raises(StatisticsError, match="both classes and a finite margin"):
        band_thresholds(label, margin)
