"""Noise of parallel imaging: the map of g, the noise it gives, and bad input."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._mr_coils import g_factor
from robustbench_rad.shifts.mr_g_factor import MrGFactor


def test_g_is_one_without_acceleration_and_at_least_one_with_it():
    turn = torch.tensor(0.3)
    assert g_factor((24, 20), -2, acceleration=1, coils=8, turn=turn).allclose(torch.ones(24, 20), atol=1e-6)
    maps = [g_factor((24, 20), -2, acceleration=r, coils=8, turn=turn) for r in (2, 3, 4)]
    assert all((values >= 1.0).all() for values in maps)
    means = [values.mean().item() for values in maps]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.05


def test_g_of_the_other_axis_is_that_of_the_turned_image():
    turn = torch.tensor(0.0)
    down, right = (g_factor((16, 16), axis, acceleration=2, coils=8, turn=turn) for axis in (-2, -1))
    torch.testing.assert_close(down, right.T, rtol=1e-4, atol=1e-4)


def test_local_noise_follows_the_map(physical_batch, run):
    generator = torch.Generator().manual_seed(0)
    plane = 1.0 + 0.01 * torch.randn(1, 1, 64, 96, 96, generator=generator)
    batch = physical_batch(plane, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0, 1.0))
    shift = MrGFactor(levels=(MrGFactor.level(2), MrGFactor.level(3)))
    variants, measured = run(shift, batch)
    (relative,) = shift._maps(batch)
    for variant in variants:
        expected = 1 + (variant.level.value - 1) * (relative - 1) / (relative.max() - 1)
        local = variant.images[0, 0].std(0) / 0.01
        for low, high in ((1.0, 1.3), (1.3, 1.6), (1.6, 3.1)):
            where = (expected >= low) & (expected < high)
            if where.sum() > 200:
                ratio = (local[where].square().mean() / expected[where].square().mean()).sqrt()
                assert ratio.item() == pytest.approx(1.0, abs=0.02)
        assert measured["g_max", variant.level.name].item() == pytest.approx(variant.level.value, rel=0.06)


def test_a_noiseless_image_is_not_applicable(physical_batch, run):
    variants, _ = run(MrGFactor(), physical_batch(torch.ones(1, 1, 32, 32), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    variants, _ = run(MrGFactor(reference_snr=20.0), physical_batch(torch.ones(1, 1, 32, 32), unit=Unit.MAGNITUDE))
    assert variants[0].applicable.all()


@pytest.mark.parametrize("options", [{"acceleration": 9}, {"acceleration": 4, "coils": 3}, {"levels": [0.5]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.g-factor"):
        MrGFactor.from_options(options)
