"""What every shift asks of its input, and the ladders of levels."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError
from robustbench_rad.registry import catalogue
from robustbench_rad.shifts._inputs import in_plane_spacing_mm, require_physical, slice_distance_mm, square_spacing_mm
from robustbench_rad.shifts._levels import dose_level


def test_catalogue_holds_the_three_shifts():
    found = {
        id: entry for id, entry in catalogue().items() if id in ("shift.ct.dose", "shift.ct.kernel", "shift.xr.dose")
    }
    assert len(found) == 3
    assert {id: entry.modalities for id, entry in found.items()} == {
        "shift.ct.dose": ("CT",),
        "shift.ct.kernel": ("CT",),
        "shift.xr.dose": ("CR", "DX"),
    }
    for entry in found.values():
        assert entry.domain == "acquisition-shift"
        assert entry.reference
        assert all(level.unit == entry.unit for level in entry.load()().levels)


def test_many_bad_cases_are_counted(physical_batch):
    batch = physical_batch(torch.full((8, 1, 2, 2), torch.nan), unit=Unit.HU)
    with pytest.raises(ImageError, match=r"case-0, case-1, case-2, case-3, case-4 and 3 more$"):
        require_physical(batch, shift="shift.test", unit=Unit.HU, ndim=(4,))


def test_spacing_of_images_and_volumes(physical_batch):
    images = torch.zeros(2, 1, 3, 4, 4)
    spacing = torch.tensor([[5.0, 0.7, 0.7], [1.0, 0.7, -0.7]])
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=spacing)
    assert in_plane_spacing_mm(batch)[0].tolist() == pytest.approx([0.7, 0.7])
    assert in_plane_spacing_mm(batch)[1].isnan().all()
    values, reason = square_spacing_mm(batch)
    assert values[0].item() == pytest.approx(0.7)
    assert values[1].isnan()
    assert reason == "pixel spacing unknown"
    assert slice_distance_mm(batch).tolist() == [5.0, 1.0]
    assert slice_distance_mm(physical_batch(images, unit=Unit.HU)).isnan().all()


@pytest.mark.parametrize("value", [0, -0.5, 1.01, "nan"])
def test_dose_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match="expected a dose fraction above 0 and at most 1"):
        dose_level(value, "of the dose")


def test_dose_may_be_a_fraction():
    assert dose_level("1/4", "of the dose").value == 0.25
