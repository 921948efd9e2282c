"""AUC: published values, oracles, invariances, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc, auc_difference, placements, rank
from robustbench_rad.statistics.estimate import covariance
from robustbench_rad.statistics.proportions import paired_difference, wilson
from robustbench_rad.statistics.resampling import bootstrap_auc


@pytest.mark.parametrize(
    ("marker", "area", "error"), [("albumin", 0.7366, 0.0927), ("protein", 0.6478, 0.1000), ("kg", 0.7258, 0.1028)]
)
def test_ovarian_areas_are_those_delong_published(ovarian, marker, area, error):
    e = auc(ovarian["label"], ovarian[marker], range(43), 43)
    assert (round(e.value, 4), round(e.standard_error, 4)) == (area, error)


@pytest.mark.parametrize(
    ("marker", "gap", "error", "p"), [("albumin", 0.0108, 0.0953, 0.910), ("protein", -0.0780, 0.1046, 0.456)]
)
def test_ovarian_paired_differences_are_those_delong_published(ovarian, marker, gap, error, p):
    e = auc_difference(ovarian["label"], ovarian[marker], ovarian["kg"], range(43), 43)
    assert (round(e.value, 4), round(e.standard_error, 4)) == (gap, error)
    assert round(2 * norm.sf(abs(e.value) / e.standard_error), 3) == p
    assert e.lower < e.value - 1.9 * e.standard_error
    assert e.upper > e.value + 1.9 * e.standard_error


def test_ovarian_joint_test_of_two_contrasts(ovarian):
    gaps = [auc_difference(ovarian["label"], ovarian[m], ovarian["kg"], range(43), 43) for m in ("albumin", "protein")]
    matrix = np.array([[covariance(a.influence, b.influence) for a in gaps] for b in gaps])
    value = np.array([e.value for e in gaps])
    statistic = value @ np.linalg.solve(matrix, value)
    assert round(statistic, 4) == 2.5340
    assert round(chi2.sf(statistic, 2), 4) == 0.2817


def test_small_example_by_hand():
    e = auc([1, 1, 1, 0, 0, 0], [3, 4, 5, 1, 2, 3.5], range(6), 6)
    assert e.value == pytest.approx(8 / 9)
    assert e.standard_error**2 == pytest.approx(2 / 81)


@pytest.mark.parametrize(("shift", "sd", "area"), [(1, 1, 0.76025), (1.3, 1, 0.82101), (1.5, 2, 0.74883)])
def test_binormal_area(shift, sd, area):
    assert ndtr(shift / np.sqrt(1 + sd * sd)) == pytest.approx(area, abs=5e-6)
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], 20_000)
    scores = np.where(labels == 1, rng.normal(shift, sd, 40_000), rng.normal(0, 1, 40_000))
    e = auc(labels, scores, np.arange(40_000), 40_000)
    assert e.value == pytest.approx(area, abs=0.008)
    assert e.method == "clustered DeLong, logit scale"


def test_binary_score_is_half_of_one_plus_youden():
    labels = np.repeat([1.0, 0.0], [20, 30])
    scores = np.r_[np.ones(15), np.zeros(5), np.ones(6), np.zeros(24)]
    assert auc(labels, scores, range(50), 50).value == pytest.approx((1 + 15 / 20 - 6 / 30) / 2)


def test_two_equal_sites_of_prevalence_fifth_and_tenth_are_worth_0598():
    site = np.repeat([1.0, 0.0], 1000)
    labels = np.r_[np.repeat([1.0, 0.0], [200, 800]), np.repeat([1.0, 0.0], [100, 900])]
    assert round(auc(labels, site, np.arange(2000), 2000).value, 4) == 0.5980


@pytest.mark.parametrize("positives", [1, 2, 10, 200])
def test_perfect_area_keeps_the_exact_bound_of_disjoint_pairs(positives):
    labels = np.repeat([1.0, 0.0], [positives, 300])
    e = auc(labels, labels, range(positives + 300), positives + 300)
    assert (e.value, e.upper) == (1, 1)
    assert e.lower == pytest.approx(0.025 ** (1 / positives))
    reverse = auc(labels, -labels, range(positives + 300), positives + 300)
    assert (reverse.value, reverse.lower) == (0, 0)
    assert reverse.upper == pytest.approx(1 - e.lower)


@pytest.mark.parametrize("count", [3, 400])
def test_all_tied_is_a_half_with_an_interval(count):
    labels = np.repeat([1.0, 0.0], count)
    e = auc(labels, np.zeros(2 * count), range(2 * count), 2 * count)
    assert e.value == 0.5
    assert e.lower < 0.5 < e.upper


def test_one_positive_and_one_negative():
    e = auc([1, 0], [2, 1], [0, 1], 2)
    assert (e.value, e.lower, e.upper) == (1, pytest.approx(0.025), 1)


def test_one_patient_with_both_labels_is_worth_one_pair():
    e = auc([1, 1, 0, 0], [3, 1, 2, 0], [0, 0, 0, 0], 1)
    assert e.value == 0.75
    assert (e.lower, e.upper) == pytest.approx(wilson(0.75, 1), abs=1e-6)
    assert not e.influence.any()


def test_patient_with_both_labels_counts_in_both():
    rng = np.random.default_rng(3)
    labels, scores = np.tile([1.0, 0.0], 60), rng.normal(size=120)
    common = np.repeat(rng.normal(size=60), 2)
    together = auc(labels, scores + 3 * common, np.repeat(np.arange(60), 2), 60)
    apart = auc(labels, scores + 3 * common, np.arange(120), 120)
    assert together.standard_error < 0.6 * apart.standard_error  # what a patient shares cancels in the comparison


def test_infinite_scores_rank():
    assert auc([1, 1, 0, 0], [np.inf, 1, 0, -np.inf], range(4), 4).value == 1


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_value_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = np.r_[1.0, 0.0, rng.integers(0, 2, 30).astype(float)]
    scores = rng.integers(0, 8, 32).astype(float)
    assert auc(labels, scores, range(32), 32).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_order_of_cases_duplicates_and_increasing_transforms_change_nothing(seed, copies):
    rng = np.random.default_rng(seed)
    patients = np.sort(rng.integers(0, 25, 60))
    labels = rng.integers(0, 2, 60).astype(float)
    labels[:2] = 0, 1
    scores = np.round(rng.normal(size=60) + labels, 1)
    e = auc(labels, scores, patients, 25)
    order = np.repeat(rng.permutation(60), copies)
    f = auc(labels[order], np.exp(scores[order]), patients[order], 25)
    assert (f.value, f.lower, f.upper) == pytest.approx((e.value, e.lower, e.upper), abs=1e-9)
    np.testing.assert_allclose(f.influence, e.influence, atol=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_swapping_labels_or_sign_mirrors_the_interval(binormal, seed):
    rng = np.random.default_rng(seed)
    labels, scores = binormal(rng, int(rng.integers(2, 80)), int(rng.integers(2, 80)))
    people = np.arange(labels.size)
    e, f = auc(labels, scores, people, labels.size), auc(labels, -scores, people, labels.size)
    g = auc(1 - labels, scores, people, labels.size)
    assert (f.value, f.lower, f.upper) == pytest.approx((1 - e.value, 1 - e.upper, 1 - e.lower), abs=1e-6)
    assert (g.value, g.lower, g.upper) == pytest.approx((f.value, f.lower, f.upper), abs=1e-9)


@given(st.integers(0, 10_000), st.floats(0.1, 3))
@settings(max_examples=25, deadline=None)
def test_a_positive_that_scores_more_never_lowers_the_area(binormal, seed, rise):
    rng = np.random.default_rng(seed)
    labels, scores = binormal(rng, 12, 20, area=0.7)
    higher = scores + rise * (np.arange(32) == 3)
    e = auc_difference(labels, higher, scores, range(32), 32)
    assert e.value >= 0
    assert e.lower <= e.value <= e.upper


def test_more_confidence_is_wider_in_every_method(binormal):
    rng = np.random.default_rng(1)
    for positives, negatives, area in ((8, 30, 0.8), (90, 90, 0.8), (90, 90, 0.99)):
        labels, scores = binormal(rng, positives, negatives, area)
        people = range(labels.size)
        narrow, wide = (auc(labels, scores, people, labels.size, confidence=c) for c in (0.9, 0.99))
        assert wide.lower < narrow.lower < narrow.value < narrow.upper
        assert wide.upper > narrow.upper or narrow.upper == 1


def test_influence_is_the_bootstrap_variance():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(150), 3)
    labels = (np.arange(150) < 50)[patients].astype(float)
    scores = rng.normal(size=150)[patients] + 0.5 * rng.normal(size=450) + labels
    e = auc(labels, scores, patients, 200)  # 50 patients of the audit are not used here
    assert e.influence.shape == (200,)
    assert not e.influence[150:].any()
    draws = bootstrap_auc(labels, scores, patients, 200, draws=1000, seed=0)
    assert e.standard_error == pytest.approx(np.nanstd(draws), rel=0.08)
    naive = auc(labels, scores, np.arange(450), 450)
    assert e.standard_error > 1.3 * naive.standard_error


def test_bootstrap_is_exact_against_weighted_scikit_learn():
    rng = np.random.default_rng(2)
    patients = rng.integers(0, 40, 200)
    labels = rng.integers(0, 2, 200).astype(float)
    scores = np.round(rng.normal(size=200) + labels, 1)
    used = np.unique(patients)
    replay = np.random.default_rng(9)
    for area in bootstrap_auc(labels, scores, patients, 40, draws=5, seed=9):
        count = np.zeros(40)
        np.add.at(count, used[replay.integers(0, len(used), len(used))], 1)
        assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=count[patients]), abs=1e-12)


@pytest.mark.parametrize("change", [lambda s: s.copy(), lambda s: 3 * s - 1, np.exp], ids=["equal", "linear", "exp"])
def test_unchanged_ranks_have_the_limits_of_no_event_in_as_many_disjoint_pairs(binormal, change):
    labels, scores = binormal(np.random.default_rng(0), 100, 300)
    e = auc_difference(labels, scores, change(scores), range(400), 400)
    bound = 1 - 0.025 ** (1 / 100)
    assert (e.value, e.lower, e.upper) == pytest.approx((0, -bound, bound), abs=1e-12)
    assert e.upper < 0.05  # 100 positives are enough for the usual tolerance
    assert not e.influence.any()


def test_unchanged_ranks_say_what_no_flip_says(binormal):
    labels, scores = binormal(np.random.default_rng(0), 40, 90)
    flips = paired_difference(scores > 0, scores > 0, labels == 1, range(130), 130)
    e = auc_difference(labels, scores, scores + 1, range(130), 130)
    assert (e.lower, e.upper) == pytest.approx((flips.lower, flips.upper))


def test_images_of_one_patient_count_once_where_no_rank_changed(binormal):
    labels, scores = binormal(np.random.default_rng(1), 30, 60)
    once = auc_difference(labels, scores, scores, range(90), 90)
    other = scores + 0.01 * np.arange(90)  # the other image of each patient, near the first
    twice = auc_difference(
        np.tile(labels, 2), np.r_[scores, other], np.r_[scores, other], np.tile(np.arange(90), 2), 90
    )
    assert twice.upper == pytest.approx(once.upper)


def test_two_perfect_areas_of_different_scores_may_still_differ():
    labels = np.repeat([1.0, 0.0], 8)
    e = auc_difference(labels, labels, 2 * labels + np.arange(16) / 100, range(16), 16)
    assert e.value == 0
    assert e.upper == pytest.approx(1 - 0.025 ** (1 / 8))
    assert e.lower == -e.upper


def test_a_ranking_turned_round_is_a_full_drop_without_variance():
    labels = np.repeat([1.0, 0.0], 12)
    e = auc_difference(labels, labels, -labels, range(24), 24)
    assert e.value == 1
    assert 0.5 < e.lower < 1 <= e.upper
    assert not e.influence.any()


@pytest.mark.parametrize("lost", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("clean", ["perfect", "equal", "monotone"])
def test_rare_losses_are_covered_also_by_samples_that_saw_none(clean, lost):
    rng = np.random.default_rng(int(1000 * lost))
    held, unseen, labels = 0, 0, np.repeat([1.0, 0.0], [12, 60])
    for _ in range(200):
        before = 20 * labels + rng.normal(size=72) if clean == "perfect" else 1.5 * labels + rng.normal(size=72)
        after = {"perfect": 20 * labels + rng.normal(size=72), "equal": before.copy(), "monotone": 2 * before + 1}[
            clean
        ]
        gone = (labels == 1) & (rng.random(72) < lost)
        after[gone] = -100.0
        e = auc_difference(labels, before, after, range(72), 72)
        held += e.lower <= lost * (1.0 if clean == "perfect" else 0.855578) <= e.upper
        unseen += not gone.any()
    assert held / 200 >= 0.93
    assert unseen > 0


def test_paired_difference_is_narrower_than_unpaired(binormal):
    rng = np.random.default_rng(4)
    labels, scores = binormal(rng, 80, 160)
    worse = scores + 0.4 * rng.normal(size=240) - 0.2 * labels
    people = np.arange(240)
    paired = auc_difference(labels, scores, worse, people, 240)
    a, b = auc(labels, scores, people, 240), auc(labels, worse, people, 240)
    assert paired.upper - paired.lower < 0.7 * np.hypot(a.upper - a.lower, b.upper - b.lower)


def test_unknown_labels_are_ignored_with_their_scores():
    e = auc([1, 0, np.nan, 1, 0], [2, 1, np.nan, 4, 3], [0, 1, 2, 3, 4], 5)
    assert e.value == pytest.approx(3 / 4)
    assert e.influence[2] == 0


def test_placements_are_the_share_below_and_above():
    scores, positive = np.array([3.0, 1, 2, 1]), np.array([True, True, False, False])
    np.testing.assert_allclose(placements(positive, scores), [1, 0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("labels", "scores", "patients", "message"),
    [
        ([1, 1], [1, 2], [0, 1], "both classes"),
        ([0, np.nan], [1, 2], [0, 1], "both classes"),
        ([], [], np.zeros(0, int), "both classes"),
        ([1, 0], [1, np.nan], [0, 1], "every known label"),
        ([1, 2], [1, 2], [0, 1], "1, 0 or NaN"),
        ([1, 0], [1], [0, 1], "shape"),
        ([1, 0], [1, 2], [0, 2], "0 to 1"),
        ([1, 0], [1, 2], [0.0, 1.0], "integers"),
        ([1, 0], [1, 2], [0], "shape"),
    ],
)
def test_refuses_what_it_is_not_defined_for(labels, scores, patients, message):
    with pytest.raises(StatisticsError, match=message):
        auc(labels, scores, patients, 2)


def test_refuses_impossible_confidence():
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        auc([1, 1, 0, 0], [1, 0, 1, 0], range(4), 4, confidence=1.0)


def test_effective_size_of_twins_is_the_number_of_patients():
    labels = np.repeat([1.0, 0.0], 40)
    scores = np.random.default_rng(0).normal(size=80)
    twins = rank(np.repeat(labels, 2), np.repeat(scores, 2), np.repeat(np.arange(80), 2), 80)
    assert (twins.positives, twins.negatives) == (pytest.approx(40), pytest.approx(40))


@pytest.mark.parametrize(("positives", "negatives", "area"), [(10, 40, 0.85), (15, 60, 0.97), (60, 60, 0.8)])
def test_coverage_of_the_area_and_of_the_drop(binormal, positives, negatives, area):
    rng = np.random.default_rng(11)
    rounds, held, drop_held = 250, 0, 0
    for _ in range(rounds):
        labels, scores = binormal(rng, positives, negatives, area)
        other = 0.8 * scores + 0.6 * rng.normal(size=scores.size)
        other += labels * (ndtri_gap(area - 0.05) - 0.8 * ndtri_gap(area))
        people = np.arange(scores.size)
        e = auc(labels, scores, people, scores.size)
        d = auc_difference(labels, scores, other, people, scores.size)
        held += e.lower <= area <= e.upper
        drop_held += d.lower <= 0.05 <= d.upper
    assert held / rounds >= 0.92
    assert drop_held / rounds >= 0.92


def ndtri_gap(area):
    return norm.ppf(area) * np.sqrt(2)
