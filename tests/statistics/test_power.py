"""Planning numbers, all recomputed by hand or published."""

import numpy as np
import pytest

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.power import (
    auc_size,
    auc_variance,
    design_effect,
    detectable_auc_drop,
    mcnemar_size,
    needed_positives,
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
    assert mcnemar_size(0.12, 0.02) == pytest.approx(107.5, abs=0.05)
    assert mcnemar_size(0.07, 0.02) == pytest.approx(280.2, abs=0.05)


def test_detectable_drop_of_an_auc():
    paired = [round(detectable_auc_drop(0.85, n, 10 * n, correlation=0.8), 3) for n in POSITIVES]
    unpaired = [round(detectable_auc_drop(0.85, n, 10 * n), 3) for n in POSITIVES]
    assert paired == pytest.approx([0.080, 0.054, 0.044, 0.028, 0.021, 0.014], abs=1.1e-3)
    assert unpaired == pytest.approx([0.178, 0.120, 0.097, 0.062, 0.047, 0.031], abs=1.1e-3)


def test_positives_for_a_half_width():
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
    ],
)
def test_refuses_what_it_is_not_defined_for(call):
    with pytest.raises(StatisticsError):
        call()
