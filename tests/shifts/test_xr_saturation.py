"""Burn-out: the share asked for, on the side of much exposure, and the display range set anew."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_saturation import XrSaturation


def ramp():
    """10,000 different grey levels inside the scale, and as many saturated pixels."""
    inside = (torch.arange(10_000.0) + 1) / 10_002
    return torch.cat([inside, torch.zeros(5_000), torch.ones(5_000)]).reshape(1, 1, 100, 200)


@pytest.mark.parametrize("curve", ["log-linear", "linear"])
def test_the_share_of_the_unsaturated_pixels_is_burnt_out(physical_batch, run, curve):
    batch = physical_batch(ramp(), unit=Unit.SIGNAL)
    variants, measured = run(XrSaturation(display_curve=curve), batch)
    end = 0.0 if curve == "log-linear" else 1.0
    for variant in variants:
        share = variant.level.value / 100
        assert measured["burnt_share", variant.level.name].item() == pytest.approx(share, abs=2e-4)
        burnt = (variant.images == end).sum().item() - 5_000
        assert burnt == pytest.approx(share * 10_000, abs=2)


def test_without_rescaling_the_burn_is_an_even_grey_and_the_rest_stays(physical_batch, run):
    batch = physical_batch(ramp(), unit=Unit.SIGNAL)
    (variant,), _ = run(XrSaturation(levels=(XrSaturation.level(10),), rescale=False), batch)
    clip = 1000 / 10_002
    inside = (batch.images > 0) & (batch.images < 1)
    torch.testing.assert_close(variant.images[inside], batch.images[inside].clamp_min(clip))


def test_rescaling_is_linear_above_the_clip(physical_batch, run):
    batch = physical_batch(ramp(), unit=Unit.SIGNAL)
    (variant,), _ = run(XrSaturation(levels=(XrSaturation.level(10),)), batch)
    clip = 1000 / 10_002
    rest = (batch.images > clip) & (batch.images < 1)
    torch.testing.assert_close(variant.images[rest], (batch.images[rest] - clip) / (1 - clip))


def test_a_lesion_that_is_burnt_out_is_measured(physical_batch, run):
    lesion = ramp() < 0.03
    batch = replace(physical_batch(ramp(), unit=Unit.SIGNAL), lesion=lesion & (ramp() > 0), lesion_known=(True,))
    _, measured = run(XrSaturation(), batch)
    shares = [measured["lesion_share", name].item() for name in ("1", "3", "6")]
    assert shares == pytest.approx([2 / 3, 0, 0], abs=0.01)


def test_an_image_that_is_saturated_everywhere_is_not_applicable(physical_batch, run):
    variants, _ = run(XrSaturation(), physical_batch(torch.ones(1, 1, 4, 4), unit=Unit.SIGNAL))
    assert not variants[0].applicable.any()
    assert variants[0].reason == "all pixels are saturated"


def test_bad_levels_are_refused():
    with pytest.raises(PlanError, match="a share of the pixels in % from 0 to 60, got 70"):
        XrSaturation.from_options({"levels": [70]})
