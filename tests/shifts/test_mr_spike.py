"""A spike in k-space: one point, stripes in tissue, a raised floor in air."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.mr_spike import MrSpike, plane_wave


def test_a_plane_wave_is_one_point_of_k_space():
    wave = plane_wave((48, 64), torch.tensor([[5.0, -9.0]]), torch.tensor([0.4]))
    power = torch.fft.fft2(wave)[0].abs()
    assert power.argmax() == 5 * 64 + (64 - 9)
    assert power.max().item() == pytest.approx(48 * 64, rel=1e-5)
    assert power.flatten().sort().values[-2] < 1e-2


def test_the_single_spectral_peak_is_at_the_measured_point(physical_batch, run):
    batch = physical_batch(torch.full((3, 1, 64, 48), 0.5), unit=Unit.MAGNITUDE)
    variants, measured = run(MrSpike(), batch)
    for variant in variants[:3]:
        power = torch.fft.rfft2(variant.images[:, 0] - variant.images.mean((1, 2, 3))[:, None, None]).abs()
        for case in range(3):
            row, column = divmod(power[case].argmax().item(), 25)
            cycles = [measured[name, variant.level.name][case].item() for name in _POINT]
            assert (row, column) in {(cycles[0] % 64, cycles[1] % 48), (-cycles[0] % 64, -cycles[1] % 48)}
            amplitude = power[case].max() * 2 / (64 * 48) / 0.5
            assert 100 * amplitude.item() == pytest.approx(variant.level.value, rel=0.05)


_POINT = ("spike_row_cycles", "spike_column_cycles")


def test_air_rises_to_the_amplitude(physical_batch, run):
    image = torch.zeros(1, 1, 64, 64)
    image[..., 16:48] = 0.5
    variants, _ = run(MrSpike(), physical_batch(image, unit=Unit.MAGNITUDE))
    for variant in variants:
        torch.testing.assert_close(variant.images[..., :16], torch.full((1, 1, 64, 16), variant.level.value * 0.005))


def test_one_pixel_is_too_small(physical_batch, run):
    variants, _ = run(MrSpike(), physical_batch(torch.ones(1, 1, 1, 1), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
