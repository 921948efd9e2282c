"""Proportions: Newcombe's tables, exact limits, clusters, paired differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import difference, normal_quantile
from robustbench_rad.statistics.proportions import (
    clopper_pearson,
    mcnemar,
    paired_difference,
    proportion,
    tango,
    wilson,
)


def share(k, n, first=0, total=None, **options):
    """A proportion of n patients with one image each, numbered from ``first``."""
    total = first + n if total is None else total
    return proportion(np.arange(n) < k, np.ones(n, bool), first + np.arange(n), total, **options)


@pytest.mark.parametrize(
    ("k", "n", "limits"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (56, 66, (0.7431, 0.9156)),
        (5, 10, (0.2366, 0.7634)),
        (80, 90, (0.8074, 0.9385)),
        (5, 15, (0.1518, 0.5829)),
    ],
)
def test_wilson_is_newcombes_table(k, n, limits):
    assert tuple(round(limit, 4) for limit in wilson(k / n, n)) == limits


def test_wilson_at_a_planned_proportion():
    assert [round(limit, 4) for limit in wilson(0.85, 66)] == [0.7448, 0.9167]


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.5, 0.999))
@settings(max_examples=60, deadline=None)
def test_intervals_agree_with_scipy_and_stay_inside(n, part, confidence):
    k = round(part * n)
    for ours, theirs in (
        (wilson(k / n, n, confidence=confidence), "wilson"),
        (clopper_pearson(k, n, confidence=confidence), "exact"),
    ):
        reference = binomtest(k, n).proportion_ci(confidence, method=theirs)
        assert ours == pytest.approx((reference.low, reference.high), abs=1e-9)
        assert 0 <= ours[0] <= k / n <= ours[1] <= 1


def test_none_or_all_of_the_cases_keep_the_exact_bound():
    none, every = share(0, 66), share(66, 66)
    assert (none.value, none.lower, none.method) == (0, 0, "Clopper-Pearson")
    assert none.upper == pytest.approx(1 - 0.025 ** (1 / 66))
    assert every.lower == pytest.approx(0.025 ** (1 / 66))
    assert clopper_pearson(0, 59, confidence=0.9)[1] == pytest.approx(0.0495, abs=5e-5)
    assert clopper_pearson(0, 299, confidence=0.9)[1] == pytest.approx(0.00997, abs=5e-6)


def test_one_case_is_answered():
    assert (share(1, 1).lower, share(1, 1).upper) == (pytest.approx(0.025), 1)


def test_newcombes_unpaired_difference():
    a, b = share(56, 70, total=150), share(48, 80, first=70, total=150)
    d = difference(a, b)
    assert (round(d.lower, 4), round(d.upper, 4)) == (0.0524, 0.3339)


def test_influence_of_single_images_is_the_binomial_variance():
    e = share(56, 66)
    assert e.standard_error**2 == pytest.approx(e.value * (1 - e.value) / 65)


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_order_and_duplicates_change_nothing(seed, copies):
    rng = np.random.default_rng(seed)
    success, other = rng.random(40) < 0.7, rng.random(40) < 0.6
    patients, valid = rng.integers(0, 20, 40), rng.random(40) < 0.9
    order = np.repeat(rng.permutation(40), copies)
    for one, many in (
        (proportion(success, valid, patients, 20), proportion(success[order], valid[order], patients[order], 20)),
        (
            paired_difference(success, other, valid, patients, 20),
            paired_difference(success[order], other[order], valid[order], patients[order], 20),
        ),
    ):
        assert (many.value, many.lower, many.upper) == pytest.approx((one.value, one.lower, one.upper), abs=1e-9)


def test_images_of_a_patient_that_agree_count_once():
    success = np.repeat(np.arange(30) < 24, 5)
    e = proportion(success, np.ones(150, bool), np.repeat(np.arange(30), 5), 30)
    assert (e.lower, e.upper) == pytest.approx(wilson(0.8, 30))
    assert e.method == "Wilson, effective n 30.0"


def test_all_failures_in_one_patient_are_one_failure():
    patients = np.repeat(np.arange(40), 5)
    e = proportion(patients != 0, np.ones(200, bool), patients, 40)
    assert (e.lower, e.upper) == pytest.approx(wilson(39 / 40, 40))


def test_a_case_more_right_raises_both_limits():
    for k in range(20):
        low, high = share(k, 20), share(k + 1, 20)
        assert low.lower <= high.lower
        assert low.upper <= high.upper


def test_paired_difference_without_a_changed_case_is_not_certain():
    success = np.arange(66) < 56
    e = paired_difference(success, success, np.ones(66, bool), np.arange(66), 66)
    assert e.value == 0
    assert (-e.lower, e.upper) == pytest.approx((1 - 0.025 ** (1 / 66),) * 2)


def test_paired_difference_agrees_with_tango():
    first, second = np.arange(100) < 85, np.r_[np.arange(85) < 75, np.arange(15) < 3]
    e = paired_difference(first, second, np.ones(100, bool), np.arange(100), 100)
    assert e.value == pytest.approx(0.07)
    assert (e.lower, e.upper) == pytest.approx(tango(10, 3, 100), abs=0.02)


def test_tango_limits_are_where_the_score_statistic_is_z():
    lost, gained, pairs = 10, 3, 100
    for limit in tango(lost, gained, pairs):

        def likelihood(q, delta=limit):
            return -(lost * np.log(q + delta) + gained * np.log(q) + (pairs - 13) * np.log(1 - 2 * q - delta))

        q = minimize_scalar(
            likelihood,
            bounds=(max(0, -limit) + 1e-9, (1 - limit) / 2 - 1e-9),
            method="bounded",
            options={"xatol": 1e-10},
        ).x
        statistic = (lost - gained - pairs * limit) / np.sqrt(pairs * (2 * q + limit * (1 - limit)))
        assert abs(statistic) == pytest.approx(normal_quantile(0.95), abs=1e-4)


@pytest.mark.parametrize(("lost", "gained", "pairs"), [(0, 0, 30), (30, 0, 30), (0, 30, 30), (1, 0, 1), (15, 15, 30)])
def test_tango_at_the_edges_holds_the_observed_difference(lost, gained, pairs):
    lower, upper = tango(lost, gained, pairs)
    mirrored = tango(gained, lost, pairs)
    assert -1 <= lower <= (lost - gained) / pairs <= upper <= 1
    assert upper - lower > 0.05
    assert mirrored == pytest.approx((-upper, -lower), abs=1e-6)


def test_mcnemar_is_a_fair_coin():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: proportion([], [], np.zeros(0, int), 0), "boolean"),
        (lambda: proportion(np.zeros(2, bool), np.zeros(2, bool), [0, 1], 2), "no case"),
        (lambda: proportion([1, 0], [True, True], [0, 1], 2), "boolean"),
        (lambda: proportion(np.zeros(2, bool), np.ones(3, bool), [0, 1], 2), "one length"),
        (lambda: tango(5, 5, 9), "cannot be"),
        (lambda: wilson(1.2, 5), "expected 0 to 1"),
        (lambda: clopper_pearson(0, 0), "at least one case"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()


def test_a_difference_of_few_cases_has_no_limits_that_no_difference_can_have():
    """Four cases of seven lost: Student's limit alone reaches beyond 1."""
    first, second = [True] * 7, [True] * 3 + [False] * 4
    lost = paired_difference(first, second, [True] * 7, range(7), 7, confidence=0.9995)
    assert -1.0 <= lost.lower <= lost.value <= lost.upper == 1.0
