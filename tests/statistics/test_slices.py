"""Slices found on one half of the patients and tested on the other: planted ones are found, chosen noise is not believed."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.slices import SLICES, k_means, nearest, worst_slice


def planted(seed, *, n=400, drop=0.5):
    """Five clusters of features; the first has a lower share of successes."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, SLICES, n)
    features = 6 * rng.normal(size=(SLICES, 12))[cluster] + rng.normal(size=(n, 12))
    success = rng.random(n) < np.where(cluster == 0, 0.85 - drop, 0.85)
    return features, success, np.ones(n, bool), np.arange(n), n, cluster


def test_a_planted_slice_is_found_and_confirmed():
    *given, cluster = planted(0)
    found = worst_slice(*given, seed=1)
    assert found.gap.lower > 0.1
    assert np.mean(found.members == (cluster == 0)) > 0.95
    assert found.gap.value == pytest.approx(found.outside.value - found.inside.value)


def test_the_halves_hold_different_patients():
    features, success, valid, _, _, _ = planted(1)
    patients = np.arange(400) // 4
    found = worst_slice(features, success, valid, patients, 100, seed=0)
    assert not set(patients[found.tested]) & set(patients[~found.tested])
    assert 80 < found.tested.sum() < 320


def test_a_slice_that_was_chosen_for_being_low_is_not_believed_for_it():
    """Without any slice the chosen half shows a gap by the choice alone, the other half does not."""
    chosen, tested, alarms, draws = [], [], 0, 150
    for seed in range(draws):
        *given, _ = planted(seed, n=300, drop=0.0)
        found = worst_slice(*given, seed=seed)
        chosen.append(found.chosen_gap)
        tested.append(found.gap.value)
        alarms += found.gap.lower > 0
    assert np.mean(chosen) > 0.05
    assert abs(np.mean(tested)) < 0.02
    assert alarms <= 0.05 * draws + 2 * np.sqrt(0.05 * 0.95 * draws)


def test_cases_without_features_or_validity_take_no_part():
    features, success, valid, patients, n, _ = planted(2)
    features[:50] = np.nan
    valid = valid & (np.arange(n) < 350)
    found = worst_slice(features, success, valid, patients, n, seed=0)
    assert not found.members[:50].any()
    assert not found.members[350:].any()
    assert not found.tested[:50].any()


def test_features_that_do_not_vary_are_no_trouble():
    features, success, valid, patients, n, _ = planted(3)
    features[:, 3] = 7.0
    assert worst_slice(features, success, valid, patients, n, seed=0).gap.lower > 0


def test_centres_are_means_of_what_is_nearest():
    points = np.random.default_rng(0).normal(size=(200, 3))
    centres = k_means(points, 4, seed=0)
    group = nearest(points, centres)
    for number in range(4):
        np.testing.assert_allclose(points[group == number].mean(axis=0), centres[number], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": np.zeros((400, 0))}, "expected features"),
        ({"features": np.zeros((399, 4))}, "expected features"),
        ({"features": np.full((400, 4), np.nan)}, "0 cases in two halves"),
        ({"valid": np.arange(400) < 30}, "30 cases in two halves of the patients, 40 or more"),
        ({"features": np.zeros((400, 4))}, "none has 10 cases"),
    ],
    ids=["no features", "length", "missing", "few", "all alike"],
)
def test_what_cannot_be_told_says_what_is_needed(change, said):
    names = ("features", "successes", "valid", "patients", "n_patients")
    given = dict(zip(names, planted(4), strict=False))
    with pytest.raises(StatisticsError, match=said):
        worst_slice(**{**given, **change}, seed=0)
