"""Planning numbers, all recomputed by hand or published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.power import (
    auc_drop_size,
    auc_size,
    auc_variance,
    design_effect,
    detectable_auc_drop,
    detectable_auc_gap,
    detectable_drop,
    detectable_paired_drop,
    mcnemar_size,
    needed_positives,
    proportion_half_width,
    proportion_size,
    two_proportion_power,
    two_proportion_size,
)

POSITIVES = (30, 66, 100, 250, 425, 1000)


def test_two_proportions():
    assert two_proportion_size(0.85, 0.75) == pytest.approx(249.98, abs=0.005)
    assert two_proportion_size(0.85, 0.75, alpha=0.005) == pytest.approx(424.47, abs=0.005)
    assert two_proportion_power(0.85, 0.75, 66) == pytest.approx(0.2988, abs=5e-5)
    assert two_proportion_power(0.85, 0.75, 66, alpha=0.005) == pytest.approx(0.0835, abs=5e-5)


def test_power_inverts_size():
    size = two_proportion_size(0.9, 0.8, alpha=0.01, power=0.9)
    assert two_proportion_power(0.9, 0.8, size, alpha=0.01) == pytest.approx(0.9)


def test_mcnemar_pairs():
    # Published as 107 and 280: 107.496 and 280.19 rounded to the nearest. Whole pairs that suffice are 108 and 281.
    assert (round(mcnemar_size(0.12, 0.02)), round(mcnemar_size(0.07, 0.02))) == (107, 280)
    assert mcnemar_size(0.12, 0.02) == pytest.approx(107.5, abs=0.05)
    assert mcnemar_size(0.07, 0.02) == pytest.approx(280.2, abs=0.05)


def test_detectable_drop_of_an_auc():
    paired = [round(detectable_auc_drop(0.85, n, 10 * n, correlation=0.8), 3) for n in POSITIVES]
    unpaired = [round(detectable_auc_drop(0.85, n, 10 * n), 3) for n in POSITIVES]
    assert paired == [0.080, 0.054, 0.044, 0.028, 0.021, 0.014]
    assert unpaired == [0.178, 0.120, 0.097, 0.062, 0.047, 0.031]


def test_detectable_drop_of_a_sensitivity():
    groups = (30, 66, 250, 425, 1000)
    assert [round(detectable_drop(0.85, n), 2) for n in groups[:3]] == [0.33, 0.21, 0.10]
    assert [round(detectable_drop(0.85, n), 3) for n in groups[3:]] == [0.075, 0.047]
    assert [round(detectable_drop(0.85, n, alpha=0.05 / 10), 2) for n in groups[:4]] == [0.44, 0.29, 0.13, 0.10]
    assert round(detectable_drop(0.85, 1000, alpha=0.05 / 10), 3) == 0.063


def test_detectable_drop_has_the_power_asked_for():
    drop = detectable_drop(0.9, 80, other=400, alpha=0.01, power=0.9)
    assert two_proportion_power(0.9 - drop, 0.9, 80, other=400, alpha=0.01) == pytest.approx(0.9)
    assert two_proportion_power(0.9 - drop / 2, 0.9, 80, other=400, alpha=0.01) < 0.5


def test_detectable_drop_has_the_power_asked_for_in_a_simulation():
    """The unpooled z test of drawn counts rejects about as often as promised (the formula is its normal limit)."""
    drop, rng = detectable_drop(0.85, 250), np.random.default_rng(3)
    first, second = rng.binomial(250, 0.85, 20_000) / 250, rng.binomial(250, 0.85 - drop, 20_000) / 250
    mean = (first + second) / 2
    rejected = np.abs(first - second) > 1.959964 * np.sqrt(mean * (1 - mean) * 2 / 250)
    assert rejected.mean() == pytest.approx(0.8, abs=0.015)


def test_paired_detectable_drop_inverts_mcnemar():
    for lost, gained in ((0.12, 0.02), (0.07, 0.02), (0.3, 0.05)):
        pairs = mcnemar_size(lost, gained)
        assert detectable_paired_drop(0.85, pairs, gained=gained) == pytest.approx(lost - gained)


def test_nothing_is_detectable_in_too_few_cases():
    assert detectable_drop(0.85, 3) is None
    assert detectable_paired_drop(0.85, 3) is None


def test_gap_to_as_many_cases_is_an_unpaired_drop():
    assert detectable_auc_gap(0.85, (66, 660), (66, 660)) == pytest.approx(detectable_auc_drop(0.85, 66, 660))
    assert detectable_auc_gap(0.85, (66, 660), (1e9, 1e9)) == pytest.approx(detectable_auc_drop(0.85, 66, 660) / 2**0.5)


def test_positives_for_a_drop_invert_the_detectable_drop():
    size = auc_drop_size(0.85, 0.05, negatives_per_positive=10, correlation=0.8, alpha=0.005)
    assert detectable_auc_drop(0.85, size, 10 * size, correlation=0.8, alpha=0.005) == pytest.approx(0.05)


def test_half_width_of_a_proportion():
    assert round(proportion_half_width(0.85, 66), 5) == 0.08615
    assert proportion_half_width(0.85, proportion_size(0.85, 0.03)) == pytest.approx(0.03)


@given(n=st.integers(5, 5000), p=st.floats(0.55, 0.98), alpha=st.floats(0.001, 0.1))
def test_more_cases_never_detect_less(n, p, alpha):
    for drop in (detectable_drop, detectable_paired_drop):
        few, more = drop(p, n, alpha=alpha), drop(p, 2 * n, alpha=alpha)
        assert few is None or more <= few + 1e-9
        assert few is None or 0 < few < p


def test_positives_for_a_half_width():
    # Published as 93, 258 and 579: these rounded up.
    assert [int(np.ceil(auc_size(0.85, h, negatives_per_positive=10))) for h in (0.05, 0.03, 0.02)] == [93, 258, 579]
    assert [auc_size(0.85, h, negatives_per_positive=10) for h in (0.05, 0.03, 0.02)] == pytest.approx(
        [92.66, 257.23, 578.65], abs=0.01
    )


def test_variance_of_an_area_from_uniform_ranks():
    # At A = 1/2 the exponential model is the exact Wilcoxon variance (m + n + 1) / 12mn.
    assert auc_variance(0.5, 7, 11) == pytest.approx(19 / (12 * 7 * 11))


def test_design_effect():
    assert design_effect(1, 0.9) == 1
    assert design_effect(4, 0.5) == 2.5


@pytest.mark.parametrize(
    ("value", "lower", "upper", "needed"),
    [
        (0.02, -0.02, 0.08, 400),
        (0.08, 0.02, 0.12, 400),
        (0.05, 0.0, 0.1, None),
        (0.04, np.nan, np.nan, None),
        (0.0499999, 0, 1, None),
    ],
)
def test_needed_positives(value, lower, upper, needed):
    assert needed_positives(Estimate(value=value, lower=lower, upper=upper), 0.05, 100) == needed


def test_needed_positives_unknown_without_positives():
    assert needed_positives(Estimate(value=0, lower=-1, upper=1), 0.05, 0) is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: two_proportion_size(0.8, 0.8),
        lambda: two_proportion_size(1.0, 0.8),
        lambda: mcnemar_size(0.1, 0.1),
        lambda: mcnemar_size(0.9, 0.2),
        lambda: auc_variance(1.0, 5, 5),
        lambda: auc_variance(0.8, 0, 5),
        lambda: two_proportion_power(0.8, 0.7, 0),
        lambda: detectable_drop(1.0, 50),
        lambda: detectable_paired_drop(0.8, 50, gained=0.0),
        lambda: detectable_auc_drop(0.8, 50, 50, correlation=1.0),
        lambda: auc_drop_size(0.8, 0.9, negatives_per_positive=1),
        lambda: auc_size(0.8, 0.0, negatives_per_positive=1),
        lambda: proportion_size(0.8, 0.0),
        lambda: proportion_half_width(0.8, 0),
        lambda: detectable_auc_drop(0.8, 50, 50, power=1.0),
    ],
)
def test_refuses_what_it_is_not_defined_for(call):
    with pytest.raises(StatisticsError):
        call()
