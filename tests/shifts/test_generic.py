"""The thirteen ImageNet-C names: known answers, what severities do, and that they never count."""

import math

import pytest
import torch

from robustbench_rad.checks import defaults
from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.registry import catalogue
from robustbench_rad.shifts.generic_blur import disc, smear, zoomed_through
from robustbench_rad.shifts.generic_form import smoothed, warped

IDS = sorted(id for id in catalogue() if id.startswith("shift.generic."))
NOISE = ("gaussian-noise", "shot-noise", "impulse-noise", "speckle-noise")
BLUR = ("gaussian-blur", "defocus-blur", "motion-blur", "zoom-blur")
NAMES = (*NOISE, *BLUR, "brightness", "contrast", "elastic", "pixelate", "jpeg")


@pytest.fixture
def display(physical_batch):
    def make(images):
        return physical_batch(images, unit=None, space=Space.DISPLAY)

    return make


def grey(count=2, size=96):
    return torch.full((count, 1, size, size), 0.5)


def textured(count=2, size=64):
    axis = torch.arange(size) / 5
    pattern = 0.5 + 0.25 * torch.sin(axis)[:, None] * torch.cos(axis)
    return pattern.expand(count, 1, size, size).contiguous()


def made(id, *levels):
    return catalogue()[id].load().from_options({"levels": list(levels)} if levels else {})


def test_the_thirteen_are_there_and_none_of_them_is_judged():
    assert sorted(f"shift.generic.{name}" for name in NAMES) == IDS
    assert all(defaults(id).informational for id in IDS)


@pytest.mark.parametrize("id", IDS)
def test_every_severity_alters_and_stays_in_range_and_none_leaves_the_image(id, display, run):
    batch = display(textured())
    variants, measured = run(made(id, 0, 1, 2, 3, 4, 5), batch)
    assert variants[0].images is batch.images
    for variant in variants[1:]:
        assert not torch.equal(variant.images, batch.images)
        assert variant.images.min() >= 0
        assert variant.images.max() <= 1
    assert len(measured) == 5


@pytest.mark.parametrize("id", [id for id in IDS if "elastic" not in id])
def test_a_higher_severity_does_more(id, display, run):
    """Elastic is left out: its published constants change their nature from the second to the third severity."""
    batch = display(textured())
    variants, _ = run(made(id), batch)
    changes = torch.tensor([(v.images - batch.images).abs().mean() for v in variants])
    assert (changes.diff() > -2e-3).all()
    assert changes[-1] > changes[0]


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_gaussian_noise_has_the_published_size(severity, display, run):
    (variant,), measured = run(made("shift.generic.gaussian-noise", severity), display(grey()))
    expected = (0.08, 0.12, 0.18)[severity - 1]
    assert variant.images.std().item() == pytest.approx(expected, rel=0.03)
    assert measured["noise_sd", str(severity)].tolist() == pytest.approx([expected] * 2)


def test_shot_noise_is_that_of_its_counts(display, run):
    (variant,), _ = run(made("shift.generic.shot-noise", 1), display(grey()))
    assert variant.images.var().item() == pytest.approx(0.5 / 60, rel=0.03)
    assert variant.images.mean().item() == pytest.approx(0.5, abs=0.003)


def test_impulses_are_as_many_as_said_and_those_of_a_lower_severity_stay(display, run):
    variants, _ = run(made("shift.generic.impulse-noise"), display(grey(4, 128)))
    hit = [v.images != 0.5 for v in variants]
    for mask, share in zip(hit, (0.03, 0.06, 0.09, 0.17, 0.27), strict=True):
        assert mask.float().mean().item() == pytest.approx(share, rel=0.05)
    assert (hit[0] <= hit[4]).all()


def test_speckle_is_in_proportion_to_the_brightness(display, run):
    images = torch.cat([torch.full((1, 1, 96, 96), 0.2), torch.full((1, 1, 96, 96), 0.4)])
    (variant,), _ = run(made("shift.generic.speckle-noise", 1), display(images))
    low, high = (image.std().item() for image in variant.images)
    assert low == pytest.approx(0.2 * 0.15, rel=0.03)
    assert high == pytest.approx(2 * low, rel=0.05)


