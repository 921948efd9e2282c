"""Effects in units of the score's spread, what exceeds a placebo, flips and sign flips: known answers and coverage."""

import numpy as np
import pytest
from scipy import stats

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.paired_effect import beyond_placebo, flip_difference, sign_flip_p, standardised_effect
from robustbench_rad.statistics.proportions import tango

RNG = np.random.default_rng(1)


def test_with_one_image_per_patient_and_a_fixed_spread_it_is_the_paired_t_interval():
    """Scores that do not go with the changes, of a spread known exactly but for 1 / sqrt(2 n)."""
    scores = np.tile([-2.0, 2.0], 50)
    changes = RNG.normal(0.6, 1.0, 100)
    found = standardised_effect(changes, scores, range(100), 100)
    expected = stats.ttest_1samp(changes / 2.0, 0.0).confidence_interval(0.95)
    assert (found.value, found.lower, found.upper) == pytest.approx((changes.mean() / 2, *expected), abs=1e-9)


def test_a_constant_change_varies_only_by_the_spread():
    scores = RNG.normal(0, 3, 400)
    found = standardised_effect(np.full(400, 1.5), scores, range(400), 400)
    assert found.value == pytest.approx(1.5 / scores.std())
    assert found.standard_error == pytest.approx(found.value / np.sqrt(2 * 400), rel=0.15)  # of log SD of normal scores


def test_duplicated_images_of_the_same_patients_change_nothing():
    scores, changes = RNG.normal(size=60), RNG.normal(0.3, 0.5, 60)
    once = standardised_effect(changes, scores, range(60), 60)
    twice = standardised_effect(np.tile(changes, 2), np.tile(scores, 2), np.tile(range(60), 2), 60)
    assert (twice.value, twice.lower, twice.upper) == pytest.approx((once.value, once.lower, once.upper))


def test_coverage_is_nominal_with_several_images_per_patient():
    held, truth = 0, 0.2
    for seed in range(300):
        rng = np.random.default_rng(seed)
        patients = np.repeat(np.arange(60), 3)
        shared = rng.normal(size=60)[patients]
        scores = 2.0 * (shared + rng.normal(size=180)) / np.sqrt(2)
        changes = 2.0 * truth + 0.5 * shared + 0.5 * rng.normal(size=180)
        found = standardised_effect(changes, scores, patients, 60)
        held += found.lower <= truth <= found.upper
    assert 0.92 <= held / 300 <= 0.98


def test_where_nothing_moved_the_effect_is_exactly_none_and_the_method_says_how_sure():
    found = standardised_effect(np.zeros(50), RNG.normal(size=50), range(50), 50)
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 0.0)
    assert "7.11%" in found.method


@pytest.mark.parametrize(
    ("changes", "scores", "reason"),
    [
        ([1.0, 2.0], [3.0, 3.0], "do not vary"),
        ([1.0, np.nan], [3.0, 4.0], "two patients or more, got 1"),
        ([np.nan, np.nan], [3.0, 4.0], "two patients or more, got 0"),
        ([1.0, np.inf], [3.0, 4.0], "1 infinite"),
    ],
)
def test_an_effect_that_is_not_defined_says_why(changes, scores, reason):
    with pytest.raises(StatisticsError, match=reason):
        standardised_effect(changes, scores, [0, 1], 2)


def exactly(value):
    return lambda confidence: Estimate(
        value=value, lower=value, upper=value, confidence=confidence, influence=np.ones(2)
    )


@pytest.mark.parametrize(
    ("real", "placebo", "expected"),
    [
        (0.5, 0.0, 0.5),
        (-0.5, 0.0, 0.5),
        (0.5, 0.2, 0.3),
        (0.5, 0.7, 0.0),  # the placebo does more of the same
        (-0.5, -0.2, 0.3),
        (-0.5, -0.7, 0.0),
        (0.5, -0.4, 0.5),  # the placebo does the opposite: only what the object does itself counts
        (-0.5, 0.4, 0.5),
        (0.0, 0.8, 0.0),  # only the placebo moves the score
    ],
)
def test_what_exceeds_the_placebo_lies_outside_of_everything_between_none_and_it(real, placebo, expected):
    found = beyond_placebo(exactly(real), exactly(real - placebo))
    assert (found.value, found.lower, found.upper) == pytest.approx((expected,) * 3)


