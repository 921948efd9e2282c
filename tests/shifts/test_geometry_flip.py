"""Mirrored images: which axis, masks along with them, and no score for findings of one side."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.geometry_flip import GeometryFlip

RAMP = torch.arange(24.0).reshape(1, 1, 2, 3, 4)


def test_each_flip_mirrors_its_own_axis_and_twice_is_nothing(physical_batch, run):
    batch = physical_batch(RAMP, unit=Unit.MAGNITUDE)
    shift = GeometryFlip.from_options({"levels": ["left-right", "up-down", "slices"]})
    for variant, axis in zip(run(shift, batch)[0], (4, 3, 2), strict=True):
        assert torch.equal(variant.images, RAMP.flip(axis))
        again = run(GeometryFlip(levels=(variant.level,)), replace(batch, images=variant.images))[0][0]
        assert torch.equal(again.images, RAMP)


def test_masks_are_mirrored_too(physical_batch, run):
    mask = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    mask[..., 0, 0] = True
    batch = replace(physical_batch(RAMP[:, :, 0], unit=Unit.MAGNITUDE), anatomy=mask, lesion=mask)
    sideways, upside_down = run(GeometryFlip(), batch)[0]
    assert sideways.anatomy[0, 0, 0, 3]
    assert upside_down.lesion[0, 0, 2, 0]
    assert sideways.anatomy.sum() == upside_down.lesion.sum() == 1


def test_findings_of_one_side_are_left_out_where_sides_are_exchanged(physical_batch, run):
    shift = GeometryFlip.from_options({"side_specific": ["left effusion"]})
    sideways, upside_down = run(shift, physical_batch(RAMP[:, :, 0], unit=Unit.MAGNITUDE))[0]
    assert sideways.excluded_findings == ("left effusion",)
    assert "left effusion" in sideways.reason
    assert upside_down.excluded_findings == ()


def test_a_side_specific_finding_must_be_one_of_the_plan():
    plan = SimpleNamespace(model=SimpleNamespace(names=("left effusion",)))
    assert GeometryFlip(side_specific=("left effusion",)).bound(plan).side_specific == ("left effusion",)
    with pytest.raises(PlanError, match=r"side_specific.*'left efusion'"):
        GeometryFlip(side_specific=("left efusion",)).bound(plan)


@pytest.mark.parametrize("image", [RAMP[:, :, 0], RAMP[:, :, :1]])
def test_one_slice_has_no_slices_to_reverse(physical_batch, run, image):
    (variant,), _ = run(GeometryFlip.from_options({"levels": ["slices"]}), physical_batch(image, unit=Unit.MAGNITUDE))
    assert not variant.applicable.any()
    assert variant.reason == "there is one slice only"
    assert torch.equal(variant.images, image)


def test_an_unknown_flip_is_refused():
    with pytest.raises(PlanError, match="left-right, up-down, slices"):
        GeometryFlip.from_options({"levels": ["sideways"]})
