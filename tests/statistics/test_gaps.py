"""Gaps between groups of patients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.estimate import difference
from robustbench_rad.statistics.gaps import rate_gap, worst_versus_rest
from robustbench_rad.statistics.proportions import proportion

N = 400
GROUPS = np.tile(["A", "B", "C", "D"], N // 4)
LABEL = np.repeat([1.0, 0.0], N // 2)


def sample(seed=0, weak=None, loss=0.0):
    rng = np.random.default_rng(seed)
    called = rng.random(N) < np.where(LABEL == 1, 0.85, 0.1)
    called &= ~((weak == GROUPS) & (LABEL == 1) & (rng.random(N) < loss))
    return called


def measured(scores):
    def measure(mask, level):
        return auc(np.where(mask, LABEL, np.nan), scores, range(N), N, confidence=level)

    return measure


def test_two_groups_of_one_label_are_newcombes_difference():
    label, groups = np.ones(150), ["A"] * 70 + ["B"] * 80
    called = np.r_[np.arange(70) < 56, np.arange(80) < 48]
    gap = rate_gap(label, called, groups, range(150), 150, seed=0)
    assert (round(gap.estimate.lower, 4), round(gap.estimate.upper, 4)) == (0.0524, 0.3339)
    assert (gap.largest.worse, gap.largest.better) == ("B", "A")
    assert set(gap.unknown) == {"specificity A", "specificity B"}


def test_a_group_whose_positives_are_missed_is_found():
    gap = rate_gap(LABEL, sample(weak="C", loss=0.8), GROUPS, range(N), N, seed=0)
    assert (gap.largest.quantity, gap.largest.worse) == ("sensitivity", "C")
    assert gap.estimate.lower > 0.3
    assert len(gap.comparisons) == 12


def test_the_joint_interval_is_wider_than_one_alone():
    called = sample()
    gap = rate_gap(LABEL, called, GROUPS, range(N), N, seed=0)
    alone = difference(
        *(
            proportion(called, (LABEL == 1) & (name == GROUPS), range(N), N)
            for name in (gap.largest.better, gap.largest.worse)
        )
    )
    assert gap.estimate.confidence > 0.95
    if gap.largest.quantity == "sensitivity":
        assert gap.estimate.upper > alone.upper
    assert gap.estimate.lower <= gap.estimate.value <= gap.estimate.upper


def test_equal_groups_are_called_different_in_at_most_one_of_twenty_samples():
    found = sum(rate_gap(LABEL, sample(seed), GROUPS, range(N), N, seed=seed).estimate.lower > 0 for seed in range(60))
    assert found <= 6  # P(more | 5 %) = 0.03


def test_the_worst_group_by_auc():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=N) + np.where(GROUPS == "B", 0.1, 2.0) * LABEL
    gap = worst_versus_rest(GROUPS, measured(scores), quantity="AUROC", seed=0)
    assert (gap.largest.worse, gap.largest.better) == ("B", "rest")
    assert gap.estimate.lower > 0.1
    assert len(gap.comparisons) == 4


def test_a_group_of_one_class_is_named_and_not_dropped():
    groups = np.where((GROUPS == "D") & (LABEL == 1), "", GROUPS)
    gap = worst_versus_rest(groups, measured(np.arange(N) % 7), quantity="AUROC", seed=0)
    assert "both classes" in gap.unknown["D"]
    assert [c.worse for c in gap.comparisons] == ["A", "B", "C"]


@given(st.integers(0, 5000))
@settings(max_examples=15, deadline=None)
def test_names_and_order_change_nothing(seed):
    rng = np.random.default_rng(seed)
    called, order = sample(seed), rng.permutation(N)
    one = rate_gap(LABEL, called, GROUPS, np.arange(N), N, seed=1).estimate
    renamed = np.char.add("site ", GROUPS)[order]
    other = rate_gap(LABEL[order], called[order], renamed, np.arange(N)[order], N, seed=1).estimate
    assert (other.value, other.lower, other.upper) == pytest.approx((one.value, one.lower, one.upper))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate_gap([1, 0], [True, False], ["A", "A"], [0, 1], 2, seed=0), "two groups"),
        (lambda: rate_gap([1, 0], [True, False], ["A", ""], [0, 1], 2, seed=0), "two groups"),
        (lambda: rate_gap([1, 0], [1, 0], ["A", "B"], [0, 1], 2, seed=0), "booleans"),
        (lambda: rate_gap([1, 0], [True, False], ["A", "B"], [0, 1], 2, seed=0), "no two groups can be compared"),
        (lambda: rate_gap([np.nan] * 2, [True, False], ["A", "B"], [0, 1], 2, seed=0), "no two groups"),
    ],
)
def test_refuses_what_cannot_be_compared(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
