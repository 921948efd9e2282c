"""Plates and screws: along the bone, in millimetres, longer covers shorter."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._overlay import Canvas
from robustbench_rad.shifts.xr_metal_hardware import XrMetalHardware, front_view, screw_places, side_view

PIXELS, SPACING = 128, 2.0


def bone(angle, count=6):
    """A bright band through the point 20 mm to the right of the centre."""
    canvas = Canvas.of(torch.zeros(1, PIXELS, PIXELS), torch.tensor([SPACING, SPACING]))
    band = canvas.plate((20.0, 0.0), 200.0, 24.0, angle, 5.0)
    return (0.2 + 0.3 * band).expand(count, 1, PIXELS, PIXELS).contiguous(), canvas


@pytest.mark.parametrize("angle", [0.3, 1.4, -0.8])
def test_the_plate_lies_on_the_bone_and_along_it(physical_batch, run, angle):
    images, canvas = bone(angle)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    (variant,), _ = run(XrMetalHardware(levels=(XrMetalHardware.level(100),)), batch)
    for added in (variant.images - images)[:, 0]:
        x, y = ((added * axis).sum() / added.sum() for axis in (canvas.x, canvas.y))
        assert math.hypot(x - 20.0, y) < 14  # screws seen from the side lie beside the plate
        across, down = canvas.x - x, canvas.y - y
        found = 0.5 * math.atan2(2 * (added * across * down).sum(), (added * (across**2 - down**2)).sum())
        assert math.cos(2 * (found - angle)) > 0.98


def test_both_views_are_drawn(physical_batch, run):
    images, _ = bone(0.0, count=12)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    _, measured = run(XrMetalHardware(), batch)
    assert len(set(measured["covered_share", "180"].tolist())) == 2


def test_longer_plates_cover_more(physical_batch, run):
    images, _ = bone(0.5)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    variants, measured = run(XrMetalHardware(), batch)
    covered = torch.stack([measured["covered_share", variant.level.name] for variant in variants])
    assert (covered.diff(dim=0) > 0).all()
    assert [measured["screws", variant.level.name][0].item() for variant in variants] == [2, 4, 6, 8, 11]
    for variant in variants:
        assert (variant.images >= images - 1e-6).all()


def test_sizes_are_millimetres():
    canvas = Canvas.of(torch.zeros(1, 400, 400), torch.tensor([0.5, 0.5]))
    front = front_view(canvas, (0.0, 0.0), 0.0, 100.0)
    across = (front > 0.5).any(1).sum().item() * 0.5, (front > 0.5).any(0).sum().item() * 0.5
    assert across == pytest.approx((12.0, 100.0), abs=1.0)
    side = side_view(canvas, (0.0, 0.0), 0.0, 100.0)
    assert (side > 0.4).any(1).sum().item() * 0.5 == pytest.approx(2 + 28 + 1.75, abs=1.0)
    assert side.max() == 1
    assert [b - a for a, b in zip(screw_places(100.0), screw_places(100.0)[1:], strict=False)] == [16.0] * 5


def test_a_flat_image_gets_the_plate_in_its_middle(physical_batch, run):
    images = torch.full((1, 1, PIXELS, PIXELS), 0.4)
    lesion = torch.zeros(1, 1, PIXELS, PIXELS, dtype=torch.bool)
    lesion[..., 60:68, 60:68] = True
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    (variant,), measured = run(
        XrMetalHardware(levels=(XrMetalHardware.level(100),)), replace(batch, lesion=lesion, lesion_known=(True,))
    )
    assert variant.images[0, 0, 64, 64] > 0.9
    assert measured["lesion_share", "100"] < 0.8


def test_bad_levels_are_refused():
    with pytest.raises(PlanError, match="the length of a plate in mm from 0 to 400, got 1000"):
        XrMetalHardware.from_options({"levels": [1000]})
