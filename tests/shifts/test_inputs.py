"""What every shift asks of its input, and the ladders of levels."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError
from robustbench_rad.registry import catalogue
from robustbench_rad.shifts._inputs import (
    CLIPPED,
    clipped_hu,
    in_plane_spacing_mm,
    require_physical,
    slice_distance_mm,
    square_spacing_mm,
)
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


def trunk(noise=15.0):
    """Skin, fat, muscle, bone and air, with noise, 128 x 128."""
    axis = torch.linspace(-1, 1, 128)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    image = torch.full((128, 128), -1000.0)
    for outer, value in ((0.8, -90.0), (0.7, 50.0), (0.25, 900.0), (0.15, 300.0)):
        image[radius < outer] = value
    image = image + noise * torch.randn(128, 128, generator=torch.Generator().manual_seed(0))
    return image[None, None].clamp(min=-1024)


@pytest.mark.parametrize(
    ("window", "clipped"),
    [
        ((-1024, 3071), False),
        ((-160, 240), True),
        ((-160, 3071), True),
        ((-1024, 240), True),
        ((-1350, 150), True),
        ((-500, 1300), True),  # a bone window: only its lower end cuts
    ],
)
def test_a_window_is_seen_at_either_end(physical_batch, window, clipped):
    batch = physical_batch(trunk().clamp(*window), unit=Unit.HU)
    assert clipped_hu(batch).tolist() == [clipped]
    levels = 255 / (min(window[1], 1200) - max(window[0], -1024))
    eight_bits = (batch.images * levels).round() / levels  # a picture of 8 bits brought back to HU
    assert clipped_hu(replace(batch, images=eight_bits)).tolist() == [clipped]


def test_metal_at_the_end_of_12_bits_and_drawings_are_no_windows(physical_batch):
    metal = trunk()
    metal[..., 60:70, 60:70] = 3071.0
    drawing = trunk(0.0)
    flat = torch.full((1, 1, 128, 128), 40.0)
    assert clipped_hu(physical_batch(torch.cat([metal, drawing, flat]), unit=Unit.HU)).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("id", "options"),
    [
        ("shift.ct.kernel", {"levels": [0.5, 1.6]}),
        ("shift.ct.recon-algorithm", {}),
        ("shift.ct.hu-calibration", {}),
        ("shift.ct.dose", {"levels": [0.25]}),
        ("shift.ct.contrast-timing", {"without_contrast_hu": 40.0}),
        ("shift.ct.slice-thickness", {"levels": [3, 5]}),
    ],
)
@pytest.mark.parametrize("window", [(-160, 3071), (-1024, 240)])
def test_shifts_of_ct_are_not_applicable_to_a_window(physical_batch, run, id, options, window):
    shift = catalogue()[id].load().from_options(options)
    image, spacing = trunk(), (2.0, 2.0)
    if id.endswith("thickness"):
        image, spacing = image[:, :, None].expand(-1, -1, 8, -1, -1).clone(), (1.0, 2.0, 2.0)
    batch = physical_batch(image.clamp(*window), unit=Unit.HU, spacing_mm=spacing)
    batch = replace(batch, anatomy=image > 200)
    for variant in run(shift, batch)[0]:
        assert not variant.applicable.any()
        assert CLIPPED in variant.reason
        assert torch.equal(variant.images, batch.images)
    whole = replace(batch, images=image)
    assert all(v.applicable is None or v.applicable.all() for v in run(shift, whole)[0])


def test_vendors_leave_out_the_members_that_a_window_forbids(physical_batch, run):
    batch = physical_batch(trunk().clamp(-1024, 240), unit=Unit.HU, spacing_mm=(2.0, 2.0))
    variants, measured = run(
        catalogue()["shift.scanner.ct"].load().from_options({"levels": ["vendor A", "vendor B"]}), batch
    )
    for variant in variants:
        left_out = [
            values for (name, level), values in measured.items() if "left_out" in name and level == variant.level.name
        ]
        assert left_out
        assert all(values.item() == 1 for values in left_out)
        assert not variant.applicable.any()
