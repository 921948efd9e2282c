"""A turned patient: exposure gradient, mean exposure, midline, side."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_patient_rotation import XrPatientRotation


@pytest.mark.parametrize("curve", ["log-linear", "linear"])
def test_the_gradient_is_that_of_the_level(physical_batch, run, curve):
    batch = physical_batch(torch.full((6, 1, 20, 201), 0.5), unit=Unit.SIGNAL)
    variants, measured = run(XrPatientRotation(display_curve=curve), batch)
    for variant in variants:
        found = measured["gradient_decades", variant.level.name].abs()
        assert found.tolist() == pytest.approx([variant.level.value] * 6, rel=1e-3)
        exposure = 10 ** (-1.5 * variant.images) if curve == "log-linear" else variant.images
        ends = exposure[..., 0, -1].log10() - exposure[..., 0, 0].log10()
        assert ends.abs().flatten().tolist() == pytest.approx([variant.level.value * 200 / 201] * 6, rel=1e-3)
        before = 10**-0.75 if curve == "log-linear" else 0.5
        assert exposure.mean((1, 2, 3)).tolist() == pytest.approx([before] * 6, rel=1e-4)


def test_the_midline_moves_and_the_borders_stay(physical_batch, run):
    columns = torch.arange(201.0)
    line = 0.4 + 0.3 * torch.exp(-((columns - 100) ** 2) / 18)
    images = line.expand(16, 1, 11, 201).contiguous()
    mask = (columns - 100).abs() < 4
    batch = replace(physical_batch(images, unit=Unit.SIGNAL), anatomy=mask.expand(16, 1, 11, 201))
    variants, measured = run(XrPatientRotation(), batch)
    for variant in variants:
        peak = variant.images[:, 0, 5].argmax(1) - 100
        shift = measured["midline_shift", variant.level.name] * 201
        torch.testing.assert_close(peak.float(), shift, atol=1.1, rtol=0)
        moved = (variant.anatomy[:, 0, 5] * columns).sum(1) / variant.anatomy[:, 0, 5].sum(1) - 100
        torch.testing.assert_close(moved, shift, atol=0.6, rtol=0)
        slope = measured["gradient_decades", variant.level.name]
        assert (slope * shift > 0).all()
    assert len({value > 0 for value in measured["midline_shift", "0.3"].tolist()}) == 2


def test_bad_options_are_refused():
    with pytest.raises(PlanError, match="a gradient in decades from 0 to 1, got 2"):
        XrPatientRotation.from_options({"levels": [2]})
    with pytest.raises(PlanError, match=r"expected a shift of at most 0\.2 of the width, got 0\.3"):
        XrPatientRotation.from_options({"midline_shift_per_decade": 1.0})