@pytest.mark.parametrize("id", BLUR)
def test_blur_leaves_flat_ground_flat(id, display, run):
    variants, _ = run(made(f"shift.generic.{id}"), display(grey()))
    for variant in variants:
        torch.testing.assert_close(variant.images, grey(), rtol=0, atol=1e-5)


def test_gaussian_blur_of_an_impulse_has_its_variance(display, run):
    image = torch.zeros(1, 1, 65, 65)
    image[..., 32, 32] = 1.0
    (variant,), _ = run(made("shift.generic.gaussian-blur", 3), display(image))
    place = torch.arange(65) - 32.0
    assert (variant.images[0, 0].sum(0) * place**2).sum().item() == pytest.approx(9.0, rel=0.02)


def test_kernels_are_of_their_size():
    kernel = disc(6, 0.1)
    assert kernel.sum().item() == pytest.approx(1.0)
    assert (kernel > 0.5 * kernel.max()).sum().item() == pytest.approx(math.pi * 36, rel=0.05)
    image = torch.zeros(1, 41, 41)
    image[:, 20, 20] = 1.0
    line = smear(image, 0.0, 5, 3.0)[0]
    assert line[20, 10:21].sum().item() == pytest.approx(1.0)
    assert line[19].sum() == 0


def test_zoom_is_about_the_middle():
    image = torch.zeros(1, 1, 33, 33)
    image[..., 16, 16] = 1.0
    found = zoomed_through(image, 1.33, 0.03)[0, 0]
    assert found.argmax() == 16 * 33 + 16
    torch.testing.assert_close(found, found.flip(0), rtol=0, atol=1e-5)


def test_brightness_and_contrast_are_exact(display, run):
    batch = display(textured())
    (bright,), _ = run(made("shift.generic.brightness", 2), batch)
    torch.testing.assert_close(bright.images, (batch.images + 0.2).clamp(0, 1))
    (dull,), _ = run(made("shift.generic.contrast", 1), batch)
    assert dull.images.mean().item() == pytest.approx(batch.images.mean().item(), abs=1e-5)
    assert dull.images.std().item() == pytest.approx(0.4 * batch.images.std().item(), rel=1e-4)


def test_pixelate_shows_the_means_of_blocks(display, run):
    batch = display(textured())
    (variant,), _ = run(made("shift.generic.pixelate", 5), batch)
    expected = torch.nn.functional.avg_pool2d(batch.images, 4).repeat_interleave(4, -1).repeat_interleave(4, -2)
    torch.testing.assert_close(variant.images, expected)


def test_a_warp_without_amplitude_and_jitter_is_the_identity():
    images = textured(2, 33)
    zero = torch.zeros(2, 3, 2)
    field = torch.rand(2, 2, 33, 33)
    torch.testing.assert_close(warped(images, field, zero, 0.0, 0.1, 0.0), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(smoothed(torch.ones(1, 8, 9), 3.0), torch.ones(1, 8, 9))


@pytest.mark.parametrize("id", IDS)
def test_slices_of_a_volume_and_single_pixels_are_worked_on(id, display, run):
    volume = textured(3, 32)[:, 0][None, None]
    (variant,), _ = run(made(id, 1), display(volume))
    assert variant.images.shape == volume.shape
    (dot,), _ = run(made(id, 1), display(torch.full((1, 1, 1, 1), 0.5)))
    assert dot.images.isfinite().all()


@pytest.mark.parametrize("value", [6, -1, 1.5, "bad"])
def test_other_severities_are_refused(value):
    with pytest.raises(PlanError, match=r"expected a severity|could not convert"):
        made("shift.generic.jpeg", value)


def test_hu_are_refused(physical_batch, run):
    with pytest.raises(DataError, match="expected windowed images"):
        run(made("shift.generic.contrast", 1), physical_batch(torch.zeros(1, 1, 8, 8), unit=Unit.HU))
