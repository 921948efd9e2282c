"""Shutters over the border: open share, turn, stretched display range, lesions left."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_collimation import XrCollimation, open_field


def textured(count=2, height=100, width=80):
    generator = torch.Generator().manual_seed(1)
    return 0.3 + 0.4 * torch.rand(count, 1, height, width, generator=generator)


def test_an_upright_field_leaves_the_square_of_one_minus_two_borders(physical_batch, run):
    batch = physical_batch(textured(), unit=Unit.SIGNAL)
    variants, measured = run(XrCollimation(largest_turn_deg=0.0), batch)
    for variant in variants:
        share = measured["open_share", variant.level.name]
        assert share.tolist() == pytest.approx([(1 - 2 * variant.level.value / 100) ** 2] * 2, abs=0.003)
        assert (variant.images[..., 0, :] == 0).all()
        assert (variant.images[..., 50, 40] > 0).all()


def test_a_turned_field_has_the_same_area_and_the_angle_asked_for():
    angle = math.radians(10)
    opening = open_field(torch.zeros(1, 1, 400, 400), torch.tensor([angle]), 0.2, 0.0)[0, 0]
    assert opening.mean() == pytest.approx(0.6**2, rel=2e-3)
    first = (opening > 0.5).int().argmax(1)[150:250].double()  # left edge, row by row
    slope = (first[60:].mean() - first[:40].mean()) / 60
    assert abs(slope) == pytest.approx(math.tan(angle), rel=0.05)


def test_the_open_field_takes_the_display_range_of_the_whole(physical_batch, run):
    images = 0.4 + 0.2 * textured(1)
    images[:, :, :15] = 0.1
    images[:, :, -15:] = 0.9
    batch = physical_batch(images, unit=Unit.SIGNAL)
    levels = (XrCollimation.level(18),)
    (stretched,), _ = run(XrCollimation(levels=levels, largest_turn_deg=0.0), batch)
    inside = stretched.images[0, 0, 19:81, 15:65]
    assert inside.quantile(0.01) == pytest.approx(0.1, abs=0.01)
    assert inside.quantile(0.99) == pytest.approx(0.9, abs=0.01)
    (plain,), _ = run(XrCollimation(levels=levels, largest_turn_deg=0.0, rescale=False), batch)
    torch.testing.assert_close(plain.images[0, 0, 19:81, 15:65], images[0, 0, 19:81, 15:65])


def test_white_film_outside(physical_batch, run):
    batch = physical_batch(textured(), unit=Unit.SIGNAL)
    variants, _ = run(XrCollimation(shutter_value=1.0), batch)
    assert (variants[-1].images[..., 0, 0] == 1).all()


def test_what_is_left_of_a_lesion_is_measured(physical_batch, run):
    lesion = torch.zeros(2, 1, 100, 80, dtype=torch.bool)
    lesion[0, 0, 45:55, 35:45] = True
    batch = replace(physical_batch(textured(), unit=Unit.SIGNAL), lesion=lesion, lesion_known=(True, False))
    _, measured = run(XrCollimation(), batch)
    assert measured["lesion_share", "18"][0] == 1
    assert measured["lesion_share", "18"][1].isnan()
    border = replace(batch, lesion=lesion.roll(48, 2))
    _, measured = run(XrCollimation(largest_turn_deg=0.0), border)
    shares = [measured["lesion_share", name][0].item() for name in ("2", "5", "8")]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [50]}, "a border in % per side from 0 to 45, got 50"),
        ({"shutter_value": 2}, "expected at most 45 and 1"),
        ({"penumbra": -1}, "not below 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrCollimation.from_options(options)
