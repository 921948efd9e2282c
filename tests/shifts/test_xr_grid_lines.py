"""Grid lines: one spectral peak at the alias frequency with the modulation asked for, and the cut-off."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_grid_lines import XrGridLines

CENTRED = {"cutoff_per_modulation": 0.0}


def flat(height=32, width=256):
    return torch.full((2, 1, height, width), 0.4)


@pytest.mark.parametrize("lines", ["vertical", "horizontal"])
def test_the_spectrum_has_one_peak_at_the_alias_frequency(physical_batch, run, lines):
    spacing = 0.2  # 4 lines per mm alias to 1 per mm
    images = flat() if lines == "vertical" else flat(256, 32)
    step = (1.0, spacing) if lines == "vertical" else (spacing, 1.0)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=step)
    shift = XrGridLines(**CENTRED, grid_lines_per_mm=4.0 + 1 / (256 * spacing) * 0.2, lines=lines)
    variants, measured = run(shift, batch)
    for variant in variants:
        relative = 10 ** (-1.5 * (variant.images - 0.4)) - 1
        profile = relative[:, 0].mean(1 if lines == "vertical" else 2).double()
        spectrum = torch.fft.rfft(profile).abs() / 128
        peak = spectrum.argmax(1)
        assert (torch.fft.rfftfreq(256, spacing)[peak] - 1.0).abs().max() < 0.5 / (256 * spacing)
        assert spectrum.max(1).values.tolist() == pytest.approx([variant.level.value / 100] * 2, rel=0.08)
        others = spectrum.scatter(1, (peak[:, None] + torch.tensor([-1, 0, 1])), 0.0)
        assert others.max() < 0.15 * spectrum.max()
    assert measured["alias_frequency_per_mm", "1"].tolist() == pytest.approx([1.0] * 2, abs=0.005)


def test_the_cut_off_takes_exposure_from_one_side(physical_batch, run):
    batch = physical_batch(flat(8, 400), unit=Unit.SIGNAL, spacing_mm=(0.2, 0.2))
    variants, measured = run(XrGridLines(cutoff_per_modulation=5.0), batch)
    for variant in variants:
        exposure = 10 ** (-1.5 * variant.images)[:, 0].mean(1)
        smooth = torch.stack([part.mean(1) for part in exposure.split(40, 1)], 1)
        ratio = torch.minimum(smooth[:, 0], smooth[:, -1]) / torch.maximum(smooth[:, 0], smooth[:, -1])
        cutoff = 5 * variant.level.value / 100
        assert measured["cutoff", variant.level.name].tolist() == pytest.approx([cutoff] * 2)
        expected = (1 - 0.95 * cutoff) / (1 - 0.05 * cutoff)
        assert ratio.tolist() == pytest.approx([expected] * 2, abs=0.01)


def test_a_grid_on_the_sampling_shows_no_lines(physical_batch, run):
    variants, _ = run(XrGridLines(), physical_batch(flat(), unit=Unit.SIGNAL, spacing_mm=(0.25, 0.25)))
    assert not variants[0].applicable.any()
    assert "falls on the sampling" in variants[0].reason


def test_phases_differ_between_cases_and_are_shared_by_the_levels(physical_batch, run):
    batch = physical_batch(flat(), unit=Unit.SIGNAL, spacing_mm=(0.19, 0.19))
    variants, _ = run(XrGridLines(**CENTRED), batch)
    lines = [(variant.images - 0.4)[:, 0, 0] for variant in variants]
    assert torch.corrcoef(torch.stack([lines[0][0], lines[-1][0]]))[0, 1] > 0.999
    assert abs(torch.corrcoef(lines[0])[0, 1]) < 0.999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [60]}, "a modulation in % from 0 to 50, got 60"),
        ({"cutoff_per_modulation": 30}, "expected less than all exposure to be lost, got 120%"),
        ({"lines": "crossed"}, "lines: expected one of vertical, horizontal"),
        ({"grid_lines_per_mm": math.inf}, "grid_lines_per_mm"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrGridLines.from_options(options)
