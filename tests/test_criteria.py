"""Verdicts and points: three answers, pass exactly at 70 points or more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.criteria import Judged, criterion_points, judge, points, with_points
from robustbench_rad.errors import StatisticsError
from robustbench_rad.result import Criterion, Domain, Interval, Verdict
from robustbench_rad.statistics.estimate import Estimate

NUMBERS = st.floats(-1, 1)


def harm(lower, upper, value=None):
    return Estimate(value=(lower + upper) / 2 if value is None else value, lower=lower, upper=upper)


def criterion(verdict, upper=0.02, tolerance=0.05):
    return Criterion(
        id="check/finding",
        check="check",
        domain=Domain.CLEAN,
        quantity="drop",
        harm=Interval(estimate=0.0, lower=-0.02, upper=upper),
        tolerance=tolerance,
        critical_harm=0.15,
        verdict=verdict,
        reason="",
    )


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [
        (-0.02, 0.05, Verdict.PASS),
        (0.01, 0.0501, Verdict.INCONCLUSIVE),
        (0.05, 0.2, Verdict.INCONCLUSIVE),
        (0.0501, 0.2, Verdict.FAIL),
    ],
)
def test_the_interval_decides_and_the_limits_count_as_within(lower, upper, verdict):
    assert judge(harm(lower, upper), 0.05).verdict is verdict


def test_no_significant_drop_is_no_pass():
    assert judge(harm(-0.1, 0.1), 0.05, positives=30).verdict is Verdict.INCONCLUSIVE


def test_reasons_say_what_was_seen():
    assert judge(harm(0.0, 0.04), 0.05).reason == "the 95 % interval lies within the tolerance"
    assert judge(harm(0.1, 0.2), 0.05).reason == "the 95 % interval lies wholly beyond the tolerance"
    opened = judge(harm(-0.02, 0.08, 0.02), 0.05, positives=100)
    assert opened.needed_positives == 400
    assert "about 400 positives would decide, there are 100" in opened.reason
    stuck = judge(harm(0.0, 0.1), 0.05, positives=100)
    assert stuck.needed_positives is None
    assert "sits at the tolerance" in stuck.reason


def test_undefined_harm_is_inconclusive():
    assert judge(harm(np.nan, np.nan), 0.05).verdict is Verdict.INCONCLUSIVE
    assert judge(harm(0.1, np.inf, 0.1), 0.05).verdict is Verdict.FAIL
    with pytest.raises(StatisticsError, match="tolerance"):
        judge(harm(0, 0), np.nan)


def test_points_at_the_corners():
    assert points([-1, 0, 0.025, 0.05, 0.1, 0.15, 9], 0.05, 0.15) == pytest.approx([100, 100, 85, 70, 35, 0, 0])


@pytest.mark.parametrize("tolerance", [0.0, -0.1])
def test_points_without_room_below_the_tolerance(tolerance):
    assert points(tolerance, tolerance, 0.2) == 100
    assert points(tolerance + 1e-12, tolerance, 0.2) == pytest.approx(70)
    assert points(tolerance + 1e-12, tolerance, 0.2) < 70


def test_points_without_room_beyond_the_tolerance():
    assert points([0.05, 0.0500001], 0.05, 0.05).tolist() == [70, 0]


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_points_fall_with_harm_and_seventy_is_a_pass(a, b, tolerance, critical):
    low, high = sorted((a, b))
    assert points(low, tolerance, critical) >= points(high, tolerance, critical)
    assert 0 <= points(a, tolerance, critical) <= 100
    assert (points(a, tolerance, critical) >= 70) == (a <= tolerance)
    assert (judge(harm(a - 1, a), tolerance).verdict is Verdict.PASS) == (points(a, tolerance, critical) >= 70)


def test_criterion_points():
    assert criterion_points(criterion(Verdict.PASS)) == pytest.approx(88)
    assert criterion_points(criterion(Verdict.INFORMATIONAL)) is None
    assert criterion_points(criterion(Verdict.INCONCLUSIVE, upper=0.10)) == pytest.approx(35)
    assert criterion_points(criterion(Verdict.INCONCLUSIVE, upper=None)) == 0
    assert criterion_points(criterion(Verdict.INCONCLUSIVE, tolerance=None)) == 0


def test_a_bound_that_is_not_believed_is_worth_nothing():
    assert criterion_points(criterion(Verdict.INCONCLUSIVE, upper=0.01)) == 0


def test_with_points_fills_in_and_keeps_the_influence():
    item = with_points(Judged(criterion=criterion(Verdict.PASS), influence=np.ones(3)))
    assert item.criterion.points == pytest.approx(88)
    assert item.influence.tolist() == [1, 1, 1]
