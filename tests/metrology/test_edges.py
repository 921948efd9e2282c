"""Sharpness from edges whose transfer function is known in closed form."""

import math

import numpy as np
import pytest
from scipy.special import erf

from robustbench_rad.errors import DataError
from robustbench_rad.metrology.edge_search import edge_sharpness
from robustbench_rad.metrology.edges import edge_transfer


def gaussian_sd_px(f50):
    """A Gaussian line-spread function has MTF exp(-2 (π σ f)²)."""
    return math.sqrt(2 * math.log(2)) / (2 * math.pi * f50)


def slanted(f50, degrees, height=21, width=33):
    rows, columns = np.mgrid[:height, :width] - np.array([height // 2, width // 2])[:, None, None]
    distance = columns * math.cos(math.radians(degrees)) + rows * math.sin(math.radians(degrees))
    return 0.5 + 0.5 * erf(distance / gaussian_sd_px(f50) / math.sqrt(2))


def disc(f50, size=256, radius=80.3, low=-1000.0, high=40.0):
    rows, columns = np.mgrid[:size, :size] - size / 2 + 0.4
    inside = 0.5 - 0.5 * erf((np.hypot(rows, columns) - radius) / gaussian_sd_px(f50) / math.sqrt(2))
    return low + (high - low) * inside


@pytest.mark.parametrize("degrees", [3, 5, 12, 25, 40, -8, 80, 95])
@pytest.mark.parametrize("f50", [0.1, 0.2, 0.3])
def test_f50_of_a_slanted_edge_is_that_of_its_blur(f50, degrees):
    assert edge_transfer(slanted(f50, degrees)).f50_per_mm == pytest.approx(f50, rel=0.03)


def test_the_whole_transfer_function_is_that_of_the_blur():
    found = edge_transfer(slanted(0.2, 7))
    expected = np.exp(-math.log(2) * (found.frequency_per_mm / 0.2) ** 2)
    np.testing.assert_allclose(found.transfer[:200], expected[:200], atol=0.02)
    assert found.contrast == pytest.approx(1.0, abs=0.01)


def test_frequencies_are_per_mm():
    assert edge_transfer(slanted(0.2, 7), 0.7).f50_per_mm == pytest.approx(0.2 / 0.7, rel=0.03)


@pytest.mark.parametrize("noise_hu", [0, 15])
@pytest.mark.parametrize("f50", [0.12, 0.2, 0.3])
def test_f50_of_a_disc_is_found_without_being_told_where_it_is(f50, noise_hu):
    image = disc(f50) + noise_hu * np.random.default_rng(1).standard_normal((256, 256))
    found = edge_sharpness(image, 0.7, hounsfield=True)
    assert found.edges >= 10
    assert found.f50_per_mm == pytest.approx(f50 / 0.7, rel=0.03)
    assert found.lower <= found.f50_per_mm <= found.upper


def test_an_edge_that_is_not_air_to_body_does_not_serve_for_ct():
    assert math.isnan(edge_sharpness(disc(0.2, low=0.0, high=80.0), hounsfield=True).f50_per_mm)


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.ones((1, 1)), np.random.default_rng(0).random((64, 64))])
def test_without_an_edge_there_is_no_f50(image):
    assert math.isnan(edge_sharpness(image).f50_per_mm)


def test_a_patch_says_why_it_has_no_edge():
    with pytest.raises(DataError, match="no step"):
        edge_transfer(np.random.default_rng(0).random((21, 33)))
    with pytest.raises(DataError, match="at least 9 x 9"):
        edge_transfer(np.zeros((3, 3)))
    with pytest.raises(DataError, match="parallel"):
        edge_transfer(slanted(0.2, 0))
