"""What headers of altered CT images would say, and what the next shift makes of it."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._ct_kernels import source_kernels
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_kernel import CtKernel

HEADERS = (
    {"ConvolutionKernel": "B30f", "XRayTubeCurrent": "200", "Exposure": "120"},
    {"ConvolutionKernel": "B60f", "XRayTubeCurrent": "", "Exposure": "x"},
)


@pytest.fixture
def discs(physical_batch):
    axis = (torch.arange(48) - 23.5) * 5.0
    disc = torch.where(torch.hypot(axis[:, None], axis) < 90, 40.0, -1000.0)
    return physical_batch(disc.expand(2, 1, 48, 48), unit=Unit.HU, spacing_mm=(5.0, 5.0), attributes=HEADERS)


def test_the_tube_current_falls_with_the_dose_and_what_is_not_said_stays_unsaid(discs, run):
    (whole, quarter), _ = run(CtDose(levels=(CtDose.level(1), CtDose.level(0.25)), i0=1e5), discs)
    assert not any(whole.changed_attributes(2))
    assert quarter.changed_attributes(2) == ({"XRayTubeCurrent": "50", "Exposure": "30"}, {})
    after = quarter.applied_to(discs).attributes
    assert [row["ConvolutionKernel"] for row in after] == ["B30f", "B60f"]
    assert after[0]["Exposure"] == "30"


def test_the_next_shift_reads_the_kernel_that_the_last_one_made(discs, run):
    (variant,), _ = run(CtKernel(levels=(CtKernel.level("1.6"),)), discs)
    kernels, assumed = source_kernels("auto", variant.applied_to(discs))
    assert assumed == [False, False]
    assert [kernel.f50_per_mm for kernel in kernels] == pytest.approx([0.34 * 1.6, 0.80 * 1.6])
    assert [kernel.f10_per_mm for kernel in kernels] == pytest.approx([0.60 * 1.6, 1.15 * 1.6])
