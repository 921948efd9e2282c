"""Patient motion: closed form of the transfer function, mass and mean kept, direction."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_motion_blur import XrMotionBlur, moved

SPACING = torch.tensor([[0.5, 0.25]])


def spread(image):
    """Mass, and variance along rows and columns in pixels²."""
    mass = image.sum()
    axes = torch.arange(image.shape[0]).double()[:, None], torch.arange(image.shape[1]).double()
    variances = []
    for axis in axes:
        mean = (image * axis).sum() / mass
        variances.append(((image * (axis - mean) ** 2).sum() / mass).item())
    return mass.item(), variances


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, 0.7])
def test_a_point_becomes_a_line_of_the_length_asked_for(angle):
    rows, columns = torch.arange(101.0)[:, None], torch.arange(201.0)
    point = torch.exp(-0.5 * (((rows - 50) / 3) ** 2 + ((columns - 100) / 6) ** 2)).double()[None, None]
    _, before = spread(point[0, 0])
    mass, after = spread(moved(point, SPACING, 6.0, angle)[0, 0])
    assert mass == pytest.approx(point.sum().item(), rel=1e-6)
    added = [(b - a) * step**2 for a, b, step in zip(before, after, (0.5, 0.25), strict=True)]
    expected = [36 / 12 * math.sin(angle) ** 2, 36 / 12 * math.cos(angle) ** 2]
    assert added == pytest.approx(expected, abs=0.02)


def test_the_frequency_of_the_path_is_lost(physical_batch, run):
    phase = torch.cos(2 * math.pi * (torch.arange(256) + 0.5) / 16)  # 8 mm at 0.5 mm
    images = (0.4 * (1 + 0.2 * phase))[:, None].expand(1, 1, 256, 16).contiguous()
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(0.5, 0.5))
    levels = tuple(XrMotionBlur.level(path) for path in (2, 4, 8))
    variants, measured = run(XrMotionBlur(levels=levels, direction="vertical", display_curve="linear"), batch)
    for variant in variants:
        kept = (2 * (variant.images / 0.4 * phase[:, None]).mean() / 0.2).item()
        assert kept == pytest.approx(float(torch.sinc(torch.tensor(variant.level.value / 8))), abs=2e-3)
    assert measured["first_zero_per_mm", "8"].item() == 1 / 8
    assert measured["path_px", "8"].item() == pytest.approx(16)


def test_the_direction_is_drawn_for_each_case_and_shared_by_the_levels(physical_batch, run):
    point = torch.full((3, 1, 41, 41), 0.2)
    point[..., 20, 20] = 0.9
    batch = physical_batch(point, unit=Unit.SIGNAL, spacing_mm=(1.0, 1.0))
    shift = XrMotionBlur(levels=tuple(XrMotionBlur.level(path) for path in (6, 12)), display_curve="linear")
    variants, _ = run(shift, batch)
    axis = torch.arange(41.0) - 20
    moments = []
    for variant in variants:
        added = (variant.images - 0.2).clamp_min(0)[:, 0]
        both = (added * axis[:, None] * axis).sum((1, 2))
        moments.append(torch.atan2(2 * both, (added * (axis**2 - axis[:, None] ** 2)).sum((1, 2))) / 2)
    torch.testing.assert_close(moments[0], moments[1], atol=0.25, rtol=0)
    assert moments[0].std() > 0.05


def test_flat_exposure_is_kept(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 40, 30), 0.4), unit=Unit.SIGNAL, spacing_mm=(0.2, 0.2))
    for variant in run(XrMotionBlur(), batch)[0]:
        torch.testing.assert_close(variant.images, batch.images, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"), [({"levels": [-1]}, "a path in mm from 0 to 50"), ({"direction": "up"}, "one of any")]
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrMotionBlur.from_options(options)
