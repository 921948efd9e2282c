"""Joint level between one comparison and Bonferroni; Holm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.multiplicity import Family, holm, joint_confidence


def rows(comparisons, patients=60, common=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.sqrt(common) * rng.normal(size=patients) + np.sqrt(1 - common) * rng.normal(size=(comparisons, patients))


def test_one_comparison_needs_no_correction():
    assert joint_confidence(rows(1), 0.9, seed=0) == 0.9


def test_independent_comparisons_come_near_sidak():
    assert joint_confidence(np.eye(200)[:10], 0.95, seed=3, draws=20_000) == pytest.approx(0.95**0.1, abs=7e-4)


def test_comparisons_that_move_together_cost_little():
    apart, together = joint_confidence(rows(20), seed=0), joint_confidence(rows(20, common=0.95), seed=0)
    assert 0.95 <= together < 0.988
    assert 0.996 < apart <= 1 - 0.05 / 20


@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.5, 0.99))
@settings(max_examples=25, deadline=None)
def test_between_single_and_bonferroni_and_never_lower_with_more(comparisons, seed, confidence):
    table = rows(comparisons, seed=seed)
    level = joint_confidence(table, confidence, seed=1, draws=300)
    assert confidence <= level <= 1 - (1 - confidence) / comparisons
    assert joint_confidence(table[:-1], confidence, seed=1, draws=300) <= level + 1e-12


def test_scale_sign_and_order_change_nothing():
    table = rows(4)
    changed = -3 * table[[2, 0, 3, 1]]
    assert joint_confidence(changed, seed=7) == pytest.approx(joint_confidence(table, seed=7), abs=1e-6)


def test_exact_comparisons_share_the_error_among_their_one_limit_each():
    nothing = np.zeros((0, 60))
    assert [joint_confidence(nothing, seed=0, exact=count) for count in (0, 1, 2)] == [0.95] * 3
    assert joint_confidence(nothing, seed=0, exact=10) == pytest.approx(0.99)
    assert joint_confidence(np.zeros((10, 60)), seed=0) == joint_confidence(nothing, seed=0, exact=10)


def test_exact_and_varying_comparisons_add_up_to_the_error_allowed():
    table = rows(6, common=0.5)
    level = joint_confidence(table, seed=3, exact=4)
    assert joint_confidence(table, seed=3) < level < 1 - 0.05 / (6 + 4 / 2)
    assert joint_confidence(np.vstack([table, np.zeros((4, 60))]), seed=3) == level
    unit = table / np.sqrt((table**2).sum(axis=1, keepdims=True))
    draws = np.abs(np.random.default_rng(8).normal(size=(200_000, 60)) @ unit.T).max(axis=1)
    missed = (draws > normal_quantile(level)).mean() + 4 * (1 - level) / 2
    assert missed == pytest.approx(0.05, abs=0.006)  # 2,000 draws leave the level that uncertain


@pytest.mark.parametrize("exact", [1, 3, 50, 10_000])
def test_more_exact_comparisons_never_lower_the_level(exact):
    table = rows(5, common=0.3)
    fewer, more = (joint_confidence(table, seed=1, draws=500, exact=count) for count in (exact - 1, exact))
    assert 0.95 <= fewer <= more <= 1 - 0.05 / (5 + exact / 2)


def test_exact_limits_hold_together_with_one_that_varies():
    rng = np.random.default_rng(5)
    share, cases, held = 0.045, 80, 0
    for _ in range(400):  # five harms near the bound of no event, and a mean
        events = rng.binomial(cases, share, size=5)
        sample = rng.normal(size=60)
        level = joint_confidence((sample - sample.mean())[None] / 60, seed=1, draws=400, exact=int((events == 0).sum()))
        upper = np.where(events > 0, 1.0, 1 - ((1 - level) / 2) ** (1 / cases))
        error = np.sqrt(60 / 59 * ((sample - sample.mean()) ** 2).sum()) / 60
        held += (share <= upper).all() and abs(sample.mean()) <= normal_quantile(level) * error
    assert held / 400 >= 0.93


def test_a_family_is_the_same_in_any_order():
    table = list(rows(40, patients=300))
    family = Family(influences=tuple(table), exact=2)
    halves = [Family(influences=tuple(table[20:]), exact=2), Family(influences=tuple(table[:20]))]
    assert Family.joined(halves).joint_confidence(0.95, seed=2) == family.joint_confidence(0.95, seed=2)
    assert Family().joint_confidence(0.9, seed=0) == 0.9


def test_same_seed_same_level():
    assert joint_confidence(rows(5), seed=4) == joint_confidence(rows(5), seed=4) != joint_confidence(rows(5), seed=5)


def test_family_coverage():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        sample = rng.normal(size=(8, 50)) + rng.normal(size=50)
        deviations = (sample - sample.mean(axis=1, keepdims=True)) / 50
        level = joint_confidence(deviations, seed=1, draws=400)
        z = normal_quantile(level)
        error = np.sqrt(50 / 49 * (deviations**2).sum(axis=1))
        held += (np.abs(sample.mean(axis=1)) <= z * error).all()
    assert 0.90 <= held / 200 <= 0.99


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[np.nan, 1.0], [1.0, 2.0]]])
def test_refuses_what_is_no_matrix(bad):
    with pytest.raises(StatisticsError, match="matrix"):
        joint_confidence(bad, seed=0)


def test_refuses_a_negative_number_of_exact_comparisons():
    with pytest.raises(StatisticsError, match="none or more"):
        joint_confidence(rows(2), seed=0, exact=-1)


def test_holm_known_answer_and_edges():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([]).size == 0
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        holm([0.5, np.nan])
