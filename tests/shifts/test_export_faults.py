"""Files read the wrong way: rescaling, padding, sign, axes, spacing."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts.export_orientation import ExportOrientation
from robustbench_rad.shifts.export_rescale_missing import ExportRescaleMissing
from robustbench_rad.shifts.export_spacing_error import ExportSpacingError


def faulty(run, batch, name, **options):
    (variant,), measured = run(ExportRescaleMissing.from_options({"levels": [name], **options}), batch)
    return variant, measured


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("intercept missing", (24.0, 1064.0, 3024.0), {}),
        ("intercept twice", (-2024.0, -984.0, 976.0), {}),
        ("slope ignored", (-1012.0, -492.0, 488.0), {"slope": 2.0}),
        ("sign lost", (64536.0, 40.0, 2000.0), {}),
        ("sign invented", (-1000.0, 40.0, -2096.0), {}),
    ],
)
def test_each_misreading_has_its_closed_form(physical_batch, run, name, values, options):
    image = torch.tensor([-1000.0, 40.0, 2000.0]).reshape(1, 1, 1, 3)
    variant, measured = faulty(run, physical_batch(image, unit=Unit.HU), name, **options)
    assert variant.images.flatten().tolist() == list(values)
    assert measured["hu_offset_mean", name].item() == pytest.approx(sum(values) / 3 - 1040 / 3, rel=1e-5)


def test_padding_is_kept_outside_of_the_reconstruction_only(physical_batch, run):
    side = torch.arange(32) - 15.5
    inside = torch.hypot(side[:, None], side) <= 16
    image = torch.where(inside, 40.0, -1000.0)[None, None]
    variant, _ = faulty(run, physical_batch(image, unit=Unit.HU), "padding kept")
    assert (variant.images[0, 0][inside] == 40.0).all()
    assert (variant.images[0, 0][~inside] == -2000.0).all()


@pytest.mark.parametrize(
    ("name", "pixels", "reason"),
    [
        ("slope ignored", (-1000.0, 40.0), "slope"),
        ("padding kept", (-3024.0, 40.0), "padding"),
        ("sign lost", (0.0, 40.0), "below 0"),
        ("sign invented", (-1000.0, 1023.0), "2048"),
    ],
)
def test_a_fault_that_changes_nothing_is_not_applicable(physical_batch, run, name, pixels, reason):
    image = torch.tensor(pixels).repeat(2)[None, None, None]
    variant, measured = faulty(run, physical_batch(image, unit=Unit.HU), name)
    assert not variant.applicable.any()
    assert reason in variant.reason
    assert torch.equal(variant.images, image)
    assert measured["hu_offset_mean", name].isnan().all()


def test_only_hu_is_rescaled(physical_batch, run):
    with pytest.raises(DataError, match="HU"):
        run(ExportRescaleMissing(), physical_batch(torch.full((1, 1, 4, 4), 0.5), unit=Unit.SIGNAL))
    with pytest.raises(PlanError, match="slope"):
        ExportRescaleMissing.from_options({"slope": 0})


VOLUME = torch.arange(24.0).reshape(1, 1, 2, 3, 4)


def turned(run, batch, name):
    (variant,), _ = run(ExportOrientation.from_options({"levels": [name]}), batch)
    return variant


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("transposed", (2, 4, 3), (5.0, 0.25, 0.5)),
        ("turned 90", (2, 4, 3), (5.0, 0.25, 0.5)),
        ("turned 180", (2, 3, 4), None),
        ("turned 270", (2, 4, 3), (5.0, 0.25, 0.5)),
        ("slices reversed", (2, 3, 4), None),
        ("slices last", (3, 4, 2), (0.5, 0.25, 5.0)),
    ],
)
def test_axes_go_with_their_spacing_and_masks(physical_batch, run, name, shape, spacing):
    mask = VOLUME == 7
    batch = replace(physical_batch(VOLUME, unit=Unit.MAGNITUDE, spacing_mm=(5.0, 0.5, 0.25)), anatomy=mask, lesion=mask)
    variant = turned(run, batch, name)
    assert variant.images.shape[2:] == shape
    assert (variant.spacing_mm is None) if spacing is None else variant.spacing_mm[0].tolist() == list(spacing)
    assert (variant.images[variant.anatomy] == 7).all()
    assert torch.equal(variant.anatomy, variant.lesion)
    assert torch.equal(variant.images.flatten().sort().values, VOLUME.flatten())


def test_four_quarter_turns_are_none(physical_batch, run):
    image = VOLUME[:, :, 0]
    quarter = turned(run, physical_batch(image, unit=Unit.MAGNITUDE), "turned 90").images
    rest = turned(run, physical_batch(quarter, unit=Unit.MAGNITUDE), "turned 270").images
    assert torch.equal(rest, image)
    assert quarter[0, 0, 0].tolist() == image[0, 0, :, -1].tolist()  # counter-clockwise: the right side comes up


@pytest.mark.parametrize("name", ["slices reversed", "slices last"])
def test_a_single_slice_has_no_slice_axis_to_confuse(physical_batch, run, name):
    for image in (VOLUME[:, :, 0], VOLUME[:, :, :1]):
        variant = turned(run, physical_batch(image, unit=Unit.MAGNITUDE), name)
        assert not variant.applicable.any()
        assert variant.reason == "there is one slice only"


def test_an_unknown_orientation_is_refused():
    with pytest.raises(PlanError, match="slices last"):
        ExportOrientation.from_options({"levels": ["upside down"]})


@pytest.mark.parametrize(("axes", "rows", "columns"), [("both", 0.5, 0.5), ("rows", 0.5, 1.0), ("columns", 1.0, 0.5)])
def test_half_the_spacing_shows_half_the_size(physical_batch, run, axes, rows, columns):
    image = torch.full((1, 1, 64, 64), 0.1)
    image[..., 16:48, 16:48] = 0.9
    batch = physical_batch(image, unit=Unit.SIGNAL, spacing_mm=(0.4, 0.4))
    (variant,), measured = run(ExportSpacingError.from_options({"levels": [0.5], "axes": axes}), batch)
    bright = (variant.images[0, 0] > 0.5).float()
    assert bright.amax(1).sum().item() == pytest.approx(32 * rows, abs=0.5)
    assert bright.amax(0).sum().item() == pytest.approx(32 * columns, abs=0.5)
    assert variant.spacing_mm is None
    assert measured["spacing_believed_mm", "0.5"].item() == pytest.approx(0.4 * rows)


def test_a_spacing_that_is_not_known_cannot_be_wrong(physical_batch, run):
    spacing = torch.tensor([[0.4, 0.4], [torch.nan, 0.4]])
    batch = physical_batch(torch.rand(2, 1, 8, 8), unit=Unit.SIGNAL, spacing_mm=spacing)
    for variant in run(ExportSpacingError(), batch)[0]:
        assert variant.applicable.tolist() == [True, False]
        assert "spacing unknown" in variant.reason
        assert torch.equal(variant.images[1], batch.images[1])


def test_nan_is_refused_by_name(physical_batch, run):
    image = torch.full((1, 1, 4, 4), torch.nan)
    for shift in (ExportRescaleMissing(), ExportOrientation(), ExportSpacingError()):
        with pytest.raises(ImageError, match=rf"{shift.id}.*case-0"):
            run(shift, physical_batch(image, unit=Unit.HU))
