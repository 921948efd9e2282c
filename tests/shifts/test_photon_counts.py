"""Poisson coupling and photon starvation against exact simulation, and the kernel table."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._ct_kernels import KERNELS, kernel_named, source_kernels, transfer
from robustbench_rad.shifts._ct_noise import inverse_exposure, smooth_along_slices
from robustbench_rad.shifts._native_noise import NoiseProbe
from robustbench_rad.shifts._poisson import poisson_quantile
from robustbench_rad.shifts._starvation import StarvedRays, extra_log_noise, log_noise

DRAWS = 200_000
ELECTRONIC = 10.0


def normal(count, seed=0):
    return torch.randn(count, DRAWS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mean", [0.01, 0.7, 3.0, 24.9])
def test_quantile_of_small_means_is_exact(mean):
    z = torch.linspace(-5, 5, 1001)
    counts = poisson_quantile(torch.full_like(z, mean), z)
    expected = stats.poisson.ppf(stats.norm.cdf(z.double().numpy()), mean)
    assert np.abs(counts.numpy() - expected).max() <= 1  # a probability on the edge of a step may fall to either side
    assert (counts.numpy() != expected).mean() < 0.01


@pytest.mark.parametrize("mean", [3.0, 30.0, 100.0, 4000.0])
def test_quantile_has_the_moments_of_poisson(mean):
    counts = poisson_quantile(torch.full((DRAWS,), mean), normal(1)[0]).double()
    assert counts.mean().item() == pytest.approx(mean, rel=0.01)
    assert counts.var().item() == pytest.approx(mean, rel=0.015)
    assert stats.skew(counts.numpy()) == pytest.approx(mean**-0.5, abs=0.03)


@pytest.mark.parametrize("counts", [3.0, 10.0, 30.0, 100.0, 1000.0])
def test_log_noise_agrees_with_exact_simulation(counts):
    generator = torch.Generator().manual_seed(11)
    exact = torch.poisson(torch.full((DRAWS,), counts), generator=generator)
    exact = -((exact + ELECTRONIC * torch.randn(DRAWS, generator=generator)).clamp_min(1.0) / counts).log()
    z = normal(2, seed=4)
    coupled = log_noise(torch.full((DRAWS,), counts), z[0], ELECTRONIC * z[1])
    assert coupled.mean().item() == pytest.approx(exact.mean().item(), abs=0.01)
    assert coupled.std().item() == pytest.approx(exact.std().item(), rel=0.02)


def test_starved_rays_are_biased_towards_more_attenuation():
    """At 30 counts and σ_e = 10 the logarithm is off by 0.10 and its deviation 0.52 instead of 0.38."""
    z = normal(2, seed=5)
    noise = log_noise(torch.full((DRAWS,), 30.0), z[0], ELECTRONIC * z[1])
    assert noise.mean().item() == pytest.approx(0.10, abs=0.02)
    assert noise.std().item() == pytest.approx(0.52, abs=0.03)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.025])
def test_extra_noise_of_many_counts_is_the_gaussian_one(alpha):
    counts, draws = torch.full((DRAWS,), 1e7), normal(4, seed=6)
    extra = extra_log_noise(counts, draws, alpha, ELECTRONIC)
    gaussian = (
        math.sqrt(1 / alpha - 1) * draws[0] / 1e7**0.5 + math.sqrt(1 / alpha**2 - 1) * ELECTRONIC * draws[1] / 1e7
    )
    torch.testing.assert_close(extra, gaussian, rtol=0.0, atol=0.03 * gaussian.std().item())
    variance = (1 / alpha - 1) / 1e7 + (1 / alpha**2 - 1) * ELECTRONIC**2 / 1e14
    assert extra.var().item() == pytest.approx(variance, rel=0.02)


def test_lower_dose_plus_reference_noise_is_the_noise_of_the_lower_dose():
    """The extra noise must turn a scan of N counts into one of αN counts, not add a second scan's noise."""
    counts, draws, alpha = torch.full((DRAWS,), 400.0), normal(4, seed=7), 0.1
    extra = extra_log_noise(counts, draws, alpha, ELECTRONIC)
    acquired = log_noise(counts, draws[2], ELECTRONIC * draws[3])
    alone = log_noise(alpha * counts, *normal(2, seed=8) * torch.tensor([[1.0], [ELECTRONIC]]))
    assert (acquired + extra).std().item() == pytest.approx(alone.std().item(), rel=0.01)


