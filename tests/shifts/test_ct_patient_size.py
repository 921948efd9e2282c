"""Patient size: the photons that are left, the noise they make, and its independence from that of a lower dose."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_patient_size import CtPatientSize

NO_ELECTRONIC = {"electronic_noise_quanta": 0.0}


def body(count=2, noise_hu=14.0):
    axis = (torch.arange(96) - 47.5) * 3.0
    disc = torch.hypot(axis[:, None], axis) < 130
    noise = noise_hu * torch.randn(count, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    return torch.where(disc, 50.0 + noise, -1000.0)


@pytest.fixture
def bodies(physical_batch):
    return physical_batch(body(), unit=Unit.HU, spacing_mm=(3.0, 3.0))


def test_noise_grows_with_the_root_of_the_photons_that_are_lost(bodies, run):
    variants, measured = run(CtPatientSize(**NO_ELECTRONIC), bodies)
    native = body(1)[0, 0, 40:56, 40:56].std().item()
    for variant, centimetres in zip(variants, (2, 4, 6, 8, 10), strict=True):
        expected = native * math.sqrt(math.exp(0.19 * centimetres) - 1)
        name = variant.level.name
        assert measured["added_noise_sd_requested_hu", name].mean().item() == pytest.approx(expected, rel=0.1)
        torch.testing.assert_close(
            measured["added_noise_sd_hu", name], measured["added_noise_sd_requested_hu", name], rtol=0.03, atol=0
        )
        assert measured["photon_fraction", name][0].item() == pytest.approx(math.exp(-0.19 * centimetres), rel=1e-4)
        assert variant.applicable.all()


def test_it_is_the_noise_of_the_same_fraction_of_the_dose_but_another_draw(bodies, run):
    (larger,), measured = run(CtPatientSize(levels=(CtPatientSize.level(4),)), bodies)
    (lower,), dose = run(CtDose(levels=(CtDose.level(math.exp(-0.76)),)), bodies)
    torch.testing.assert_close(
        measured["added_noise_sd_hu", "4"], dose["added_noise_sd_hu", str(math.exp(-0.76))], rtol=0.1, atol=0
    )
    extra = torch.stack([(v.images - bodies.images)[0].flatten() for v in (larger, lower)])
    assert abs(torch.corrcoef(extra)[0, 1].item()) < 0.05


def test_zero_is_the_very_image_and_levels_share_their_draw(bodies, run):
    (same, two, four), _ = run(CtPatientSize(levels=tuple(map(CtPatientSize.level, (0, 2, 4)))), bodies)
    assert same.images is bodies.images
    extra = torch.stack([(v.images - bodies.images)[0].flatten() for v in (two, four)])
    assert torch.corrcoef(extra)[0, 1].item() > 0.99


def test_without_spacing_or_noise_a_case_is_not_applicable(physical_batch, run):
    images = torch.cat([body(1), body(1, noise_hu=0.0), body(1)])
    spacing = torch.tensor([(3.0, 3.0), (3.0, 3.0), (torch.nan, torch.nan)])
    (variant, *_), measured = run(CtPatientSize(), physical_batch(images, unit=Unit.HU, spacing_mm=spacing))
    assert variant.applicable.tolist() == [True, False, False]
    assert variant.reason == "pixel spacing unknown, no native noise to be read: no soft tissue, or no noise"
    assert torch.equal(variant.images[1:], images[1:])
    assert measured["added_noise_sd_hu", "2"].isnan().tolist() == [False, True, True]
    (nothing, *_), _ = run(CtPatientSize(), physical_batch(images, unit=Unit.HU))
    assert nothing.images is images or torch.equal(nothing.images, images)
    assert not nothing.applicable.any()


@pytest.mark.parametrize("value", [-1, 31, "obese"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtPatientSize.level(value)
