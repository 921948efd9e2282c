"""Emulated reconstruction algorithms: noise, its spectrum, edges of high and low contrast."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.ct_recon_algorithm import CtReconAlgorithm

SPACING = (0.8, 0.8)


def body(contrast_hu=0.0, count=2, noise_hu=20.0):
    """Soft tissue in air with a step in the middle."""
    axis = torch.arange(160) - 79.5
    disc = torch.hypot(axis[:, None], axis) < 74
    step = torch.where(axis > 0, contrast_hu, 0.0)
    noise = noise_hu * torch.randn(count, 1, 160, 160, generator=torch.Generator().manual_seed(3))
    return torch.where(disc, 50.0 + step + noise, -1000.0)


@pytest.fixture
def flat(physical_batch):
    return physical_batch(body(), unit=Unit.HU, spacing_mm=SPACING)


def test_noise_falls_with_every_level_into_the_clinical_range(flat, run):
    variants, measured = run(CtReconAlgorithm(), flat)
    ratios = torch.stack([measured["noise_ratio", v.level.name] for v in variants])
    assert (ratios[1:] < ratios[:-1]).all()
    assert 0.75 < ratios[0].mean() < 0.9  # hybrid, low strength
    assert 0.25 < ratios[-1].mean() < 0.45  # model based
    centre = (slice(None), 0, slice(60, 100), slice(60, 100))
    own = variants[-1].images[centre].std() / flat.images[centre].std()
    assert own.item() == pytest.approx(ratios[-1].mean().item(), rel=0.1)
    assert (variants[-1].images[centre].mean() - flat.images[centre].mean()).abs() < 0.5


def test_noise_moves_to_lower_frequencies(flat, run):
    variants, _ = run(CtReconAlgorithm(), flat)
    frequency = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64))
    mean = []
    for images in (flat.images, variants[2].images, variants[4].images):
        patch = images[:, 0, 48:112, 48:112]
        power = torch.fft.fft2(patch - patch.mean((1, 2), keepdim=True)).abs().square().mean(0)
        mean.append((power * frequency).sum() / power.sum())
    assert mean[0] > mean[1] > mean[2]
    assert mean[2] < 0.9 * mean[0]


def test_blur_depends_on_contrast(physical_batch, run):
    """The width of an edge (10 to 90 %): kept at high contrast, wider at low contrast."""
    widths = []
    for contrast in (20.0, 800.0):
        batch = physical_batch(body(contrast, count=24), unit=Unit.HU, spacing_mm=SPACING)
        profile = run(CtReconAlgorithm(), batch)[0][-1].images[:, 0, 50:110, 70:90].mean((0, 1))
        low, high = profile[:5].mean(), profile[-5:].mean()
        relative = (profile - low) / (high - low)
        widths.append(((relative > 0.15) & (relative < 0.85)).sum().item())
    assert widths[0] >= widths[1] + 2
    assert widths[1] == 0


def test_zero_is_the_very_image_and_padding_stays(physical_batch, run):
    images = body()
    images[..., :4, :4] = -2000.0
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=SPACING)
    shift = CtReconAlgorithm(levels=(CtReconAlgorithm.level(0), CtReconAlgorithm.level(80)))
    (same, less), _ = run(shift, batch)
    assert same.images is batch.images
    assert (less.images[..., :4, :4] == -2000).all()


def test_without_noise_or_spacing_a_case_is_not_applicable(physical_batch, run):
    images = torch.cat([body(count=1), body(count=1, noise_hu=0.0), body(count=1)])
    spacing = torch.tensor([SPACING, SPACING, (torch.nan, torch.nan)])
    variants, measured = run(CtReconAlgorithm(), physical_batch(images, unit=Unit.HU, spacing_mm=spacing))
    assert variants[0].applicable.tolist() == [True, False, False]
    assert variants[0].reason == "pixel spacing unknown, no native noise to be read: no soft tissue, or no noise"
    assert torch.equal(variants[0].images[1:], images[1:])
    assert measured["noise_ratio", "20"].isnan().tolist() == [False, True, True]


def test_volumes_go_slice_by_slice_and_gradients_are_finite(physical_batch, run):
    stack = body(count=3).reshape(1, 1, 3, 160, 160).requires_grad_()
    spacing = torch.tensor([[2.0, *SPACING]])
    variants, _ = run(CtReconAlgorithm(), physical_batch(stack, unit=Unit.HU, spacing_mm=spacing))
    assert variants[0].applicable.all()
    variants[-1].images.square().sum().backward()
    assert stack.grad.isfinite().all()


def test_one_pixel_is_not_applicable(physical_batch, run):
    batch = physical_batch(torch.zeros(1, 1, 1, 1), unit=Unit.HU, spacing_mm=SPACING)
    (variant, *_), _ = run(CtReconAlgorithm(), batch)
    assert not variant.applicable.any()


@pytest.mark.parametrize("value", [-1, 100, "strong"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtReconAlgorithm.level(value)
