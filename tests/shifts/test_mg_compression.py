"""A thicker breast: volume kept, contrast of what flattens and of what does not, exposure control, the chest wall."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mg_compression import MgCompression, chest_wall

NO_SCATTER = {"scatter_to_primary_per_mm": 0.0}
PIXELS, SPACING = 160, 0.5
DECADE = math.log(10.0) * 1.5  # attenuation per unit of signal
ROWS, COLUMNS = torch.meshgrid(torch.arange(PIXELS) + 0.5, torch.arange(PIXELS) + 0.5, indexing="ij")


def disc(row, column, radius):
    return (((ROWS - row) ** 2 + (COLUMNS - column) ** 2).sqrt() < radius).float()


def mammogram(physical_batch, *extra, grey=0.3, radius=75.0, **more):
    """Half a disc of one tissue at the left edge, in air."""
    image = grey * disc(80, 0, radius) + sum(extra, torch.zeros(PIXELS, PIXELS))
    return replace(
        physical_batch(image[None, None], unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING), **more), modality="MG"
    )


def attenuation(images):
    return images[0, 0] * DECADE


@pytest.mark.parametrize("ratio", [0.8, 1.1, 1.3, 1.5])
def test_the_breast_keeps_its_volume_and_its_mean_exposure(physical_batch, run, ratio):
    batch = mammogram(physical_batch)
    (variant,), said = run(MgCompression(levels=(MgCompression.level(ratio),), **NO_SCATTER), batch)
    after = variant.images[0, 0]
    assert (after > 0.15).sum().item() == pytest.approx((batch.images > 0.15).sum().item() / ratio, rel=0.02)
    assert said["breast_area_ratio", str(ratio)].item() == pytest.approx(1 / ratio, rel=0.02)
    assert after[80, 10].item() == pytest.approx(0.3, abs=0.01)  # of one tissue: exposure control sees to its grey
    assert after[80, -10].item() == 0


@pytest.mark.parametrize("per_mm", [0.0, 0.0037, 0.0168])
def test_a_large_mass_flattens_with_the_breast_and_a_calcification_does_not(physical_batch, run, per_mm):
    mass, speck = 0.08 * disc(60, 30, 10.0), 0.2 * disc(100.5, 30.5, 0.6)
    batch = mammogram(physical_batch, mass, speck)
    shift = MgCompression(levels=(MgCompression.level(1.3),), scatter_to_primary_per_mm=per_mm, rigid_below_mm=2.0)
    (variant,), said = run(shift, batch)
    factor = math.sqrt(1.3)
    centre = 80 + (60 - 80) / factor, 30 / factor
    after, before = attenuation(variant.images), attenuation(batch.images)
    (row, column), far = (int(value) for value in centre), int(45 / factor)
    contrast = after[row, column] - after[80, far]
    assert (before[60, 30] - before[80, 45]).item() == pytest.approx(0.08 * DECADE, rel=1e-5)
    small = (1 + 55 * per_mm) / (1 + 1.3 * 55 * per_mm)
    assert said["small_contrast_factor", "1.3"].item() == pytest.approx(small)
    assert said["contrast_factor", "1.3"].item() == pytest.approx(1.3 * small)
    assert (contrast / (0.08 * DECADE)).item() == pytest.approx(1.3 * small, rel=0.05)
    place = int(80 + 20.5 / factor), int(30.5 / factor)
    patch = after[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3]
    ring = after[place[0] - 8, place[1]]
    share = (patch.max() - ring) / (0.2 * DECADE)
    assert 0.4 * small < share < 1.05 * small  # cubic interpolation takes from one pixel, nothing adds to it


def test_scatter_is_in_proportion_to_the_thickness_that_the_header_says(physical_batch, run):
    batch = mammogram(physical_batch, attributes=({"BodyPartThickness": "40"},))
    variants, said = run(MgCompression(), batch)
    for variant in variants:
        ratio = variant.level.value
        assert said["thickness_mm", variant.level.name].item() == pytest.approx(40 * ratio)
        assert said["scatter_to_primary", variant.level.name].item() == pytest.approx(0.0037 * 40 * ratio)
        assert variant.case_attributes == ({"BodyPartThickness": f"{40 * ratio:.8g}"},)
    _, unsaid = run(MgCompression(), mammogram(physical_batch))
    assert unsaid["thickness_mm", "1.2"].isnan().all()
    assert unsaid["scatter_to_primary", "1.2"].item() == pytest.approx(0.0037 * 55 * 1.2)


def test_a_right_breast_is_the_mirror_image_of_a_left_one(physical_batch, run):
    left = mammogram(physical_batch, 0.1 * disc(60, 30, 10.0))
    right = replace(left, images=left.images.flip(-1))
    for one, other in zip(run(MgCompression(), left)[0], run(MgCompression(), right)[0], strict=True):
        torch.testing.assert_close(one.images, other.images.flip(-1), rtol=0, atol=1e-4)


def test_masks_move_with_the_breast(physical_batch, run):
    mass = disc(60, 30, 10.0)
    batch = replace(mammogram(physical_batch, 0.1 * mass), lesion=mass[None, None] > 0, anatomy=mass[None, None] > 0)
    (variant,), _ = run(MgCompression(levels=(MgCompression.level(1.5),)), batch)
    places = variant.lesion[0, 0].nonzero().float().mean(0) + 0.5
    factor = math.sqrt(1.5)
    assert places.tolist() == pytest.approx([80 - 20 / factor, 30 / factor], abs=0.6)
    assert variant.lesion.sum().item() == pytest.approx(mass.sum().item() / 1.5, rel=0.05)
    assert torch.equal(variant.lesion, variant.anatomy)


def test_what_was_outside_of_the_field_is_said(physical_batch, run):
    _, whole = run(MgCompression(), mammogram(physical_batch))
    assert whole["mirrored_share", "1.5"].item() == 0
    _, said = run(MgCompression(), mammogram(physical_batch, radius=140.0))
    assert 0.02 < said["mirrored_share", "1.1"].item() < said["mirrored_share", "1.5"].item() < 0.5


def test_without_a_chest_wall_or_a_spacing_it_is_not_applicable(physical_batch, run):
    middle = physical_batch((0.3 * disc(80, 80, 40.0))[None, None], unit=Unit.SIGNAL, spacing_mm=(0.5, 0.5))
    for variant in run(MgCompression(), middle)[0]:
        assert not variant.applicable.any()
        assert variant.reason == "no chest wall at the left or right edge"
        assert torch.equal(variant.images, middle.images)
    unknown = replace(mammogram(physical_batch), spacing_mm=None)
    variants, _ = run(MgCompression(assumed_field_of_view_mm=0), unknown)
    assert {variant.reason for variant in variants} == {"pixel spacing unknown"}


def test_the_chest_wall_of_an_oblique_view_is_where_the_breast_is():
    inside = torch.zeros(2, 1, 10, 50, dtype=torch.bool)
    inside[0, :, 5:, :30] = True
    inside[1, :, :5, 20:] = True
    centre, attached = chest_wall(inside)
    assert centre[0].tolist() == pytest.approx([0.5, -1.0])
    assert centre[1].tolist() == pytest.approx([-0.5, 1.0])
    assert attached.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1)])
def test_tiny_and_flat_images_are_altered_or_named(physical_batch, run, shape):
    for value in (0.0, 0.4, 1.0):
        batch = physical_batch(torch.full((2, 1, *shape), value), unit=Unit.SIGNAL, spacing_mm=(0.1, 0.1))
        for variant in run(MgCompression(), batch)[0]:
            assert variant.images.isfinite().all()
            assert variant.applicable.all() or variant.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0.3]}, "expected a thickness over that of the source from 0.5 to 2"),
        ({"assumed_thickness_mm": 0}, "assumed_thickness_mm: expected a number above 0"),
        ({"scatter_to_primary_per_mm": -1}, "scatter_to_primary_per_mm: expected a number not below 0"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        MgCompression.from_options(options)
