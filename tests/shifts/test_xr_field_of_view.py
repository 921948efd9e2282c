"""A cut of the field of view: magnification, place, spacing, masks and lesions left."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_field_of_view import XrFieldOfView


def dots(height=200, width=160):
    """Two soft points, 40 columns and 60 rows apart."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    image = torch.full((height, width), 0.1)
    for row, column in ((70, 60), (130, 100)):
        image = image + 0.7 * torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18.0)
    return image[None, None].clamp(0, 1)


def centre(image, where):
    weight = (image - 0.15).clamp_min(0) * where
    rows, columns = torch.arange(image.shape[0])[:, None], torch.arange(image.shape[1])
    return (weight * rows).sum() / weight.sum(), (weight * columns).sum() / weight.sum()


@pytest.mark.parametrize("share", [90, 70])
def test_magnification_is_one_over_the_share(physical_batch, run, share):
    batch = physical_batch(dots(), unit=Unit.SIGNAL, spacing_mm=(0.5, 0.4))
    (variant,), _ = run(XrFieldOfView(levels=(XrFieldOfView.level(share),), centred=True), batch)
    upper = torch.arange(200)[:, None] < 100
    (row, column), (other_row, other_column) = (centre(variant.images[0, 0], where) for where in (upper, ~upper))
    assert other_row - row == pytest.approx(60 / share * 100, abs=0.5)
    assert other_column - column == pytest.approx(40 / share * 100, abs=0.5)
    torch.testing.assert_close(variant.spacing_mm, torch.tensor([[0.5, 0.4]]) * share / 100)


def test_every_window_lies_inside_the_image_and_differs_from_case_to_case(physical_batch, run):
    ramp = torch.linspace(0.0, 1.0, 101).reshape(1, 1, 1, -1).expand(8, 1, 101, 101).contiguous()
    batch = physical_batch(ramp, unit=Unit.SIGNAL)
    variants, _ = run(XrFieldOfView(), batch)
    lefts = []
    for variant in variants:
        left, right = variant.images[..., 50, 0], variant.images[..., 50, -1]
        width = variant.level.value / 100
        torch.testing.assert_close(right - left, torch.full_like(left, width), atol=0.01, rtol=0)
        lefts.append(left[:, 0] / (1 - width))
    assert lefts[-1].std() > 0.1
    torch.testing.assert_close(lefts[-1], lefts[-2], atol=0.03, rtol=0)  # the levels share the draw


def test_masks_move_with_the_image_and_a_lesion_may_be_lost(physical_batch, run):
    corner = torch.zeros(6, 1, 100, 100, dtype=torch.bool)
    corner[..., :20, :20] = True
    images = 0.2 + 0.6 * corner.float()
    batch = replace(physical_batch(images, unit=Unit.SIGNAL), lesion=corner, lesion_known=(True,) * 6, anatomy=~corner)
    variants, measured = run(XrFieldOfView(), batch)
    for variant in variants:
        seen = variant.images > 0.5
        assert (variant.lesion ^ seen).float().mean() < 0.01
        assert (variant.anatomy ^ ~seen).float().mean() < 0.01
        left = variant.lesion.sum((1, 2, 3)) * (variant.level.value / 100) ** 2 / 400
        torch.testing.assert_close(measured["lesion_share", variant.level.name], left, atol=0.06, rtol=0)
    assert measured["lesion_share", "60"].min() == 0


def test_bad_levels_are_refused():
    with pytest.raises(PlanError, match="what is left of the side in % from 20 to 100, got 10"):
        XrFieldOfView.from_options({"levels": [10]})
