"""Inverted grey levels: an involution that the header owns up to."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_polarity import XrPolarity


def test_inverting_twice_gives_the_image_back(physical_batch, run):
    images = torch.arange(0, 256).reshape(1, 1, 16, 16) / 256
    batch = physical_batch(images, unit=Unit.SIGNAL)
    (once,), _ = run(XrPolarity(), batch)
    (twice,), _ = run(XrPolarity(), once.applied_to(batch))
    torch.testing.assert_close(once.images + images, torch.ones_like(images), rtol=0, atol=0)
    assert torch.equal(twice.images, images)
    assert once.changed_attributes(1) == ({"PhotometricInterpretation": "MONOCHROME1"},)


def test_as_it_is_and_nothing_else_is_known(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 4, 4), 0.25), unit=Unit.SIGNAL)
    (variant,), _ = run(XrPolarity.from_options({"levels": ["as it is"]}), batch)
    assert variant.images is batch.images
    with pytest.raises(PlanError, match="expected inverted, got 2"):
        XrPolarity.from_options({"levels": [2]})
