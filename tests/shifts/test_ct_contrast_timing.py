"""Contrast timing: the enhancement of a vessel, its noise and edge, cases without mask or contrast medium."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.misfits import MISFIT
from robustbench_rad.shifts.ct_contrast_timing import CtContrastTiming


def vessel(noise_hu=0.0, enhancement_hu=200.0, count=3):
    """Discs of blood in fat, and their masks."""
    axis = torch.arange(48) - 23.5
    mask = (torch.hypot(axis[:, None], axis) < 12).expand(count, 1, -1, -1)
    noise = noise_hu * torch.randn(count, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    return torch.where(mask, 40.0 + enhancement_hu, -90.0) + noise, mask.clone()


@pytest.fixture
def enhanced(physical_batch):
    images, mask = vessel()
    return replace(physical_batch(images, unit=Unit.HU), anatomy=mask)


def test_the_enhancement_is_scaled_and_nothing_outside_of_the_mask(enhanced, run):
    variants, measured = run(CtContrastTiming(), enhanced)
    for variant, expected in zip(variants, (190.0, 140.0, 90.0, 40.0, 340.0), strict=True):
        assert variant.applicable.all()
        assert variant.reason == ""
        inside = variant.images[enhanced.anatomy]
        torch.testing.assert_close(inside, torch.full_like(inside, expected), rtol=0, atol=0.1)
        assert torch.equal(variant.images[~enhanced.anatomy], enhanced.images[~enhanced.anatomy])
        name = variant.level.name
        torch.testing.assert_close(measured["enhancement_hu", name], measured["enhancement_requested_hu", name])
    assert measured["source_iodine_mg_per_ml", ""][0].item() == pytest.approx(200 / 26.6, rel=1e-3)


def test_noise_is_not_scaled_along(physical_batch, run):
    images, mask = vessel(noise_hu=15.0)
    batch = replace(physical_batch(images, unit=Unit.HU), anatomy=mask)
    variants, _ = run(CtContrastTiming(), batch)
    without = variants[3].images[mask]
    assert without.mean().item() == pytest.approx(40.0, abs=3.0)
    assert without.std().item() == pytest.approx(15.0, rel=0.1)


def test_one_is_the_very_image(enhanced, run):
    shift = CtContrastTiming(levels=(CtContrastTiming.level(1),))
    assert run(shift, enhanced)[0][0].images is enhanced.images


def test_without_a_mask_or_contrast_medium_a_case_is_not_applicable(enhanced, physical_batch, run):
    variants, _ = run(CtContrastTiming(), replace(enhanced, anatomy=None))
    assert not variants[0].applicable.any()
    assert variants[0].reason == "no anatomy mask of the enhanced structures"
    wrong = replace(enhanced, anatomy=None, anatomy_misfit=(True,) * len(enhanced))
    assert run(CtContrastTiming(), wrong)[0][0].reason == MISFIT
    without = "no lesion mask of the enhanced structures"
    assert run(CtContrastTiming(mask="lesion"), wrong)[0][0].reason == without
    images, mask = vessel(enhancement_hu=5.0)
    images, mask = torch.cat([images[:1], enhanced.images[:2]]), torch.cat([mask[:1], mask[:1] & False, mask[:1]])
    variants, measured = run(CtContrastTiming(), replace(physical_batch(images, unit=Unit.HU), anatomy=mask))
    assert variants[0].applicable.tolist() == [False, False, True]
    assert "no enhancement inside the mask" in variants[0].reason
    assert torch.equal(variants[0].images[:2], images[:2])
    assert measured["enhancement_hu", "0.5"].isnan().tolist() == [True, True, False]


def test_volumes_and_gradients(physical_batch, run):
    images, mask = vessel(count=1)
    stack = images[:, :, None].repeat(1, 1, 2, 1, 1).requires_grad_()
    batch = replace(physical_batch(stack, unit=Unit.HU), lesion=mask[:, :, None].repeat(1, 1, 2, 1, 1))
    variants, _ = run(CtContrastTiming(mask="lesion"), batch)
    assert variants[3].images[0, 0, 1, 24, 24].item() == pytest.approx(40.0, abs=0.1)
    variants[3].images.sum().backward()
    assert stack.grad.isfinite().all()
    assert stack.grad[0, 0, 0, 0, 0] == 1


@pytest.mark.parametrize("value", [-0.1, 6, "much"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtContrastTiming.level(value)
