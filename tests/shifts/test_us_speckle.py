"""Speckle: Rayleigh statistics whatever the mean, cell size, compounding, and mean level kept."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.us_speckle import LOG_SD_DB, UsSpeckle


def flat(value, size=400):
    return torch.full((1, 1, size, size), value)


def amplitude(images):
    return 10 ** ((images.double() - 1) * 60 / 20)


def only(cell, **options):
    return UsSpeckle(levels=(UsSpeckle.level(cell),), **options)


def test_log_deviation_is_the_known_one():
    assert pytest.approx(5.57, abs=0.005) == LOG_SD_DB


@pytest.mark.parametrize("value", [0.6, 0.7, 0.8])
@pytest.mark.parametrize("cell", [1, 2])
def test_amplitude_is_rayleigh_and_log_deviation_does_not_depend_on_the_mean(physical_batch, run, value, cell):
    (variant,), measured = run(only(cell), physical_batch(flat(value), unit=Unit.SIGNAL))
    levels = amplitude(variant.images)
    assert (levels.mean() / levels.std()).item() == pytest.approx(1.91, rel=0.03)
    assert (variant.images.std() * 60).item() == pytest.approx(5.57, rel=0.03)
    assert measured["speckle_sd_db", str(cell)].item() == pytest.approx(5.57, rel=0.03)
    assert variant.images.mean().item() == pytest.approx(value, abs=0.15 / 60 * 5.57)


def test_cells_have_the_requested_size(physical_batch, run):
    variants, _ = run(UsSpeckle(), physical_batch(flat(0.7), unit=Unit.SIGNAL))
    for variant in variants[1:]:
        power = amplitude(variant.images)[0, 0].square()
        centred = power - power.mean()
        for axis, ratio in ((0, 1.0), (1, 2.0)):
            lag = max(1, round(variant.level.value * ratio / 2))
            pairs = centred.narrow(axis, 0, 400 - lag) * centred.narrow(axis, lag, 400 - lag)
            sigma = variant.level.value * ratio / 2.3548
            expected = torch.exp(torch.tensor(-(lag**2) / (2 * sigma**2))).item()  # |autocorrelation of the PSF|²
            assert (pairs.mean() / centred.square().mean()).item() == pytest.approx(expected, abs=0.08)


def test_looks_make_it_smoother(physical_batch, run):
    (variant,), _ = run(only(1, looks=4), physical_batch(flat(0.7), unit=Unit.SIGNAL))
    levels = amplitude(variant.images)
    assert (levels.mean() / levels.std()).item() == pytest.approx(1.91 * 2, rel=0.03)


def test_black_outside_the_sector_stays(physical_batch, run):
    images = flat(0.7, 64)
    images[..., :16] = 0.0
    variants, _ = run(UsSpeckle(), physical_batch(images, unit=Unit.SIGNAL))
    assert all((variant.images[..., :16] == 0).all() for variant in variants)
    assert not run(UsSpeckle(), physical_batch(torch.zeros(1, 1, 8, 8), unit=Unit.SIGNAL))[0][0].applicable.any()


@pytest.mark.parametrize("options", [{"looks": 0}, {"lateral_ratio": 0}, {"levels": [-1]}, {"dynamic_range_db": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.us\.speckle"):
        UsSpeckle.from_options(options)