def test_correction_touches_starved_rays_only():
    rays = StarvedRays(
        index=torch.tensor([1, 4]),
        counts=torch.tensor([50.0, 900.0]),
        draws=torch.ones(4, 2),
        shape=torch.Size((1, 2, 3)),
    )
    correction = rays.correction(dose_fraction=0.5, electronic_noise_quanta=1.0)
    assert correction.flatten().nonzero().flatten().tolist() == [1]
    assert rays.correction(dose_fraction=0.1, electronic_noise_quanta=1.0).flatten()[4] != 0
    few = StarvedRays(index=rays.index, counts=torch.tensor([1e4, 1e5]), draws=rays.draws, shape=rays.shape)
    assert few.correction(dose_fraction=0.5, electronic_noise_quanta=1.0) is None


def test_exposure_solves_its_equation():
    assert inverse_exposure(9.0, 4.0, 0.0) == pytest.approx(2.25)
    x = inverse_exposure(9.0, 4.0, 2.0)
    assert 4.0 * x + 2.0 * x**2 == pytest.approx(9.0)


def test_slice_profile_correlates_and_keeps_the_variance():
    noise = torch.randn(40, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = smooth_along_slices(noise, fwhm_slices=3.0)
    assert smooth.std().item() == pytest.approx(1.0, abs=0.03)
    assert smooth[0].std().item() == pytest.approx(1.0, abs=0.06)
    neighbours = torch.corrcoef(torch.stack([smooth[:-1].flatten(), smooth[1:].flatten()]))[0, 1].item()
    sigma = 3.0 / math.sqrt(8 * math.log(2))
    assert neighbours == pytest.approx(math.exp(-1 / (4 * sigma**2)), abs=0.03)


def test_native_noise_ignores_edges_and_vessels():
    generator = torch.Generator().manual_seed(0)
    image = 40.0 + 12.0 * torch.randn(1, 256, 256, generator=generator)
    image[:, 100:130] = -850.0  # a lung
    image[:, ::40, ::40] += 300.0  # calcifications
    probe = NoiseProbe.placed(image, 0.7)
    assert probe.soft_tissue
    assert probe.level(image) == pytest.approx(12.0, rel=0.03)
    lung = NoiseProbe.placed(torch.full((1, 64, 64), -850.0), 0.7)
    assert not lung.soft_tissue


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B30f", "soft"),
        ("['Br40d', '3']", "soft"),
        ("B45f", "medium"),
        ("H60s", "sharp"),
        ("Hr40\\3", "soft"),
        ("BONEPLUS", "sharp"),
        ("standard", "soft"),
        ("FC18", "soft"),
        ("C", "medium"),
    ],
)
def test_kernel_names(text, name):
    assert kernel_named(text) is KERNELS[name]


def test_source_kernel_is_read_or_assumed(physical_batch):
    metadata = ({"ConvolutionKernel": "B70f"}, {"convolution_kernel": ""}, {"ConvolutionKernel": "XYZ"})
    batch = physical_batch(torch.zeros(3, 1, 4, 4), unit=Unit.HU, metadata=metadata)
    kernels, assumed = source_kernels("auto", batch)
    assert [kernel.name for kernel in kernels] == ["sharp", "soft", "soft"]
    assert assumed == [False, True, True]
    assert source_kernels("medium", batch) == ([KERNELS["medium"]] * 3, [False] * 3)
    assert source_kernels("auto", replace(batch, metadata=()))[1] == [True] * 3


def test_the_header_names_the_kernel_before_a_column_does(physical_batch):
    attributes = ({"ConvolutionKernel": "B60f"}, {"ConvolutionKernel": ""}, {"ConvolutionKernel": "XYZ"}, {})
    columns = ({"kernel": "B30f"}, {"kernel": "LUNG"}, {"kernel": "B50f"}, {})
    batch = physical_batch(torch.zeros(4, 1, 4, 4), unit=Unit.HU, metadata=columns, attributes=attributes)
    kernels, assumed = source_kernels("auto", batch)
    assert [kernel.name for kernel in kernels] == ["sharp", "sharp", "medium", "soft"]
    assert assumed == [False, False, False, True]
    alone = replace(batch, metadata=()).select(torch.tensor([3, 0]))
    assert [kernel.name for kernel in source_kernels("auto", alone)[0]] == ["soft", "sharp"]


def test_transfer_passes_half_and_a_tenth():
    for kernel in KERNELS.values():
        frequency = torch.tensor([[0.0, kernel.f50_per_mm, kernel.f10_per_mm]])
        torch.testing.assert_close(transfer([kernel], frequency), torch.tensor([[1.0, 0.5, 0.1]]), rtol=1e-4, atol=0.0)
        torch.testing.assert_close(transfer([kernel], frequency * 2, factor=2.0), transfer([kernel], frequency))
