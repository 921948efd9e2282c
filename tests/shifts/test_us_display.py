"""Gain, dynamic range and shadow of ultrasound, and what all ultrasound shifts keep."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts.us_dynamic_range import UsDynamicRange
from robustbench_rad.shifts.us_gain import UsGain
from robustbench_rad.shifts.us_shadow import UsShadow
from robustbench_rad.shifts.us_speckle import UsSpeckle

SHIFTS = [UsGain(), UsDynamicRange(), UsShadow(), UsSpeckle()]


def sector(size=64, count=2):
    """Echoes of random level in a sector, black outside."""
    images = 0.3 + 0.4 * torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    images[..., : size // 8] = 0.0
    return images


def test_gain_in_decibel_with_its_slope(physical_batch, run):
    images = sector()
    variants, measured = run(UsGain(depth_slope=0.5), physical_batch(images, unit=Unit.SIGNAL))
    for variant in variants[:4]:
        change = (variant.images - images)[..., 8:] * 60
        assert change[..., 0, :].mean().item() == pytest.approx(0.5 * variant.level.value, rel=0.05)
        assert change[..., -1, :].mean().item() == pytest.approx(1.5 * variant.level.value, rel=0.05)
        assert measured["gain_db", variant.level.name].tolist() == pytest.approx([variant.level.value] * 2, rel=1e-3)
        assert (measured["saturated_percent", variant.level.name] == 0).all()
    assert measured["saturated_percent", "15"].min() > 0
    assert measured["gain_db", "15"].max() < 15


def test_dynamic_range_is_steeper_and_goes_black(physical_batch, run):
    images = torch.linspace(0, 1, 61).expand(1, 1, 4, 61).contiguous()
    variants, measured = run(UsDynamicRange(), physical_batch(images, unit=Unit.SIGNAL))
    for variant in variants:
        weak = images < 1 - variant.level.value / 60 - 1e-6
        assert (variant.images[weak] == 0).all()
        assert (variant.images.diff(dim=-1) >= 0).all()
        assert variant.images[..., -1].eq(1).all()
        slope = (variant.images[..., -1] - variant.images[..., -4]).mean().item() * 60 / 3
        assert slope == pytest.approx(60 / variant.level.value, rel=1e-4)
    black = [measured["saturated_percent", variant.level.name].item() for variant in variants]
    assert black == sorted(black)
    assert not run(UsDynamicRange(dynamic_range_db=50), physical_batch(images, unit=Unit.SIGNAL))[0][0].applicable.any()


def test_a_shadow_weakens_echoes_by_decibels_behind_an_obstacle(physical_batch, run):
    images = torch.full((4, 1, 120, 160), 0.6)
    variants, measured = run(UsShadow(), physical_batch(images, unit=Unit.SIGNAL))
    for variant in variants:
        assert measured["shadow_db", variant.level.name].tolist() == pytest.approx([variant.level.value] * 4, rel=0.01)
        change = (images - variant.images)[:, 0] * 60
        assert change.amax((1, 2)).tolist() == pytest.approx([variant.level.value] * 4, rel=0.01)
        assert change[:, :6].abs().max() < 0.05 * variant.level.value
        assert (change[:, -1].amax(1) > 0.99 * variant.level.value).all()
    places = [(images - variants[-1].images)[case, 0, -1].argmax().item() for case in range(4)]
    assert len(set(places)) > 1


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
def test_what_all_ultrasound_shifts_keep(physical_batch, run, shift):
    images = sector()
    kept = images.clone()
    batch = physical_batch(images, unit=Unit.SIGNAL)
    neutral = replace(shift, levels=(type(shift).level(shift.neutral),))
    assert run(neutral, batch)[0][0].images is images
    for variant in run(shift, batch)[0]:
        assert (variant.images[..., :8] == 0).all()
        assert 0 <= variant.images.min() <= variant.images.max() <= 1
    assert torch.equal(images, kept)
    images = sector().requires_grad_()
    variants, _ = run(shift, physical_batch(images, unit=Unit.SIGNAL))
    (gradient,) = torch.autograd.grad(variants[0].images.sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2)])
def test_tiny_images_are_altered_or_named(physical_batch, run, shift, shape):
    for variant in run(shift, physical_batch(torch.full((1, 1, *shape), 0.5), unit=Unit.SIGNAL))[0]:
        assert variant.images.isfinite().all()
        assert variant.applicable is None or variant.applicable.all() or variant.reason


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.id)
def test_bad_input_is_refused_by_name(physical_batch, shift):
    with pytest.raises(DataError, match=rf"{shift.id}: expected images in signal"):
        shift.apply(physical_batch(sector(), unit=Unit.HU), None, None)
    with pytest.raises(ImageError, match=rf"{shift.id}: expected presentation signal in \[0, 1\]"):
        shift.apply(physical_batch(255 * sector(), unit=Unit.SIGNAL), None, None)


@pytest.mark.parametrize(
    ("shift", "options"),
    [(UsGain, {"depth_slope": 2}), (UsGain, {"levels": [100]}), (UsDynamicRange, {"levels": [0]})],
)
def test_bad_options_are_refused(shift, options):
    with pytest.raises(PlanError, match=shift.id):
        shift.from_options(options)
