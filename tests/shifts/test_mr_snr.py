"""Noise of MR magnitude: Rician and non-central χ moments, the target ratio, and refusal of scored images."""

import math

import pytest
import torch
from scipy.special import hyp1f1

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError, PlanError
from robustbench_rad.shifts.mr_snr import MrSnr, noisy_magnitude, rician_moments


@pytest.mark.parametrize("ratio", [0, 1, 2, 3, 5, 10])
def test_rician_moments_are_those_of_the_closed_form(ratio):
    draws = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(ratio))
    magnitude = noisy_magnitude(torch.tensor(float(ratio)), 1.0, draws[0], draws[1].square()).double()
    mean, deviation = rician_moments(float(ratio), 1.0)
    assert magnitude.mean().item() == pytest.approx(mean, rel=0.005)
    assert magnitude.std().item() == pytest.approx(deviation, rel=0.005)


def test_moments_known_from_the_literature():
    assert rician_moments(0.0, 1.0)[0] == pytest.approx(math.sqrt(math.pi / 2))
    assert rician_moments(10.0, 1.0)[0] == pytest.approx(10.0501, abs=1e-4)


@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("signal", [0.0, 0.5])
def test_noise_of_many_coils_is_non_central_chi(physical_batch, coils, signal):
    images = torch.full((1, 1, 512, 512), signal)
    images[..., :2] = 0.5  # tissue, so that the ratio has a meaning
    batch = physical_batch(images, unit=Unit.MAGNITUDE)
    change = MrSnr(coils=coils).prepare(batch)(4.0)
    values = change.images[..., 2:].double()
    sigma = 0.125
    factor = math.sqrt(math.pi / 2) * math.prod((2 * k - 1) / (2 * k - 2) for k in range(2, coils + 1))
    mean = sigma * factor * hyp1f1(-0.5, coils, -(signal**2) / (2 * sigma**2))
    assert values.mean().item() == pytest.approx(mean, rel=0.005)
    assert values.square().mean().item() == pytest.approx(signal**2 + 2 * coils * sigma**2, rel=0.005)


def test_only_the_missing_noise_is_added(physical_batch, run):
    clean = torch.full((2, 1, 128, 128), 0.5)
    noisy = clean + 0.5 / 20 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    variants, measured = run(MrSnr(), physical_batch(noisy, unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert torch.equal(variants[0].images, noisy)
    assert variants[0].reason == "as noisy already"
    for variant in variants[2:]:
        assert measured["snr", variant.level.name] == pytest.approx([variant.level.value] * 2, rel=0.05)
        assert measured["native_snr", variant.level.name] == pytest.approx([20.0] * 2, rel=0.05)


def test_levels_share_their_draw(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 64, 64), 0.5), unit=Unit.MAGNITUDE)
    variants, _ = run(MrSnr(), batch)
    noise = torch.stack([(variant.images - 0.5).flatten() for variant in variants[:2]])
    assert torch.corrcoef(noise)[0, 1] > 0.999


def test_scored_images_are_refused_by_name(physical_batch):
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0] = images[0].abs()
    with pytest.raises(ImageError, match=r"shift\.mr\.snr: expected MR magnitude.*z-scored.*: case-1, case-2\n"):
        MrSnr().apply(physical_batch(images, unit=Unit.MAGNITUDE), None, None)


@pytest.mark.parametrize("options", [{"coils": 0}, {"coils": 1.5}, {"levels": [0]}, {"levels": ["nan"]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.snr"):
        MrSnr.from_options(options)
