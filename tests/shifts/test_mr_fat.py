"""Fat in MR: where it is looked for, chemical shift, and suppression that fails."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._mr_fat import body, skin_layer
from robustbench_rad.shifts.mr_chemical_shift import MrChemicalShift
from robustbench_rad.shifts.mr_fat_sat_failure import MrFatSatFailure


def abdomen(count=2, size=96, fat=1.0):
    """A disc of tissue in a ring of fat, with a dark hole."""
    axis = torch.linspace(-1, 1, size)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    plane = fat * ((radius < 0.8) & (radius >= 0.7)) + 0.4 * ((radius < 0.7) & (radius > 0.1))
    return plane.expand(count, 1, size, size).clone()


def test_holes_belong_to_the_body_and_the_layer_is_as_deep_as_asked():
    inside = abdomen(1)[0] > 0
    filled = body(inside)
    assert filled[0, 48, 48]
    assert not inside[0, 48, 48]
    layer = skin_layer(inside, (4, 4))
    assert layer[0, 48].sum() == 8
    assert not layer[0, 48, 20:76].any()


@pytest.mark.parametrize(("encoding", "axis"), [("column", -1), ("row", -2)])
def test_fat_moves_along_the_readout_and_water_stays(physical_batch, run, encoding, axis):
    images = abdomen()
    batch = physical_batch(images, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    variants, measured = run(MrChemicalShift(phase_encoding=encoding), batch)
    for variant in variants:
        assert variant.images.sum((1, 2, 3)).tolist() == pytest.approx(images.sum((1, 2, 3)).tolist(), rel=1e-5)
        assert torch.equal(variant.images[..., 40:56, 40:56], images[..., 40:56, 40:56])
    fat = images * (images > 0.9)
    whole = variants[1]  # one pixel
    for case in range(2):
        candidates = [images[case] - fat[case] + fat[case].roll(side, axis) for side in (-1, 1)]
        assert min((whole.images[case] - candidate).abs().max() for candidate in candidates) < 1e-5
    assert measured["fat_percent", "1"][0].item() == pytest.approx(
        100 * (fat[0].sum() / images[0].sum()).item(), rel=1e-4
    )


def test_an_image_without_bright_fat_is_not_applicable(physical_batch, run):
    dark = abdomen(fat=0.15)
    variants, _ = run(MrChemicalShift(depth_mm=2), physical_batch(dark, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0)))
    assert not variants[0].applicable.any()
    assert "no bright fat" in variants[0].reason
    variants, _ = run(MrChemicalShift(), physical_batch(abdomen(), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()


def test_failed_suppression_lights_up_a_part_of_the_layer(physical_batch, run):
    images = abdomen(fat=0.15)
    batch = physical_batch(images, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0))
    variants, measured = run(MrFatSatFailure(), batch)
    mean = images[0][images[0] > 0.1 * 0.4].mean().item()
    for variant in variants:
        added = (variant.images - images)[0, 0]
        assert 100 * added.max().item() / mean == pytest.approx(variant.level.value, rel=0.05)
        assert added[40:56, 40:56].abs().max() == 0.0
        assert measured["fat_percent", variant.level.name][0].item() == pytest.approx(variant.level.value, rel=0.05)
        assert 2 < measured["failed_layer_percent", variant.level.name][0].item() < 60
