"""Distortion of MR: signal is carried and kept, intensities follow the Jacobian, the largest displacement is the requested."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._displacement import displaced
from robustbench_rad.shifts.mr_b0_distortion import MrB0Distortion


def smooth(size=96, count=2):
    axis = torch.linspace(-1, 1, size)
    blob = torch.exp(-4 * (axis[:, None] ** 2 + axis**2))
    return torch.stack([blob, 0.7 * blob])[:count, None]


def test_whole_pixels_move_exactly():
    image = torch.zeros(1, 6, 8)
    image[0, 2, 3] = 1.0
    for axis, place in ((-1, (0, 2, 5)), (-2, (0, 4, 3))):
        moved = displaced(image, torch.full_like(image, 2.0), axis)
        assert moved[place] == pytest.approx(1.0)
        assert moved.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("stretch", [-0.4, 0.3])
def test_intensity_follows_the_jacobian(stretch):
    line = torch.ones(1, 1, 100)
    shift = stretch * (torch.arange(100) - 49.5).expand(1, 1, 100)
    moved = displaced(line, shift, -1)
    assert moved[..., 45:55].mean().item() == pytest.approx(1 / (1 + stretch), rel=1e-4)


def test_signal_is_kept_and_the_largest_displacement_is_the_requested(physical_batch, run):
    variants, measured = run(MrB0Distortion(), physical_batch(smooth(), unit=Unit.MAGNITUDE))
    for variant in variants:
        name = variant.level.name
        assert measured["displacement_max_px", name].tolist() == pytest.approx([variant.level.value] * 2, rel=1e-4)
        assert measured["signal_kept", name].tolist() == pytest.approx([1.0] * 2, abs=0.01)
    change = [(variant.images - smooth()).std().item() for variant in variants]
    assert change == sorted(change)


@pytest.mark.parametrize(("along", "axis"), [("readout", -1), ("phase", -2)])
def test_signal_stays_in_its_line(physical_batch, run, along, axis):
    variants, _ = run(MrB0Distortion(along=along), physical_batch(smooth(), unit=Unit.MAGNITUDE))
    torch.testing.assert_close(variants[1].images.sum(axis), smooth().sum(axis), rtol=0.02, atol=0.3)
    assert not torch.allclose(variants[-1].images.sum(-3 - axis), smooth().sum(-3 - axis), rtol=0.02, atol=0.3)


def test_tiny_images_would_fold(physical_batch, run):
    variants, _ = run(MrB0Distortion(), physical_batch(torch.rand(1, 1, 6, 6) + 0.1, unit=Unit.MAGNITUDE))
    assert not variants[-1].applicable.any()
    assert "overtake" in variants[-1].reason


def test_bad_options_are_refused():
    with pytest.raises(PlanError, match="along: expected one of readout, phase, got 'up'"):
        MrB0Distortion.from_options({"along": "up"})
