"""Numbers from source documents and closed forms that no single estimator owns."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, matthews_corrcoef, roc_auc_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc, auc_difference
from robustbench_rad.statistics.calibration import brier, predictive_values
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.gaps import rate_gap
from robustbench_rad.statistics.power import two_proportion_power, two_proportion_size
from robustbench_rad.statistics.proportions import (
    clopper_pearson,
    mcnemar,
    paired_difference,
    proportion,
    tango,
    wilson,
)
from robustbench_rad.statistics.resampling import bootstrap_auc


def test_waterfall_leaves_sixty_six_positives_and_what_they_can_say():
    stages = np.cumprod([377_110, 0.65, 0.03, 0.47, 0.16, 0.30, 0.40])
    assert stages[1:].round(1).tolist() == [245_121.5, 7_353.6, 3_456.2, 553.0, 165.9, 66.4]
    assert round(stages[-1], 2) == 66.36
    half_width = normal_quantile(0.95) * math.sqrt(0.85 * 0.15 / 66)
    assert half_width == pytest.approx(0.08615, abs=5e-6)
    assert wilson(0.85, 66) == pytest.approx((0.7448, 0.9167), abs=5e-5)


def test_sixty_six_per_group_hardly_see_a_fall_from_085_to_075():
    assert round(two_proportion_power(0.85, 0.75, 66), 4) == 0.2988
    assert round(two_proportion_power(0.85, 0.75, 66, alpha=0.005), 4) == 0.0835


def test_the_arcsine_approximation_asks_for_a_few_less():
    """What power tools print that go by Cohen's h, as statsmodels' NormalIndPower does: 247.6 for our 249.98."""
    effect = 2 * (math.asin(math.sqrt(0.85)) - math.asin(math.sqrt(0.75)))
    arcsine = 2 * ((normal_quantile(0.95) + norm.ppf(0.8)) / effect) ** 2
    assert arcsine == pytest.approx(247.6, abs=0.05)
    assert two_proportion_size(0.85, 0.75) == pytest.approx(249.98, abs=0.005)


def test_a_nodule_is_a_millionth_of_a_chest():
    """Spheres of 5 and 3 mm among 512 x 512 x 320 voxels of 0.7 x 0.7 x 1 mm: by the formula, and counted."""
    voxel = np.array([1.0, 0.7, 0.7])
    axes = np.meshgrid(*[(np.arange(n) - n // 2) * mm for n, mm in zip((9, 13, 13), voxel, strict=True)], indexing="ij")
    for diameter, voxels, share in ((5.0, 133.6, 1.592e-6), (3.0, 28.9, 3.44e-7)):
        volume = math.pi / 6 * diameter**3
        assert volume / voxel.prod() == pytest.approx(voxels, abs=0.05)
        assert volume / voxel.prod() / 83_886_080 == pytest.approx(share, rel=1e-3)
        counted = (sum(axis**2 for axis in axes) <= (diameter / 2) ** 2).sum()
        assert counted == pytest.approx(voxels, rel=0.15)
    assert math.pi / 6 * 5.0**3 == pytest.approx(65.45, abs=0.005)


def test_the_hospital_alone_ranks_pneumonia_as_zech_found():
    """Prevalences of 34.2 % among 42,396 and 1.2 % among 112,120 films: the hospital as the score; 0.861 on the test split."""
    sizes, prevalences = np.array([42_396, 112_120]), np.array([0.342, 0.012])
    positives = (sizes * prevalences).round().astype(int)
    hospital = np.repeat([1.0, 0.0], sizes)
    labels = np.concatenate([np.arange(n) < k for n, k in zip(sizes, positives, strict=True)]).astype(float)
    closed = (1 + positives[0] / positives.sum() - (sizes - positives)[0] / (sizes - positives).sum()) / 2
    assert round(closed, 3) == 0.857
    assert auc(labels, hospital, np.arange(len(labels)), len(labels)).value == pytest.approx(closed)


def test_confusion_table():
    tn, fp, fn, tp = 80, 10, 5, 5
    truth = np.repeat([0, 0, 1, 1], [tn, fp, fn, tp])
    called = np.repeat([0, 1, 0, 1], [tn, fp, fn, tp])
    assert confusion_matrix(truth, called).ravel().tolist() == [tn, fp, fn, tp]
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    ppv, npv = predictive_values(sensitivity, specificity, (tp + fn) / 100)
    found = [(tp + tn) / 100, specificity, sensitivity, ppv, npv, 2 * ppv * sensitivity / (ppv + sensitivity)]
    assert [round(x, 4) for x in found] == [0.85, 0.8889, 0.5, 0.3333, 0.9412, 0.4]
    assert round((sensitivity + specificity) / 2, 4) == 0.6944
    assert round(matthews_corrcoef(truth, called), 4) == 0.3267
    assert roc_auc_score(truth, called) == pytest.approx((1 + sensitivity - (1 - specificity)) / 2)
    limits = [*wilson(sensitivity, 10), *wilson(specificity, 90), *wilson(ppv, 15), *clopper_pearson(5, 10)]
    assert [round(x, 4) for x in limits] == [0.2366, 0.7634, 0.8074, 0.9385, 0.1518, 0.5829, 0.1871, 0.8129]


def test_binormal_sensitivity_at_a_specificity():
    distance = 1.5
    assert norm.sf(norm.ppf(0.9) - distance) == pytest.approx(0.58646, abs=5e-6)
    assert norm.cdf(distance / math.sqrt(2)) == pytest.approx(0.85558, abs=5e-6)
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], 20_000)
    scores = rng.normal(size=40_000) + distance * labels
    called = scores > np.quantile(scores[labels == 0], 0.9)
    e = proportion(called, labels == 1, range(40_000), 40_000)
    assert e.value == pytest.approx(0.58646, abs=0.015)
    assert auc(labels, scores, range(40_000), 40_000).value == pytest.approx(0.85558, abs=0.01)


def test_an_additive_normal_score_without_marker_weight_knows_nothing_of_the_marker():
    """Donor AUC of score a x + b m: only b counts, and it is ½ exactly at b = 0."""

    def donor(weight, spread=1.0):
        return norm.cdf(weight / (spread * math.sqrt(2)))

    assert donor(0.0) == 0.5
    rng = np.random.default_rng(1)
    marker = np.repeat([1.0, 0.0], 20_000)
    for weight in (0.0, 0.5):
        scores = rng.normal(size=40_000) + weight * marker
        assert auc(marker, scores, range(40_000), 40_000).value == pytest.approx(donor(weight), abs=0.01)


def test_zero_events():
    for n, bound in ((59, 0.0495), (299, 0.00997)):
        assert 1 - 0.05 ** (1 / n) == pytest.approx(bound, abs=5e-5)
        assert clopper_pearson(0, n, confidence=0.9)[1] == pytest.approx(1 - 0.05 ** (1 / n))


def test_paired_intervals_and_test_agree_where_they_should():
    """Newcombe, Tango and McNemar on one table; the test says 'different' where the intervals leave out 0."""
    for lost, gained, pairs in ((15, 2, 100), (8, 6, 100), (30, 10, 400)):
        first = np.r_[np.ones(lost), np.zeros(gained), np.ones(pairs - lost - gained)] == 1
        second = np.r_[np.zeros(lost), np.ones(gained), np.ones(pairs - lost - gained)] == 1
        e = paired_difference(first, second, np.ones(pairs, bool), range(pairs), pairs)
        score = tango(lost, gained, pairs)
        assert (e.lower > 0) == (score[0] > 0) == (mcnemar(lost, gained) < 0.05)


@pytest.mark.parametrize(("p", "value"), [(0.0, 0.5), (1.0, 0.5)])
def test_probabilities_of_exactly_zero_and_one_are_probabilities(p, value):
    assert brier([1, 0], [p, p], [0, 1], 2).value == value


def test_nan_margins_are_refused_not_dropped():
    labels, scores = [1.0, 0.0, 1.0, 0.0], [0.3, np.nan, 0.2, 0.1]
    for call in (
        lambda: auc(labels, scores, range(4), 4),
        lambda: auc_difference(labels, [0.3, 0.1, 0.2, 0.1], scores, range(4), 4),
        lambda: bootstrap_auc(labels, scores, range(4), 4, draws=2, seed=0),
    ):
        with pytest.raises(StatisticsError, match=r"NaN|score for every"):
            call()


def test_a_subgroup_without_positives_still_has_a_specificity():
    labels = np.r_[np.ones(20), np.zeros(40)]
    groups = ["A"] * 40 + ["B"] * 20
    called = np.r_[np.ones(20), np.zeros(30), np.ones(10)] == 1
    gap = rate_gap(labels, called, groups, range(60), 60, seed=0)
    assert gap.largest.quantity == "specificity"
    assert "no case" in gap.unknown["sensitivity B"]


def test_a_patient_with_both_labels_in_every_estimator():
    labels, patients = np.tile([1.0, 0.0], 30), np.repeat(np.arange(30), 2)
    own = np.random.default_rng(2).normal(size=30)[patients]
    scores = own + 0.8 * labels
    within = auc(labels, scores, patients, 30)
    apart = auc(labels, scores, np.arange(60), 60)
    assert within.value == apart.value
    assert within.standard_error < apart.standard_error  # what a patient's images share cancels
    assert np.nanstd(bootstrap_auc(labels, scores, patients, 30, draws=400, seed=0)) == pytest.approx(
        within.standard_error, rel=0.25
    )
    assert 0 < brier(labels, expit(scores), patients, 30).value < 1