def test_the_upper_limit_is_made_at_half_the_error_and_the_lower_at_all():
    def made(confidence):
        return Estimate(value=0.5, lower=0.5 - confidence, upper=0.5 + confidence, confidence=confidence)

    found = beyond_placebo(made, made, confidence=0.9)
    assert (found.lower, found.upper) == pytest.approx((0.0, 1.45))  # 0.5 - 0.9 lies below none


def test_wrong_passes_and_wrong_failures_stay_below_the_error_where_object_and_placebo_are_at_the_margin():
    """True o = 0.2 and o - p = 0.2, independent: the hardest point of both limits."""
    wrong = np.zeros(2)
    for seed in range(2000):
        draws = np.random.default_rng(seed).normal(0.2, 0.05, 2)

        def made(confidence, value):
            half = stats.norm.ppf((1 + confidence) / 2) * 0.05
            return Estimate(value=value, lower=value - half, upper=value + half, confidence=confidence)

        found = beyond_placebo(lambda c, v=draws[0]: made(c, v), lambda c, v=draws[1]: made(c, v))
        wrong += found.lower > 0.2, found.upper < 0.2
    assert (wrong / 2000 <= 0.035).all()


def test_flips_with_one_image_per_patient_have_tangos_interval():
    first = np.r_[np.ones(6, bool), np.zeros(60, bool)]
    second = np.r_[np.zeros(5, bool), np.ones(2, bool), np.zeros(59, bool)]
    found = flip_difference(first, second, np.ones(66, bool), range(66), 66)
    assert found.value == pytest.approx(4 / 66)
    assert (found.lower, found.upper) == pytest.approx(tango(5, 1, 66))


def test_flips_that_both_do_or_neither_have_an_exact_bound():
    none = np.zeros(72, bool)
    found = flip_difference(none, none, ~none, range(72), 72)
    assert (found.value, found.upper) == pytest.approx((0.0, 0.0500), abs=1e-3)
    assert found.method.startswith("Clopper-Pearson")


def test_flips_of_clustered_images_are_no_narrower_than_those_of_their_patients():
    first = np.r_[np.ones(6, bool), np.zeros(34, bool)]
    none = np.zeros(40, bool)
    once = flip_difference(first, none, ~none, range(40), 40)
    twice = flip_difference(np.tile(first, 2), np.tile(none, 2), np.ones(80, bool), np.tile(range(40), 2), 40)
    assert twice.value == once.value
    assert twice.upper - twice.lower >= 0.95 * (once.upper - once.lower)


def test_sign_flips_are_exact_for_few_patients_and_uniform_without_an_effect():
    assert sign_flip_p([1.0, -1.0], [0, 0], 1, seed=0) == 1.0  # one patient whose images cancel
    assert sign_flip_p(np.ones(10), range(10), 10, seed=0) == pytest.approx(2 / 1024)
    values = [
        sign_flip_p(np.random.default_rng(s).normal(size=30), range(30), 30, seed=s, draws=200) for s in range(200)
    ]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_sign_flips_keep_the_images_of_a_patient_together():
    patients = np.repeat(np.arange(8), 50)
    changes = np.random.default_rng(5).normal(size=8)[patients] + 0.01 * np.random.default_rng(6).normal(size=400)
    assert sign_flip_p(changes, patients, 8, seed=0) > 0.05
    assert sign_flip_p(changes, np.arange(400), 400, seed=0) < 0.05 or abs(changes.mean()) < 0.05


def test_sign_flips_without_a_change_at_hand_are_refused():
    with pytest.raises(StatisticsError, match="expected finite changes"):
        sign_flip_p([np.nan], [0], 1, seed=0)
