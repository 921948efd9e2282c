"""Joint level between one comparison and Bonferroni; Holm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import normal_quantile
from robustbench_rad.statistics.multiplicity import holm, joint_confidence


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


def test_scale_sign_order_and_comparisons_without_variance_change_nothing():
    table = rows(4)
    changed = np.vstack([-3 * table[[2, 0, 3, 1]], np.zeros(60)])
    assert joint_confidence(changed, seed=7) == pytest.approx(joint_confidence(table, seed=7), abs=1e-6)
    assert joint_confidence(np.zeros((3, 60)), seed=7) == 0.95


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


def test_holm_known_answer_and_edges():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1, 1])
    assert holm([]).size == 0
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        holm([0.5, np.nan])
