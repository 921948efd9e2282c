"""Spearman within labels: known answers, its influence against the jackknife, coverage, bad input."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.permutation import trend_permutation_p
from robustbench_rad.statistics.rank_correlation import AUC_SCALE, conditional_spearman

RNG = np.random.default_rng(3)
N = 60
LABEL = np.repeat([1.0, 0.0], N // 2)
TRAIT = np.round(RNG.normal(size=N), 1)
SCORE = np.round(TRAIT + RNG.normal(size=N), 1)
ALONE = np.arange(N)


def test_it_is_the_mean_of_scipys_within_labels_of_equal_size():
    expected = np.mean([spearmanr(SCORE[y == LABEL], TRAIT[y == LABEL])[0] for y in (1, 0)])
    assert conditional_spearman(LABEL, SCORE, TRAIT, ALONE, N).value == pytest.approx(expected, abs=1e-12)


def test_of_two_equal_halves_it_is_the_distance_of_the_auc_from_a_half():
    half = np.tile([0.0, 1.0], 500)
    score = half * 0.4 + np.random.default_rng(0).normal(size=1000)
    label = np.repeat([1.0, 0.0], 500)
    found = conditional_spearman(label, score, half, np.arange(1000), 1000)
    auc = conditional_auc(label, score, half, np.arange(1000), 1000)
    assert found.value * AUC_SCALE == pytest.approx(auc.value - 0.5, rel=1e-3)
    assert found.standard_error * AUC_SCALE == pytest.approx(auc.standard_error, rel=0.02)


def test_its_clustered_variance_is_the_jackknifes():
    patients, label = np.arange(N) // 2, LABEL
    found = conditional_spearman(label, SCORE, TRAIT, patients, N // 2)
    without = [
        conditional_spearman(label[kept], SCORE[kept], TRAIT[kept], patients[kept], N // 2).value
        for kept in (patients != left_out for left_out in range(N // 2))
    ]
    jackknife = np.sqrt((N // 2 - 1) * np.var(without))
    assert found.standard_error == pytest.approx(jackknife, rel=0.06)


@pytest.mark.parametrize("rho", [0.0, 0.5])
@pytest.mark.parametrize("images", [1, 4])
def test_the_interval_covers_for_single_and_repeated_images(rho, images):
    rng, hits, draws = np.random.default_rng(7), 0, 200
    truth = 6 / np.pi * np.arcsin(rho / 2)
    for _ in range(draws):
        own, each = rng.normal(size=(2, 60, 1)), rng.normal(size=(2, 60, images))
        both = np.sqrt(0.6) * own + np.sqrt(0.4) * each
        score, trait = both[0].ravel(), (rho * both[0] + np.sqrt(1 - rho**2) * both[1]).ravel()
        label = np.repeat(rng.integers(0, 2, 60).astype(float), images)
        found = conditional_spearman(label, score, trait, np.repeat(np.arange(60), images), 60)
        hits += found.lower <= truth <= found.upper
    assert 0.91 <= hits / draws <= 1.0  # three standard errors below 0.95


def test_a_perfect_order_still_has_an_interval():
    found = conditional_spearman(np.ones(20), range(20), range(20), range(20), 20)
    assert found.value == 1
    assert 0.9 < found.lower < found.upper == 1 or found.lower < 1


def test_an_association_through_the_label_alone_is_none_within_it():
    rng = np.random.default_rng(4)
    label = np.tile([1.0, 0.0], 1000)
    found = conditional_spearman(
        label, 2 * label + rng.normal(size=2000), 2 * label + rng.normal(size=2000), np.arange(2000), 2000
    )
    assert found.lower < 0 < found.upper


def test_the_trend_p_is_uniform_without_dependence_and_least_with_it():
    rng = np.random.default_rng(5)
    found = [
        trend_permutation_p(LABEL, rng.normal(size=N), TRAIT, np.arange(N) // 2, N // 2, seed=seed, draws=99)
        for seed in range(200)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.10
    assert 0.4 < np.mean(found) < 0.6
    assert trend_permutation_p(LABEL, SCORE, TRAIT, ALONE, N, seed=0, draws=999) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.zeros(N)}, "no label in which"),
        ({"attribute": np.full(N, np.nan)}, "no label in which"),
        ({"attribute": np.full(N, np.inf)}, "finite"),
        ({"scores": np.full(N, np.nan)}, "no score"),
        ({"labels": LABEL[:5]}, "one length"),
        ({"patients": np.zeros(N, int)}, "no label in which"),
    ],
    ids=["constant", "missing", "infinite", "no score", "length", "one patient"],
)
def test_bad_input_says_what_is_wrong(change, said):
    given = {"labels": LABEL, "scores": SCORE, "attribute": TRAIT, "patients": ALONE, **change}
    with pytest.raises(StatisticsError, match=said):
        conditional_spearman(**given, n_patients=N)
