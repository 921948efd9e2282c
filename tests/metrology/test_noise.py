"""Noise, its spectrum and the grey levels in use, on images made with known ones."""

import math

import numpy as np
import pytest

from robustbench_rad.errors import DataError
from robustbench_rad.metrology.grey_levels import bits_in_use, grey_levels_in_use
from robustbench_rad.metrology.native_noise import noise_hu, noise_of_foreground, signal_to_noise
from robustbench_rad.metrology.noise_power import homogeneous_windows, noise_power


def coloured(peak, size=512, seed=0):
    """Noise of the power f exp(-f² / 2p²), highest at p, and unit-free variance."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    power = frequency * np.exp(-((frequency / peak) ** 2) / 2)
    white = np.random.default_rng(seed).standard_normal((size, size))
    return np.fft.ifft2(np.fft.fft2(white) * np.sqrt(power)).real


def body(sd_hu, size=384):
    rows, columns = np.mgrid[:size, :size] - size / 2
    inside = np.hypot(rows, columns) < 0.45 * size
    noise = sd_hu * np.random.default_rng(2).standard_normal((size, size))
    return np.where(inside, 50.0 + noise, -1000.0)[None]


@pytest.mark.parametrize("sd_hu", [5.0, 12.0, 40.0])
def test_native_noise_of_ct_is_that_of_the_soft_tissue(sd_hu):
    found = noise_hu(body(sd_hu), 0.7)
    assert found.sd == pytest.approx(sd_hu, rel=0.02)
    assert found.lower < found.sd < found.upper


def test_ct_without_soft_tissue_has_no_native_noise():
    assert math.isnan(noise_hu(np.full((1, 128, 128), -1000.0), 0.7).sd)
    assert math.isnan(noise_hu(np.full((1, 1, 1), 40.0), 0.7).sd)


@pytest.mark.parametrize("sd", [0.5, 4.0])
def test_native_noise_of_a_radiograph_ignores_its_anatomy(sd):
    rows, columns = np.mgrid[:512, :512] / 512
    anatomy = 100 + 40 * np.sin(6 * rows) * np.cos(5 * columns)
    found = noise_of_foreground((anatomy + sd * np.random.default_rng(0).standard_normal((512, 512)))[None])
    assert found.sd == pytest.approx(sd, rel=0.02)
    assert found.places == 16
    assert signal_to_noise(anatomy, sd) == pytest.approx(anatomy.mean() / sd, rel=0.01)


def test_noise_of_one_pixel_cannot_be_read():
    assert math.isnan(noise_of_foreground(np.ones((1, 1, 1))).sd)
    assert math.isnan(signal_to_noise(np.ones((4, 4)), 0.0))


@pytest.mark.parametrize("peak", [0.15, 0.25, 0.35])
def test_the_peak_of_the_noise_power_is_where_it_was_put(peak):
    windows = homogeneous_windows(100 + coloured(peak)[None], 24)
    assert noise_power(windows).peak_per_mm == pytest.approx(peak, rel=0.08)
    assert noise_power(windows, 0.5).peak_per_mm == pytest.approx(2 * peak, rel=0.08)


def test_white_noise_has_no_peak_and_the_power_of_its_variance():
    windows = homogeneous_windows(100 + 5 * np.random.default_rng(0).standard_normal((1, 512, 512)), 24)
    found = noise_power(windows, 0.7)
    assert math.isnan(found.peak_per_mm)
    assert found.power[2:] == pytest.approx(25 * 0.7**2, rel=0.05)


def test_smoothed_noise_falls_from_zero_and_has_no_peak():
    white = np.random.default_rng(0).standard_normal((512, 512))
    kernel = np.exp(-((np.fft.fftfreq(512)[:, None] ** 2 + np.fft.fftfreq(512) ** 2) / 0.005))
    found = noise_power(homogeneous_windows(100 + np.fft.ifft2(np.fft.fft2(white) * kernel).real[None], 32))
    assert math.isnan(found.peak_per_mm)
    assert found.falls_from_zero


def test_the_power_does_not_shrink_with_the_number_of_windows():
    """As it does where the transforms are averaged before they are squared."""
    windows = np.random.default_rng(0).standard_normal((400, 16, 16))
    few, many = noise_power(windows[:50]).power.mean(), noise_power(windows).power.mean()
    assert few == pytest.approx(many, rel=0.1)


def test_too_few_or_too_small_windows_are_refused():
    with pytest.raises(DataError, match="at least 16 windows, got 3"):
        noise_power(np.zeros((3, 16, 16)))
    with pytest.raises(DataError, match="square windows"):
        noise_power(np.zeros((30, 4, 4)))
    assert len(homogeneous_windows(np.ones((1, 4, 4)), 16)) == 0


def test_bits_in_use_are_those_of_the_levels_not_of_the_container():
    stretched = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert grey_levels_in_use(stretched) == 256
    assert bits_in_use(stretched) == 8
    assert bits_in_use(np.arange(257, dtype=np.int16)) == 9
    assert bits_in_use(np.zeros((2, 2), np.uint8)) == 1
    with pytest.raises(DataError, match="stored integers, got float32"):
        bits_in_use(np.zeros(3, np.float32))
