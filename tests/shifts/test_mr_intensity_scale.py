"""Receiver gain of MR."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_intensity_scale import MrIntensityScale


def test_gain_multiplies_and_nothing_is_clipped(physical_batch, run):
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    variants, measured = run(MrIntensityScale(), physical_batch(images, unit=Unit.MAGNITUDE))
    for variant in variants:
        torch.testing.assert_close(variant.images, images * variant.level.value)
        assert measured["gain", variant.level.name].tolist() == pytest.approx([variant.level.value] * 2)
    assert variants[-1].images.max() > 1.5


@pytest.mark.parametrize("value", [0, -1, 1000])
def test_a_gain_without_meaning_is_refused(value):
    with pytest.raises(PlanError, match=r"expected 0\.01 to 100 × gain"):
        MrIntensityScale.from_options({"levels": [value]})
