"""Pooled against within-value AUC and the re-weighted AUC: oracles, closed forms, coverage, bad input."""

import numpy as np
import pytest
from scipy.stats import norm

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.within_attribute import inflation, reweighted_auc, within_auc

D = np.sqrt(2) * norm.ppf(0.86)
SD = np.sqrt(1 + D**2 / 4)


def cases(seed, *, n=1000, r=0.7, b=0.5, images=1):
    """Score = evidence / SD + b * marker, AUC 0.86 without it; r = P(marker | positive) = 1 - P(marker | negative)."""
    rng, patients = np.random.default_rng(seed), np.repeat(np.arange(n // images), images)
    label = (rng.random(n // images) < 0.5).astype(float)[patients]
    marker = (rng.random(n // images) < np.where(label[::images] == 1, r, 1 - r)).astype(float)[patients]
    own = rng.normal(size=n // images)[patients]
    evidence = D * label + (own + rng.normal(size=len(label))) / np.sqrt(2) if images > 1 else D * label + own
    return label, evidence / SD + b * marker, marker, patients, n // images


def truth(r, b):
    """True pooled minus within-value AUC, and re-weighted AUC, of the normal score."""
    shares = {1.0: r, 0.0: 1 - r}
    area = {(u, v): norm.cdf((D + b * SD * (u - v)) / np.sqrt(2)) for u in shares for v in shares}
    pooled = sum(shares[u] * shares[1 - v] * area[u, v] for u, v in area)
    return pooled - area[0, 0], sum(area.values()) / 4


def test_the_reweighted_area_is_the_weighted_sum_over_all_pairs():
    label, score, marker, patients, n = cases(0, n=80)
    joint = {(a, y): np.mean((marker == a) & (label == y)) for a in (0, 1) for y in (0, 1)}
    weight = np.array(
        [np.mean(marker == a) * np.mean(label == y) / joint[a, y] for a, y in zip(marker, label, strict=True)]
    )
    up, down = label == 1, label == 0
    pairs = np.outer(weight[up], weight[down])
    wins = (score[up][:, None] > score[down]) + 0.5 * (score[up][:, None] == score[down])
    found = reweighted_auc(label, score, marker, patients, n)
    assert found.estimate.value == pytest.approx((pairs * wins).sum() / pairs.sum(), abs=1e-12)
    assert found.positives == pytest.approx(weight[up].sum() ** 2 / (weight[up] ** 2).sum())
    assert found.negatives == pytest.approx(weight[down].sum() ** 2 / (weight[down] ** 2).sum())


def test_the_difference_is_that_of_its_two_parts():
    label, score, marker, patients, n = cases(1, n=300)
    within = sum(
        np.mean(marker == value)
        * auc(label[marker == value], score[marker == value], patients[marker == value], n).value
        for value in (0, 1)
    )
    assert within_auc(label, score, marker, patients, n).value == pytest.approx(within)
    assert inflation(label, score, marker, patients, n).value == pytest.approx(
        auc(label, score, patients, n).value - within
    )


@pytest.mark.parametrize("images", [1, 3])
def test_the_influences_are_the_jackknifes(images):
    label, score, marker, patients, n = cases(2, n=240 * images, r=0.8, images=images)
    for estimator in (inflation, lambda *args: reweighted_auc(*args).estimate):
        found = estimator(label, score, marker, patients, n)
        without = [
            estimator(label[kept], score[kept], marker[kept], patients[kept], n).value
            for kept in (patients != one for one in range(n))
        ]
        assert found.standard_error == pytest.approx(np.sqrt((n - 1) * np.var(without)), rel=0.06)


@pytest.mark.parametrize(("n", "r", "b"), [(1000, 0.7, 0.5), (1000, 0.9, 0.5), (250, 0.9, 0.2), (250, 0.7, 0.0)])
def test_both_intervals_cover_the_closed_form(n, r, b):
    gap, weighted = truth(r, b)
    hits, draws = np.zeros(2), 120
    for seed in range(draws):
        given = cases(seed, n=n, r=r, b=b)
        pair = inflation(*given), reweighted_auc(*given).estimate
        hits += [e.lower <= t <= e.upper for e, t in zip(pair, (gap, weighted), strict=True)]
    assert (hits / draws >= 0.89).all()  # three standard errors below 0.95


@pytest.mark.parametrize(
    ("r", "b", "published"), [(0.7, 0.2, 0.09), (0.7, 0.5, 1.0), (0.7, 1.0, 1.0), (0.9, 0.2, 0.78), (0.9, 0.5, 1.0)]
)
def test_the_estimate_exceeds_the_tolerance_as_often_as_was_measured_on_phantoms(r, b, published):
    """Share of point estimates above 0.02 at n = 1000; the phantoms' 24 replicates have a standard error of up to 0.10."""
    found = np.mean([inflation(*cases(seed, r=r, b=b)).value > 0.02 for seed in range(60)])
    assert found == pytest.approx(published, abs=0.2)


@pytest.mark.parametrize(
    ("r", "b", "published"),
    [(0.7, 0.0, 0.0), (0.7, 0.2, 1.0), (0.7, 0.5, 1.0), (0.9, 0.2, 0.52), (0.9, 0.5, 1.0), (0.5, 0.5, 1.0)],
)
def test_dependence_within_labels_alarms_as_often_as_was_measured_on_phantoms(r, b, published):
    """At n = 1000 and a one-sided level of 0.01; it sees a marker that does not go with the label too."""
    found = [conditional_auc(*cases(seed, r=r, b=b), confidence=0.98) for seed in range(60)]
    assert np.mean([not e.lower <= 0.5 <= e.upper for e in found]) == pytest.approx(published, abs=0.25)


def test_a_fair_score_on_confounded_data_seldom_fails_and_a_strong_shortcut_mostly():
    fair = np.mean([inflation(*cases(seed, r=0.9, b=0)).lower > 0.02 for seed in range(200)])
    strong = np.mean([inflation(*cases(seed, r=0.9, b=0.5)).lower > 0.02 for seed in range(60)])
    assert fair <= 0.05
    assert strong > 0.7


def test_weights_draw_nothing_twice():
    """Duplicated images of the same patients leave the interval as it was."""
    label, score, marker, patients, n = cases(3, n=400)
    once = reweighted_auc(label, score, marker, patients, n).estimate
    twice = reweighted_auc(*(np.tile(part, 2) for part in (label, score, marker, patients)), n).estimate
    assert twice.value == pytest.approx(once.value)
    assert twice.standard_error == pytest.approx(once.standard_error)


def test_two_perfect_values_still_have_an_interval():
    label = np.tile([1.0, 0.0], 40)
    found = inflation(label, label, np.repeat([0, 1], 40), np.arange(80), 80)
    assert found.value == 0
    assert found.lower < 0 < found.upper
    assert reweighted_auc(label, label, np.repeat([0, 1], 40), np.arange(80), 80).estimate.lower < 0.99


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codes": np.zeros(20)}, "two values"),
        ({"codes": np.full(20, np.nan)}, "two values"),
        ({"codes": np.tile([1.0, 0.0], 10)}, "one label only"),
        ({"scores": np.full(20, np.nan)}, "no score"),
        ({"labels": np.ones(19)}, "one length"),
    ],
    ids=["one value", "missing", "value is the label", "no score", "length"],
)
def test_bad_input_says_what_is_wrong(change, said):
    given = {"labels": np.tile([1.0, 0.0], 10), "scores": np.arange(20.0), "codes": np.repeat([0, 1], 10), **change}
    for estimator in (inflation, within_auc, reweighted_auc):
        with pytest.raises(StatisticsError, match=said):
            estimator(**given, patients=np.arange(20), n_patients=20)
