"""CT number calibration: known answers, padding, bad levels."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError
from robustbench_rad.shifts.ct_hu_calibration import CtHuCalibration


def ladder(*values):
    return CtHuCalibration(levels=tuple(CtHuCalibration.level(value) for value in values))


@pytest.fixture
def inserts(physical_batch):
    """Padding, air, water and bone."""
    return physical_batch(torch.tensor([-2000.0, -1000.0, 0.0, 1000.0]).reshape(1, 1, 1, 4), unit=Unit.HU)


def test_offsets_move_everything_but_padding(inserts, run):
    variants, measured = run(CtHuCalibration(), inserts)
    assert [v.images[0, 0, 0].tolist() for v in variants[:2]] == [[-2000, -997, 3, 1003], [-2000, -995, 5, 1005]]
    assert [measured["water_hu", v.level.name].item() for v in variants] == [3, 5, 10, 20, 40]


def test_gains_leave_water_and_scale_bone(inserts, run):
    (down, up), measured = run(ladder("gain -0.5", "gain 4"), inserts)
    torch.testing.assert_close(down.images[0, 0, 0], torch.tensor([-2000.0, -995.0, 0.0, 995.0]))
    torch.testing.assert_close(up.images[0, 0, 0], torch.tensor([-2000.0, -1040.0, 0.0, 1040.0]))
    assert measured["bone_error_hu", "gain 4"].item() == pytest.approx(40.0, abs=1e-3)


def test_zero_is_the_very_image_and_one_pixel_is_enough(physical_batch, run):
    batch = physical_batch(torch.tensor([[[[37.5]]]]), unit=Unit.HU)
    (same, moved), _ = run(ladder(0, -10), batch)
    assert same.images is batch.images
    assert moved.images.item() == 27.5


def test_volumes_are_moved_and_the_slope_is_the_gain(physical_batch, run):
    batch = physical_batch(torch.zeros(1, 1, 3, 4, 4).requires_grad_(), unit=Unit.HU)
    (variant,), _ = run(ladder("gain 2"), batch)
    variant.images.sum().backward()
    torch.testing.assert_close(batch.images.grad, torch.full((1, 1, 3, 4, 4), 1.02))


@pytest.mark.parametrize("value", ["gain 30", "slope 2", 500, "nan", "inf"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtHuCalibration.level(value)


def test_an_image_scaled_to_one_is_refused(physical_batch, run):
    with pytest.raises(ImageError, match=r"shift\.ct\.hu-calibration: expected HU"):
        run(CtHuCalibration(), physical_batch(torch.rand(2, 1, 8, 8), unit=Unit.HU))
