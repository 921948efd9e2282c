"""Rotation, translation and scale: where a point goes, in pixels and millimetres, with its masks and spacing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts.geometry_affine import GeometryRotate, GeometryScale, GeometryTranslate

SIZE = 65
MIDDLE = 32.0


def blob(row, column, *, shape=(SIZE, SIZE), width=2.5):
    """A smooth spot on a flat background."""
    v, u = torch.arange(shape[0])[:, None], torch.arange(shape[1])
    return 0.2 + 0.6 * torch.exp(-((v - row) ** 2 + (u - column) ** 2) / (2 * width**2))


def centre(image):
    """Centroid of what is brighter than the background."""
    weights = (image - 0.2).clamp_min(0).squeeze()
    v, u = torch.arange(weights.shape[0]), torch.arange(weights.shape[1])
    return (weights.sum(1) * v).sum() / weights.sum(), (weights.sum(0) * u).sum() / weights.sum()


def moved(run, batch, shift):
    (variant,), measured = run(shift, batch)
    return variant, measured


@pytest.mark.parametrize(("direction", "sign"), [("counter-clockwise", 1), ("clockwise", -1)])
@pytest.mark.parametrize("degrees", [2, 10, 25])
def test_a_point_turns_about_the_centre_by_the_angle(physical_batch, run, direction, sign, degrees):
    batch = physical_batch(blob(MIDDLE, MIDDLE + 20)[None, None], unit=Unit.SIGNAL)
    shift = GeometryRotate(levels=(GeometryRotate.level(degrees),), direction=direction, fill="edge")
    variant, measured = moved(run, batch, shift)
    row, column = centre(variant.images)
    angle = torch.deg2rad(torch.tensor(float(degrees * sign)))
    assert row == pytest.approx(float(MIDDLE - 20 * angle.sin()), abs=0.1)
    assert column == pytest.approx(float(MIDDLE + 20 * angle.cos()), abs=0.1)
    assert measured["rotation_deg", str(degrees)].item() == degrees * sign


def test_turning_is_meant_in_millimetres_where_pixels_are_not_square(physical_batch, run):
    """A point 20 mm to the right goes 20 mm up: ten rows of 2 mm."""
    batch = physical_batch(blob(MIDDLE, MIDDLE + 20)[None, None], unit=Unit.SIGNAL, spacing_mm=(2.0, 1.0))
    shift = GeometryRotate(levels=(GeometryRotate.level(90),), direction="counter-clockwise", fill="edge")
    row, column = centre(moved(run, batch, shift)[0].images)
    assert (float(row), float(column)) == pytest.approx((MIDDLE - 10, MIDDLE), abs=0.1)


@pytest.mark.parametrize(
    ("direction", "rows", "columns"), [("right", 0, 1), ("left", 0, -1), ("up", -1, 0), ("down", 1, 0)]
)
def test_a_point_moves_by_the_share_of_the_shorter_side(physical_batch, run, direction, rows, columns):
    image = blob(20, 40, shape=(50, 80))
    batch = physical_batch(image[None, None], unit=Unit.SIGNAL)
    shift = GeometryTranslate(levels=(GeometryTranslate.level(12),), direction=direction, fill="edge")
    variant, measured = moved(run, batch, shift)
    row, column = centre(variant.images)
    assert (float(row), float(column)) == pytest.approx((20 + 6 * rows, 40 + 6 * columns), abs=0.1)
    assert measured["translation_rows_px", "12"].item() == pytest.approx(6 * rows, abs=1e-5)
    assert measured["translation_columns_px", "12"].item() == pytest.approx(6 * columns, abs=1e-5)


@pytest.mark.parametrize("factor", [0.7, 0.95, 1.3])
def test_size_and_spacing_follow_the_factor(physical_batch, run, factor):
    batch = physical_batch(blob(20, 44)[None, None], unit=Unit.SIGNAL, spacing_mm=(0.5, 0.25))
    shift = GeometryScale(levels=(GeometryScale.level(factor),), fill="edge")
    variant, _ = moved(run, batch, shift)
    row, column = centre(variant.images)
    assert (float(row), float(column)) == pytest.approx((32 - 12 * factor, 32 + 12 * factor), abs=0.15)
    torch.testing.assert_close(variant.spacing_mm, torch.tensor([[0.5, 0.25]]) / factor)


def test_masks_move_with_the_image_and_nothing_comes_in_from_outside(physical_batch, run):
    image = torch.full((1, 1, 40, 40), 0.3)
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    mask[..., 10:20, 0:10] = True
    batch = replace(physical_batch(image, unit=Unit.SIGNAL), anatomy=mask, lesion=mask.clone())
    shift = GeometryTranslate(levels=(GeometryTranslate.level(10),), direction="right")
    variant, _ = moved(run, batch, shift)
    expected = torch.zeros_like(mask)
    expected[..., 10:20, 4:14] = True
    assert torch.equal(variant.anatomy, expected)
    assert torch.equal(variant.lesion, expected)


def test_what_comes_into_view_is_dark_or_the_edge(physical_batch, run):
    image = torch.full((1, 1, 20, 20), 0.6)
    image[..., 0, 0] = 0.1
    batch = physical_batch(image, unit=Unit.SIGNAL)
    for fill, value in (("darkest", 0.1), ("edge", 0.6)):
        shift = GeometryTranslate(levels=(GeometryTranslate.level(50),), direction="right", fill=fill)
        assert moved(run, batch, shift)[0].images[0, 0, 15, 3].item() == pytest.approx(value, abs=1e-6)


def test_padding_of_ct_stays_and_is_not_smeared_into_the_patient(physical_batch, run):
    image = torch.full((1, 1, 32, 32), 40.0)
    image[..., :6, :] = -2000.0
    batch = physical_batch(image, unit=Unit.HU)
    for shift in (GeometryRotate(), GeometryTranslate(), GeometryScale()):
        for variant in run(shift, batch)[0]:
            assert (variant.images[..., :6, :] == -2000.0).all()
            assert variant.images[..., 6:, :].min() >= -1000.0


def test_interpolation_never_leaves_the_range_of_the_source(physical_batch, run):
    step = (torch.arange(32) > 15).float().expand(1, 1, 32, 32)
    batch = physical_batch(step.clone(), unit=Unit.SIGNAL)
    for variant in run(GeometryRotate(), batch)[0]:
        assert variant.images.min() >= 0.0
        assert variant.images.max() <= 1.0


def test_slices_of_a_volume_move_alike_and_keep_their_distance(physical_batch, run):
    image = torch.rand(2, 1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    volume = physical_batch(image, unit=Unit.MAGNITUDE, spacing_mm=(4.0, 1.0, 1.0))
    alone = replace(volume, images=image[:, :, 1], spacing_mm=volume.spacing_mm[:, 1:])
    for shift in (GeometryRotate(fill="edge"), GeometryTranslate(fill="edge"), GeometryScale(fill="edge")):
        for whole, one in zip(run(shift, volume)[0], run(shift, alone)[0], strict=True):
            inside = slice(2, -2)  # the range limit is that of the volume or of its slice
            assert (whole.images[:, :, 1, inside, inside] - one.images[..., inside, inside]).abs().mean() < 1e-3
            if whole.spacing_mm is not None:
                assert torch.equal(whole.spacing_mm[:, 0], torch.tensor([4.0, 4.0]))


def test_the_way_is_drawn_per_case_and_shared_by_the_levels(physical_batch, run):
    batch = physical_batch(torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(1)), unit=Unit.SIGNAL)
    _, measured = run(GeometryRotate(), batch)
    signs = torch.stack([measured["rotation_deg", level.name].sign() for level in GeometryRotate().levels])
    assert (signs == signs[0]).all()
    assert signs[0].unique().numel() == 2


@settings(max_examples=20, deadline=None)
@given(degrees=st.floats(-180, 180), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_any_angle_and_any_small_image_gives_finite_pixels_within_its_range(
    physical_batch, run, degrees, rows, columns
):
    image = torch.rand(1, 1, rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    batch = physical_batch(image, unit=Unit.SIGNAL)
    variant, _ = moved(run, batch, GeometryRotate(levels=(GeometryRotate.level(degrees),)))
    assert variant.images.shape == image.shape
    assert variant.images.min() >= image.min()
    assert variant.images.max() <= image.max()


def test_gradients_flow_back_to_the_image(physical_batch, run):
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    variant, _ = moved(run, physical_batch(image, unit=Unit.SIGNAL), GeometryRotate(levels=(GeometryRotate.level(7),)))
    variant.images.sum().backward()
    assert image.grad.abs().sum() > 100


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"fill": "white"}, "fill"), ({"direction": "north"}, "direction"), ({"levels": [200]}, "degrees")],
)
def test_options_without_meaning_are_refused(options, problem):
    with pytest.raises(PlanError, match=problem):
        GeometryRotate.from_options(options)


def test_bad_images_are_refused_by_name(physical_batch, run):
    broken = torch.full((2, 1, 8, 8), 0.5)
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(ImageError, match=r"shift.geometry.scale.*case-1"):
        run(GeometryScale(), physical_batch(broken, unit=Unit.SIGNAL))
    with pytest.raises(ImageError, match=r"signal in \[0, 1\]"):
        run(GeometryScale(), physical_batch(torch.full((1, 1, 8, 8), 3.0), unit=Unit.SIGNAL))
    with pytest.raises(DataError, match="shape"):
        run(GeometryScale(), physical_batch(torch.zeros(1, 3, 8, 8), unit=Unit.SIGNAL))
