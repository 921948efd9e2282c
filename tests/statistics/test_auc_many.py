"""Many columns at once give what one at a time gives, at the joint level."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc, auc_difference
from robustbench_rad.statistics.auc_many import auc_drops, aucs

N = 120
RNG = np.random.default_rng(0)
LABELS = (RNG.random((N, 4)) < 0.4).astype(float)
LABELS[RNG.random((N, 4)) < 0.1] = np.nan
PATIENTS = np.arange(N) // 2
SCORES = RNG.normal(size=(N, 4)) + np.nan_to_num(LABELS)


def limits(estimate):
    return estimate.value, estimate.lower, estimate.upper


def test_each_column_is_its_own_area_at_the_joint_level():
    many = aucs(LABELS, SCORES, PATIENTS, 60, seed=0)
    assert many.confidence > 0.95
    for place, estimate in enumerate(many.estimates):
        alone = auc(LABELS[:, place], SCORES[:, place], PATIENTS, 60, confidence=many.confidence)
        assert limits(estimate) == pytest.approx(limits(alone))


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, 0]], ids=["per finding", "one finding"])
def test_each_drop_is_the_paired_difference(labels):
    clean = SCORES[:, 0] if labels.ndim == 1 else SCORES
    altered = SCORES + 0.5 * RNG.normal(size=SCORES.shape)
    altered[:, 2] = SCORES[:, 0] if labels.ndim == 1 else SCORES[:, 2]
    many = auc_drops(labels, clean, altered, PATIENTS, 60, seed=0)
    for place, estimate in enumerate(many.estimates):
        truth = labels if labels.ndim == 1 else labels[:, place]
        before = clean if clean.ndim == 1 else clean[:, place]
        alone = auc_difference(truth, before, altered[:, place], PATIENTS, 60, confidence=many.confidence)
        assert limits(estimate) == pytest.approx(limits(alone))
    assert many.estimates[2].method == "exact bound, no pair changed"
    assert many.estimates[2].value == 0 < many.estimates[2].upper


def test_a_column_that_cannot_be_ranked_says_why_and_spares_the_others():
    labels = LABELS.copy()
    labels[:, 1] = 1.0
    scores = SCORES.copy()
    scores[np.flatnonzero(~np.isnan(LABELS[:, 3]))[0], 3] = np.nan
    many = aucs(labels, scores, PATIENTS, 60, seed=0)
    assert [e is None for e in many.estimates] == [False, True, False, True]
    assert "both classes" in many.reasons[1]
    assert "NaN" in many.reasons[3]


def test_repeated_columns_without_an_area_say_why_too():
    many = aucs(np.ones(N), np.repeat(SCORES[:, :1], 3, axis=1), PATIENTS, 60, seed=0)
    assert sorted(many.reasons) == [0, 1, 2]
    assert many.confidence == 0.95


@pytest.mark.parametrize(("labels", "scores"), [(LABELS[:, :2], SCORES), (LABELS[:5], SCORES), (LABELS, SCORES[:, 0])])
def test_refuses_shapes_that_do_not_fit(labels, scores):
    with pytest.raises(StatisticsError, match="do not fit"):
        aucs(labels, scores, PATIENTS, 60, seed=0)
