"""The ceiling of metadata: published and closed-form answers, noise that must not alarm, bad input."""

import numpy as np
import pytest
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.folds import patient_folds
from robustbench_rad.statistics.metadata_ceiling import metadata_auc


def of(label, columns, patients=None, seed=0):
    label = np.asarray(label, float)
    patients = np.arange(len(label)) if patients is None else patients
    return metadata_auc(label, columns, patients, int(patients.max()) + 1, seed=seed)


def test_zechs_two_hospitals_from_the_published_counts():
    """Pneumonia in 14,515 of 42,396 films of one hospital and 1,353 of 112,120 of the other: 0.861 on their test split."""
    label = np.repeat([1.0, 0, 1, 0], [14515, 42396 - 14515, 1353, 112120 - 1353])
    found = of(label, np.repeat([0, 1], [42396, 112120]))
    assert round(found.value, 3) == 0.857
    assert found.lower < 0.857 < found.upper


@pytest.mark.parametrize("turned", [False, True])
def test_a_binary_column_has_its_closed_form_whichever_value_is_which(turned):
    label = np.repeat([1.0, 0, 1, 0], [20, 80, 10, 90])
    site = np.repeat([0, 1], 100)
    found = of(label, 1 - site if turned else site)
    assert found.value == pytest.approx((1 + 2 / 3 - 80 / 170) / 2)
    assert found.lower <= found.value <= found.upper


@pytest.mark.parametrize("values", [2, 5, 20])
def test_a_column_of_noise_at_three_percent_prevalence_does_not_alarm(values):
    """Where a well-known tool compares with the wrong baseline, and every property of a rare disease alarms."""
    alarms, draws = 0, 150
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        label = np.repeat([1.0, 0.0], [30, 970])
        found = of(label, rng.integers(0, values, 1000), seed=seed)
        alarms += found.lower > 0.5
        assert found.value < 0.75
    assert alarms <= 0.05 * draws + 2 * np.sqrt(0.05 * 0.95 * draws)


def test_several_columns_of_noise_do_not_alarm_either():
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        label = (rng.random(400) < 0.15).astype(float)
        alarms += of(label, np.column_stack([rng.integers(0, k, 400) for k in (2, 5, 8)]), seed=seed).lower > 0.5
    assert alarms <= 6


def test_several_columns_reach_the_area_of_the_true_probability():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, 6000), rng.integers(0, 2, 6000)
    log_odds = -2 + 0.8 * a - b
    label = (rng.random(6000) < expit(log_odds)).astype(float)
    found = of(label, np.column_stack([a, b]))
    assert found.value == pytest.approx(auc(label, log_odds, np.arange(6000), 6000).value, abs=0.01)
    assert of(label, a).value < found.value


def test_images_of_a_patient_stay_in_one_fold_and_count_once():
    label = np.repeat([1.0, 0, 1, 0], [20, 80, 10, 90])
    site = np.repeat([0, 1, 2, 3], 50)
    patients = np.arange(200)
    once = of(label, site, patients)
    twice = of(np.tile(label, 2), np.tile(site, 2), np.tile(patients, 2))
    assert twice.value == pytest.approx(once.value, abs=0.02)
    assert twice.upper - twice.lower > 0.9 * (once.upper - once.lower)
    fold = patient_folds(np.tile(label, 2), np.tile(patients, 2), 5, seed=0)
    assert (fold[:200] == fold[200:]).all()


def test_unknown_labels_and_columns_that_do_not_vary_are_left_out():
    label = np.repeat([1.0, 0, 1, 0, np.nan], [20, 80, 10, 90, 50])
    site = np.repeat([0, 1, 5], [100, 100, 50])
    assert of(label, np.column_stack([site, np.zeros(250)])).value == pytest.approx(0.598, abs=1e-4)


@pytest.mark.parametrize(
    ("label", "columns", "said"),
    [
        (np.repeat([1.0, 0], [9, 100]), np.arange(109) % 2, "9 positives and 100 negatives: 10 of each"),
        (np.ones(40), np.arange(40) % 2, "40 positives and 0 negatives"),
        (np.repeat([1.0, 0], 20), np.zeros(40), "do not vary"),
        (np.repeat([1.0, 0], 20), np.full(40, np.nan), "whole numbers"),
        (np.repeat([1.0, 0], 20), np.arange(40) / 2, "whole numbers"),
        (np.repeat([1.0, 0], 20), np.arange(39), "40 rows"),
    ],
    ids=["few", "one class", "one value", "missing", "halves", "length"],
)
def test_bad_input_says_what_is_needed(label, columns, said):
    with pytest.raises(StatisticsError, match=said):
        of(label, columns)


def test_one_patient_has_no_folds():
    with pytest.raises(StatisticsError, match="more patients"):
        metadata_auc(np.repeat([1.0, 0], 20), np.arange(40) % 3, np.zeros(40, int), 1, seed=0)
