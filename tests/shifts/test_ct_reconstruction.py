"""Projector and gridder against closed forms: line integrals, water and air, noise power."""

import math

import numpy as np
import pytest
import torch

from robustbench_rad.shifts.ct_gridding import filtered_backprojection, frequencies_per_px
from robustbench_rad.shifts.ct_projector import ScanGeometry, joseph, line_integrals

PIXEL_MM = 1.4
WATER_PER_PX = 0.0190 * PIXEL_MM
GEOMETRY = ScanGeometry.covering(256, 256)


def distance_px(size=256):
    side = torch.arange(size) - (size - 1) / 2
    return torch.hypot(side[:, None], side)


def disc_sinogram(radius_px, geometry=GEOMETRY):
    positions = torch.from_numpy(geometry.positions_px)
    chord = 2 * (radius_px**2 - positions.square()).clamp_min(0.0).sqrt()
    return (chord * WATER_PER_PX).float().expand(1, geometry.views, -1)


def hann(geometry=GEOMETRY):
    frequency = torch.from_numpy(frequencies_per_px(geometry)) * geometry.pitch_px
    return (0.5 + 0.5 * torch.cos(2 * math.pi * frequency)).float()[None]


def test_line_integral_through_a_water_disc():
    image = (distance_px() < 100 / PIXEL_MM).float()[None] * WATER_PER_PX
    integrals = line_integrals(image, GEOMETRY)[0]
    centre = integrals[:, GEOMETRY.channels // 2 - 1 : GEOMETRY.channels // 2 + 1].mean()
    assert centre.item() == pytest.approx(0.0190 * 200, rel=0.005)
    assert (integrals - disc_sinogram(100 / PIXEL_MM)[0]).abs().mean() < 0.02
    # the views do not distinguish a direction
    assert integrals[:, GEOMETRY.channels // 2].std() < 0.02


def test_projection_keeps_the_mass_of_an_image_in_every_view():
    image = torch.zeros(1, 64, 64)
    image[0, 20:28, 36:48] = 1.0
    geometry = ScanGeometry.covering(64, 64)
    mass = line_integrals(image, geometry)[0].sum(1) * geometry.pitch_px
    assert mass.mean().item() == pytest.approx(96.0, rel=0.02)


def test_projector_is_differentiable_and_linear():
    geometry = ScanGeometry.covering(16, 16)
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.rand(1, geometry.views, geometry.channels, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((line_integrals(image, geometry) * weights).sum(), image)
    assert (gradient * image).sum().item() == pytest.approx(
        (line_integrals(image, geometry) * weights).sum().item(), rel=1e-4
    )


def test_weights_of_a_ray_add_up_to_its_length():
    weights = joseph(ScanGeometry.covering(32, 32))(torch.ones(64, 1))
    assert weights.max().item() <= 32 * math.sqrt(2) + 1e-3


def test_water_and_air_of_a_disc():
    image = filtered_backprojection(disc_sinogram(100 / PIXEL_MM), GEOMETRY)[0]
    hu = 1000 * (image / WATER_PER_PX - 1)
    radius = distance_px() * PIXEL_MM
    assert hu[radius < 85].mean().item() == pytest.approx(-0.1, abs=1.0)
    assert hu[(radius > 115) & (radius < 175)].mean().item() == pytest.approx(-1000.0, abs=1.0)
    # the edge lies where it should: half of water at the radius
    profile = hu[128, 128:] + 1000
    crossing = int((profile < 500).to(torch.int8).argmax())
    assert (crossing + 0.5) * PIXEL_MM == pytest.approx(100, abs=PIXEL_MM)


def test_a_point_is_reconstructed_where_it_is():
    geometry = ScanGeometry.covering(64, 64)
    x, y = 41.0, 10.0  # column and row
    angle = torch.from_numpy(geometry.angles)[:, None]
    offset = (x - 31.5) * torch.cos(angle) + (y - 31.5) * torch.sin(angle)
    sinogram = torch.exp(-0.5 * (torch.from_numpy(geometry.positions_px) - offset) ** 2).float()
    image = filtered_backprojection(sinogram[None], geometry)[0]
    assert divmod(int(image.argmax()), 64) == (10, 41)
    assert image.max().item() == pytest.approx(1 / math.sqrt(2 * math.pi), rel=0.02)


@pytest.fixture(scope="module")
def white_noise_images():
    sinograms = torch.randn(24, GEOMETRY.views, GEOMETRY.channels, generator=torch.Generator().manual_seed(3))
    return filtered_backprojection(sinograms, GEOMETRY, hann())


def test_noise_variance_agrees_with_the_closed_form(white_noise_images):
    """σ² = π² C / (12 views pitch²) with C = 0.090 for the Hann window."""
    expected = math.sqrt(math.pi**2 * 0.0902 / (12 * GEOMETRY.views * GEOMETRY.pitch_px**2))
    inner = white_noise_images[:, 64:192, 64:192]
    assert inner.std().item() == pytest.approx(expected, rel=0.03)


def test_noise_power_agrees_with_the_closed_form(white_noise_images):
    """NPS = (π / views) pitch f A² in rings up to 0.9 of the pixels' Nyquist frequency."""
    inner = white_noise_images[:, 64:192, 64:192]
    power = torch.fft.fft2(inner).abs().square().mean(0) / 128**2
    frequency = torch.fft.fftfreq(128)
    radius = torch.hypot(frequency[:, None], frequency)
    for low in np.arange(0.05, 0.42, 0.05):
        ring = (radius >= low) & (radius < low + 0.03)
        window = 0.5 + 0.5 * torch.cos(2 * math.pi * radius[ring] * GEOMETRY.pitch_px)
        theory = math.pi / GEOMETRY.views * GEOMETRY.pitch_px * radius[ring] * window**2
        assert power[ring].mean().item() == pytest.approx(theory.mean().item(), rel=0.05)


def test_gridding_is_the_sum_of_its_sinograms():
    geometry = ScanGeometry.covering(32, 32)
    sinograms = torch.randn(3, geometry.views, geometry.channels, generator=torch.Generator().manual_seed(0))
    images = filtered_backprojection(sinograms, geometry)
    torch.testing.assert_close(filtered_backprojection(sinograms.sum(0, keepdim=True), geometry)[0], images.sum(0))
    alone = filtered_backprojection(sinograms[1:2], geometry)
    torch.testing.assert_close(alone[0], images[1], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (130, 7), (512, 480)])
def test_geometry_covers_the_image(height, width):
    geometry = ScanGeometry.covering(height, width)
    assert geometry.pixels >= max(height, width)
    assert geometry.channels * geometry.pitch_px >= geometry.pixels * math.sqrt(2) - 1
    assert geometry.pixels % 4 == geometry.views % 4 == geometry.channels % 4 == 0
