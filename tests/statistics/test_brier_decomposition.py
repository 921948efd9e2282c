"""Parts of the Brier score with intervals: they hold the truth, calibrated or not, and are never certain."""

import numpy as np
import pytest
from scipy.special import expit

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.brier_decomposition import brier_estimates
from robustbench_rad.statistics.calibration_error import brier_parts

PARTS = ("score", "miscalibration", "discrimination", "uncertainty")


def sample(seed, n, shift=0.0, slope=1.0, images=1):
    rng = np.random.default_rng(seed)
    logits = 2 * np.repeat(rng.normal(size=n // images), images) - 1.5
    label = (rng.random(len(logits)) < expit(logits)).astype(float)
    return label, expit(shift + slope * logits), np.repeat(np.arange(n // images), images)


def estimates(label, p, patients=None, **more):
    index = np.arange(len(label)) if patients is None else patients
    return brier_estimates(label, p, index, int(np.max(index)) + 1, **{"seed": 0, "draws": 100, **more})


def truth(shift, slope):
    """Miscalibration, discrimination and uncertainty of the sampled population, from true probabilities."""
    logits = 2 * np.random.default_rng(9).normal(size=400_000) - 1.5
    p, prevalence = expit(logits), expit(logits).mean()
    return (
        ((expit(shift + slope * logits) - p) ** 2).mean(),
        ((p - prevalence) ** 2).mean(),
        prevalence * (1 - prevalence),
    )


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize("images", [1, 4])
def test_the_intervals_cover_the_truth(shift, slope, images):
    """Of a calibrated model too, whose miscalibration is 0 and always estimated above."""
    true = truth(shift, slope)
    covered = np.zeros(3)
    for seed in range(60):
        found = estimates(*sample([seed, images], 240, shift, slope, images))
        parts = (found.miscalibration, found.discrimination, found.uncertainty)
        covered += [part.lower <= value <= part.upper for part, value in zip(parts, true, strict=True)]
    assert (covered / 60 >= 0.85).all(), covered


def test_values_are_those_of_the_decomposition_and_add_up():
    label, p, patients = sample(1, 400, 0.5)
    found, parts = estimates(label, p, patients), brier_parts(label, p)
    for name in PARTS:
        part = getattr(found, name)
        assert part.value == pytest.approx(getattr(parts, name))
        assert 0 <= part.lower <= part.value <= part.upper <= 1
    assert found.score.value == pytest.approx(
        found.miscalibration.value - found.discrimination.value + found.uncertainty.value
    )


def test_a_calibrated_model_is_not_shown_to_be_miscalibrated_and_a_shifted_one_is():
    assert estimates(*sample(2, 1000)).miscalibration.lower == 0
    assert estimates(*sample(2, 1000, shift=1.5)).miscalibration.lower > 0.01


def test_order_does_not_matter_and_duplicates_add_nothing():
    label, p, patients = sample(3, 200)
    order = np.random.default_rng(0).permutation(200)
    one, other = estimates(label, p, patients), estimates(label[order], p[order], patients[order])
    twice = estimates(np.repeat(label, 2), np.repeat(p, 2), np.repeat(patients, 2))
    for name in PARTS:
        limits = [getattr(one, name).lower, getattr(one, name).upper]
        assert [getattr(other, name).lower, getattr(other, name).upper] == pytest.approx(limits, abs=1e-9)
        assert [getattr(twice, name).lower, getattr(twice, name).upper] == pytest.approx(limits, abs=1e-9)


@pytest.mark.parametrize(
    ("label", "p"),
    [
        (np.tile([1.0, 0.0], 20), np.tile([1.0, 0.0], 20)),
        (np.tile([1.0, 0.0], 20), np.full(40, 0.5)),
        (np.ones(40), np.full(40, 0.9)),
        (np.zeros(40), np.zeros(40)),
    ],
    ids=["perfect", "all tied", "one class", "nothing there and nothing said"],
)
def test_without_any_variation_nothing_is_certain(label, p):
    found = estimates(label, p)
    for name in PARTS:
        part = getattr(found, name)
        assert part.lower <= part.value <= part.upper
        assert part.upper > part.lower, name


def test_unknown_labels_are_left_out():
    label, p, patients = sample(4, 100)
    more = estimates(np.r_[label, np.nan], np.r_[p, np.nan], np.r_[patients, 0])
    assert more.score.value == pytest.approx(estimates(label, p, patients).score.value)


@pytest.mark.parametrize(
    ("label", "p", "message"),
    [
        ([1.0], [0.5], "two patients"),
        ([np.nan, np.nan], [0.5, 0.5], "two patients"),
        ([1.0, 0.0], [1.5, 0.5], "between 0 and 1"),
        ([1.0, 0.0], [np.nan, 0.5], "between 0 and 1"),
    ],
    ids=["n = 1", "no label", "no probability", "NaN"],
)
def test_bad_input_is_refused(label, p, message):
    with pytest.raises(StatisticsError, match=message):
        estimates(label, p)
