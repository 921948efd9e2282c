"""Recalibration: what it mends, what it may not see."""

import numpy as np
import pytest
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.calibration_error import brier_parts, squared_calibration_error
from robustbench_rad.statistics.recalibration import recalibrated

SITES = np.repeat(["A", "B"], 600)
PATIENTS = np.arange(1200) // 2


def sample(seed=0):
    """Site A is calibrated; at site B the model says log-odds 3 too high and twice too wide."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=1200) - 1
    labels = (rng.random(1200) < expit(true)).astype(float)
    return labels, np.where(SITES == "A", true, 2 * true + 3)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_recalibration_per_site_mends_the_site_that_needs_it(method):
    labels, logits = sample()
    mended = recalibrated(labels, logits, PATIENTS, 600, method=method, sites=SITES, seed=0)
    b = SITES == "B"
    before = squared_calibration_error(labels[b], expit(logits[b]), PATIENTS[b], 600)
    after = squared_calibration_error(labels[b], mended[b], PATIENTS[b], 600)
    assert before.lower > 0.01
    assert after.value < 0.2 * before.value
    assert brier_parts(labels[~b], mended[~b]).score < brier_parts(labels[~b], expit(logits[~b])).score + 0.01


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_patients_own_label_has_no_part_in_its_probability(method):
    labels, logits = sample(1)
    first = recalibrated(labels, logits, PATIENTS, 600, method=method, seed=0)
    # The whole patient is flipped to keep the patient's place in the deal: it has a positive before and after.
    chosen = next(i for i in range(600) if labels[2 * i : 2 * i + 2].sum() == 1)
    swapped = labels.copy()
    swapped[2 * chosen : 2 * chosen + 2] = 1 - labels[2 * chosen : 2 * chosen + 2]
    second = recalibrated(swapped, logits, PATIENTS, 600, method=method, seed=0)
    own = chosen == PATIENTS
    assert second[own] == pytest.approx(first[own])
    assert not np.allclose(second[~own], first[~own])


def test_separated_classes_have_a_fit():
    labels = np.tile([0.0, 1.0], 20)
    p = recalibrated(labels, 10 * labels - 5, range(40), 40, method="platt", seed=0)
    assert ((p > 0.5) == (labels == 1)).all()
    assert 0 < p.min() < p.max() < 1


def test_a_site_of_one_label_and_an_unknown_site_stay_unknown():
    labels, logits = sample(2)
    sites = SITES.copy()
    sites[:600] = np.where(labels[:600] == 0, "C", "")
    p = recalibrated(labels, logits, PATIENTS, 600, method="platt", sites=sites, seed=0)
    assert np.isnan(p[:600]).all()
    assert np.isfinite(p[600:]).all()


def test_constant_logits_give_about_the_prevalence():
    labels = np.r_[np.ones(30), np.zeros(70)]
    p = recalibrated(labels, np.zeros(100), range(100), 100, method="platt", seed=0)
    assert p == pytest.approx(0.3, abs=0.05)
    assert recalibrated(labels, np.zeros(100), range(100), 100, method="isotonic", seed=0) == pytest.approx(
        0.3, abs=0.05
    )


def test_unknown_labels_are_recalibrated_but_not_fitted_on():
    labels, logits = sample(3)
    labels[::7] = np.nan
    p = recalibrated(labels, logits, PATIENTS, 600, method="isotonic", seed=0)
    assert np.isfinite(p).all()


@pytest.mark.parametrize(
    "change",
    [{"method": "beta"}, {"folds": 1}, {"logits": [0.0, np.inf]}, {"sites": ["A"]}],
)
def test_refuses_what_it_is_not_defined_for(change):
    given = {"logits": [0.0, 1.0], "method": "platt", **change}
    with pytest.raises(StatisticsError, match="recalibration"):
        recalibrated([1, 0], given.pop("logits"), [0, 1], 2, seed=0, **given)
