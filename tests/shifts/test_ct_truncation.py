"""Truncated projections: against a reconstruction of the truncated projections themselves, rim, cut bodies."""

from itertools import pairwise

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._ct_kernels import KERNELS
from robustbench_rad.shifts.ct_truncation import CtTruncation, body_radius_mm, distance_mm

PIXEL = 3.0


def ladder(*values, **options):
    return CtTruncation(levels=tuple(map(CtTruncation.level, values)), **options)


def body(radius_mm=150.0, count=1):
    images = torch.where(distance_mm(torch.zeros(1, 128, 128), PIXEL) < radius_mm, 0.0, -1000.0)
    return images.expand(count, 1, 128, 128).clone()


@pytest.fixture
def bodies(physical_batch):
    return physical_batch(body(count=2), unit=Unit.HU, spacing_mm=(PIXEL, PIXEL))


@pytest.mark.parametrize("extrapolation_mm", [0.0, 20.0])
def test_it_is_the_reconstruction_of_the_truncated_projections(bodies, run, extrapolation_mm):
    shift = ladder(30, extrapolation_mm=extrapolation_mm)
    (variant,), measured = run(shift, bodies)
    radius = measured["scan_field_mm", "30"][0].item() / 2
    scan = physics.Scan(
        slices_hu=bodies.images[0],
        spacing_mm=torch.tensor([PIXEL]),
        seeds=(0,),
        kernels=(KERNELS["soft"],),
        window="ram-lak",
    )
    expected = scan.reconstruct(scan.line_integrals() * shift._kept(scan, radius))[0] - 1000.0
    well_inside = distance_mm(expected[None], PIXEL) < radius - 15  # away from the edge that a reprojection blurs
    difference = (variant.images[0, 0] - expected)[well_inside]
    assert difference.abs().mean() < 6.0
    assert (variant.images[0, 0][well_inside]).std() > difference.std()


def test_the_rim_is_bright_and_grows_with_what_is_cut_off(bodies, run):
    variants, measured = run(CtTruncation(), bodies)
    rims = [measured["rim_hu", variant.level.name][0].item() for variant in variants]
    centres = [measured["centre_hu", variant.level.name][0].item() for variant in variants]
    assert all(later > earlier > 0 for earlier, later in pairwise(rims))
    assert all(rim > 2 * abs(centre) for rim, centre in zip(rims, centres, strict=True))
    for variant in variants:
        outside = distance_mm(bodies.images[0], PIXEL) > 150 - variant.level.value + PIXEL
        assert (variant.images[:, 0, outside] == -1000).all()


def test_without_continuation_the_rim_is_brighter(bodies, run):
    rims = [run(ladder(20, extrapolation_mm=mm), bodies)[1]["rim_hu", "20"][0].item() for mm in (0.0, 40.0)]
    assert rims[0] > 1.3 * rims[1]


def test_zero_is_the_very_image_and_volumes_go_slice_by_slice(physical_batch, run):
    stack = body(count=2).reshape(1, 1, 2, 128, 128)
    batch = physical_batch(stack, unit=Unit.HU, spacing_mm=torch.tensor([[5.0, PIXEL, PIXEL]]))
    (same, cut), _ = run(ladder(0, 20), batch)
    assert same.images is batch.images
    assert torch.equal(cut.images[:, :, 0], cut.images[:, :, 1])


def test_the_body_is_measured_without_a_table(physical_batch):
    images = body()
    images[..., 127, 60:68] = 100.0
    assert body_radius_mm(images, torch.tensor([PIXEL])).item() == pytest.approx(150, abs=PIXEL)


def test_cut_bodies_air_and_unknown_spacing_are_not_applicable(physical_batch, run):
    images = torch.cat([body(), body(400.0), body(0.0), body(30.0), body()])
    spacing = torch.full((5, 2), PIXEL)
    spacing[4] = torch.nan
    (variant,), measured = run(ladder(20), physical_batch(images, unit=Unit.HU, spacing_mm=spacing))
    assert variant.applicable.tolist() == [True, False, False, False, False]
    assert variant.reason == (
        "pixel spacing unknown, body reaches the border of the image, no body, or one too small for the scan field"
    )
    assert torch.equal(variant.images[1:], images[1:])
    assert measured["rim_hu", "20"].isnan().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("value", [-1, 300, "far"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtTruncation.level(value)
