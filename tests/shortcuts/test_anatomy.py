"""Regions: dilation, soft edges and continuation against answers that can be worked out by hand."""

import pytest
import torch

from robustbench_rad.shortcuts.anatomy import atlas, blended, continued, dilated, feathered


def square(side: int = 16, low: int = 6, high: int = 10) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., low:high, low:high] = True
    return mask


def test_atlas_is_the_union_down_to_the_fraction():
    counts = torch.tensor([[[[0, 1, 4, 5, 100]]]])
    assert atlas(counts, 100, 0.05).flatten().tolist() == [False, False, False, True, True]
    assert atlas(counts, 100, 1e-9).flatten().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_dilation_grows_a_square_by_the_radius(radius):
    assert torch.equal(dilated(square(), radius), square(low=6 - radius, high=10 + radius))


def test_dilation_works_on_volumes():
    mask = torch.zeros(1, 1, 5, 5, 5, dtype=torch.bool)
    mask[0, 0, 2, 2, 2] = True
    assert dilated(mask, 1).sum() == 27


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_soft_edge_is_one_on_the_mask_and_zero_beyond_twice_the_radius(radius):
    weights = feathered(square(), radius)
    assert (weights[square()] == 1.0).all()
    assert (weights[~dilated(square(), 2 * radius)] == 0.0).all()
    assert weights[..., 8, 10:].diff().le(0).all()


def test_blend_is_exact_at_both_ends():
    image, fill = torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)
    mask = square()
    mixed = blended(image, fill, mask.float())
    assert torch.equal(mixed[mask], fill[mask])
    assert torch.equal(mixed[~mask], image[~mask])


@pytest.mark.parametrize("shape", [(2, 1, 17, 23), (1, 1, 6, 9, 8)])
def test_continuation_keeps_what_is_known_and_a_constant(shape):
    known = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    image = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    assert torch.equal(continued(image, known)[known == 1], image[known == 1])
    torch.testing.assert_close(continued(torch.full(shape, 0.3) * known, known), torch.full(shape, 0.3))


def test_continuation_follows_a_slope_and_stays_within_the_range_of_its_surroundings():
    image = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).clone()
    hole = square(32, 12, 20)
    filled = continued(image, (~hole).float())
    assert (filled - image)[hole].abs().max() < 0.15
    assert filled[0, 0, 16, 12:20].diff().ge(-1e-6).all()


def test_continuation_does_not_see_into_the_hole():
    image, hole = torch.rand(1, 1, 32, 32), square(32, 8, 24)
    other = torch.where(hole, torch.rand(1, 1, 32, 32), image)
    assert torch.equal(continued(image, (~hole).float()), continued(other, (~hole).float()))
