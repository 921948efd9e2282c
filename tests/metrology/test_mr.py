"""Non-uniformity and ghosts, on phantoms with known ones."""

import math

import numpy as np
import pytest

from robustbench_rad.metrology.ghosting import ghost_ratio
from robustbench_rad.metrology.uniformity import intensity_non_uniformity

ROWS, COLUMNS = np.mgrid[:128, :128] / 127 * 2 - 1
RADIUS = np.hypot(ROWS, COLUMNS)
INSIDE = RADIUS < 0.9


def inu(field, where):
    return (field[where].max() - field[where].min()) / field[where].mean()


@pytest.mark.parametrize("tissues", [1, 2])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.6])
def test_non_uniformity_is_that_of_the_field_whatever_the_tissue(share, tissues):
    field = np.exp(share / 1.8 * COLUMNS - 0.1 * share * ROWS**2)
    tissue = np.where((RADIUS < 0.6) | (tissues == 1), 100.0, 60.0)
    noise = np.random.default_rng(0).standard_normal(field.shape)
    image = INSIDE * (tissue * field + noise)
    assert intensity_non_uniformity(image) == pytest.approx(inu(field, INSIDE), abs=0.02)


def test_non_uniformity_of_a_volume():
    axis = np.linspace(-1, 1, 40)
    field = np.exp(0.15 * axis[:, None, None] + 0.1 * axis[None, :, None] * axis)
    volume = 200.0 * field * np.ones((40, 40, 40))
    assert intensity_non_uniformity(volume) == pytest.approx(inu(field * np.ones(volume.shape), ...), abs=0.02)


def test_a_flat_image_is_uniform_and_air_is_not_measured():
    assert intensity_non_uniformity(np.full((64, 64), 7.0)) == pytest.approx(0.0, abs=1e-9)
    assert math.isnan(intensity_non_uniformity(np.zeros((64, 64))))
    assert math.isnan(intensity_non_uniformity(np.ones((1, 1))))


@pytest.mark.parametrize("share", [0.025, 0.05, 0.2])
@pytest.mark.parametrize("axis", [0, 1])
def test_ghost_ratio_is_the_ghost_over_the_tissue_and_the_noise_floor_cancels(share, axis):
    image = np.full((96, 96), 2.0)  # the noise floor
    image[24:72, 24:72] = 100.0
    ghosts = image.copy()
    ghosts[:24, 24:72] += 100.0 * share
    ghosts[72:, 24:72] += 100.0 * share
    ghosts = ghosts if axis == 0 else ghosts.T
    assert ghost_ratio(ghosts, axis) == pytest.approx(share, rel=0.05)
    assert ghost_ratio(ghosts, 1 - axis) == pytest.approx(-share, rel=0.05)
    assert ghost_ratio(image, axis) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("image", [np.ones((64, 64)), np.zeros((64, 64)), np.ones((1, 1)), np.ones((4, 4, 4))])
def test_without_air_there_is_no_ghost_ratio(image):
    assert math.isnan(ghost_ratio(image))
