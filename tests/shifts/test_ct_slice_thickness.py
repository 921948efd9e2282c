"""Slice thickness: the noise law, the profile of a bead and a ramp, slices that are thicker already, bad input."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError
from robustbench_rad.shifts.ct_slice_thickness import CtSliceThickness


def ladder(*values, **options):
    return CtSliceThickness(levels=tuple(map(CtSliceThickness.level, values)), **options)


def spaced(distance, count=1):
    return torch.tensor([[distance, 0.7, 0.7]] * count)


def noise(count=1, depth=60, side=32):
    return 40 + 20 * torch.randn(count, 1, depth, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("contiguous", [False, True])
def test_noise_falls_with_the_root_of_the_thickness(physical_batch, run, contiguous):
    batch = physical_batch(noise(), unit=Unit.HU, spacing_mm=spaced(1.0))
    variants, measured = run(CtSliceThickness(contiguous=contiguous), batch)
    for variant in variants:
        aim = math.sqrt(1.0 / variant.level.value)
        assert measured["noise_ratio", variant.level.name].item() == pytest.approx(aim, rel=0.001)
        if not contiguous:
            ratio = variant.images[0, 0, 8:-8].std() / batch.images.std()
            assert ratio.item() == pytest.approx(aim, rel=0.03)
        elif variant.level.value in (3, 5):  # new slices at positions of source slices
            exact = variant.images[0, 0].std((1, 2)).max() / batch.images.std()
            assert exact.item() == pytest.approx(aim, rel=0.06)


def fwhm(profile, step):
    above = (profile >= profile.max() / 2).nonzero().flatten()
    first, last = int(above[0]), int(above[-1])
    half = profile.max() / 2
    left = (profile[first] - half) / (profile[first] - profile[first - 1])
    right = (profile[last] - half) / (profile[last] - profile[last + 1])
    return (last - first + left + right).item() * step


def test_a_bead_is_as_wide_as_the_slice(physical_batch, run):
    """Overlapping slices of 1 mm, 0.1 mm apart: a thin bead shows a box of 1 mm, then one of the thickness."""
    position = (torch.arange(300) - 149.5) * 0.1
    bead = torch.where(position.abs() < 0.5, 1000.0, 0.0).reshape(1, 1, -1, 1, 1).repeat(1, 1, 1, 2, 2)
    batch = physical_batch(bead, unit=Unit.HU, spacing_mm=spaced(0.1), attributes=({"SliceThickness": "1"},))
    variants, measured = run(CtSliceThickness(), batch)
    for variant in variants:
        width = fwhm(variant.images[0, 0, :, 0, 0], 0.1)
        assert width == pytest.approx(variant.level.value, rel=0.05)
        assert measured["slice_thickness_mm", variant.level.name].item() == pytest.approx(variant.level.value, rel=0.05)
        assert variant.images.sum().item() == pytest.approx(bead.sum().item(), rel=1e-4)
        assert variant.changed_attributes(1)[0] == {"SliceThickness": f"{variant.level.value:g}"}


def test_a_ramp_stays_a_ramp(physical_batch, run):
    ramp = torch.arange(40.0).reshape(1, 1, -1, 1, 1).repeat(1, 1, 1, 2, 2)
    batch = physical_batch(ramp, unit=Unit.HU, spacing_mm=spaced(1.0))
    for variant in run(CtSliceThickness(), batch)[0]:
        torch.testing.assert_close(variant.images[0, 0, 6:-6], ramp[0, 0, 6:-6])


def test_contiguous_slices_are_means_of_their_own_and_lines_between(physical_batch, run):
    batch = physical_batch(noise(depth=15), unit=Unit.HU, spacing_mm=spaced(1.0))
    (variant,), _ = run(ladder(3, contiguous=True), batch)
    means = batch.images.reshape(1, 1, 5, 3, 32, 32).mean(3)
    torch.testing.assert_close(variant.images[:, :, 1::3], means, rtol=0, atol=1e-3)
    between = means[:, :, :-1] * 2 / 3 + means[:, :, 1:] / 3
    torch.testing.assert_close(variant.images[:, :, 2:-1:3], between, rtol=0, atol=1e-3)


def test_thicker_sources_are_not_applicable_and_equal_ones_come_back(physical_batch, run):
    attributes = tuple({"SliceThickness": text} for text in ("1", "5", "3"))
    batch = physical_batch(noise(3), unit=Unit.HU, spacing_mm=spaced(1.0, 3), attributes=attributes)
    (variant,), measured = run(ladder(3), batch)
    assert variant.applicable.tolist() == [True, False, True]
    assert variant.reason == "slices are thicker already"
    assert torch.equal(variant.images[1:], batch.images[1:])
    assert not torch.equal(variant.images[0], batch.images[0])
    assert variant.changed_attributes(3) == ({"SliceThickness": "3"}, {}, {})
    assert measured["source_thickness_mm", ""].tolist() == [1, 5, 3]


@pytest.mark.parametrize(
    ("spacing", "depth", "attributes", "reason"),
    [
        (spaced(1.0), 1, (), "one slice only"),
        (spaced(math.nan), 9, (), "slice distance unknown"),
        (None, 9, (), "slice distance unknown"),
        (spaced(1.0), 4, (), "volume is thinner than the slice"),
        (spaced(2.0), 9, ({"SliceThickness": "1"},), "gaps between the slices"),
    ],
)
def test_volumes_that_cannot_be_thickened_say_why(physical_batch, run, spacing, depth, attributes, reason):
    batch = physical_batch(noise(depth=depth), unit=Unit.HU, spacing_mm=spacing, attributes=attributes)
    (variant,), _ = run(ladder(5), batch)
    assert not variant.applicable.any()
    assert variant.reason == reason
    assert torch.equal(variant.images, batch.images)


def test_an_image_has_no_other_slice_to_average(physical_batch, run):
    """A profile for slices and volumes alike does not stop an audit of slices."""
    batch = physical_batch(torch.zeros(2, 1, 4, 4), unit=Unit.HU, spacing_mm=(0.7, 0.7))
    for variant in run(CtSliceThickness(), batch)[0]:
        assert variant.images is batch.images
        assert variant.applicable.tolist() == [False, False]
        assert variant.reason == "one slice only"


def test_another_unit_is_refused_by_name(physical_batch, run):
    with pytest.raises(DataError, match=r"shift\.ct\.slice-thickness: expected images in HU"):
        run(CtSliceThickness(), physical_batch(torch.zeros(1, 1, 3, 4, 4), unit=Unit.MAGNITUDE))


def test_padding_stays_padding_and_gradients_are_the_weights(physical_batch, run):
    stack = noise(depth=9, side=2)
    stack[..., 0, 0] = -2000.0
    stack.requires_grad_()
    (variant,), _ = run(ladder(3), physical_batch(stack, unit=Unit.HU, spacing_mm=spaced(1.0)))
    assert (variant.images[..., 0, 0] == -2000).all()
    variant.images[0, 0, 4, 1, 1].backward()
    expected = torch.zeros(9)
    expected[3:6] = 1 / 3
    torch.testing.assert_close(stack.grad[0, 0, :, 1, 1], expected)


@pytest.mark.parametrize("value", [0, -1, 60, "thick"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtSliceThickness.level(value)
