"""Another window: the picture that the wrong window makes, exactly, through the model's own window."""

from types import SimpleNamespace

import pytest
import torch

from robustbench_rad.classifier import InputSpec
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts.export_window import PRESETS, ExportWindow

BRAIN = (0.0, 80.0)


def ramp():
    return torch.linspace(-1000, 1500, 400).reshape(1, 1, 20, 20)


def through(image, low, high):
    return InputSpec(size=(20, 20), window_hu=(low, high)).display(image)


@pytest.mark.parametrize(
    ("level", "centre", "width"),
    [
        ("centre 0.25", 60.0, 80.0),
        ("centre -1/2", 0.0, 80.0),
        ("width 0.6", 40.0, 48.0),
        ("width 1.6", 40.0, 128.0),
        *((name, *window) for name, window in PRESETS.items()),
    ],
)
def test_the_model_sees_the_picture_of_the_wrong_window(physical_batch, run, level, centre, width):
    batch = physical_batch(ramp(), unit=Unit.HU)
    (variant,), measured = run(ExportWindow(levels=(ExportWindow.level(level),), limits=BRAIN), batch)
    seen, expected = through(variant.images, *BRAIN), through(ramp(), centre - width / 2, centre + width / 2)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    name = variant.level.name
    assert measured["window_centre_hu", name].item() == pytest.approx(centre)
    assert measured["window_width_hu", name].item() == pytest.approx(width)


def test_a_wider_window_clips_nothing_and_a_narrower_one_clips_more(physical_batch, run):
    shift = ExportWindow.from_options({"levels": ["width 1.6", "width 0.8", "width 0.6"], "limits": BRAIN})
    _, measured = run(shift, physical_batch(ramp(), unit=Unit.HU))
    wide, narrow, narrower = (measured["clipped_share", f"width {factor}"].item() for factor in (1.6, 0.8, 0.6))
    assert wide == 0.0
    assert 0.0 < narrow < narrower


@pytest.mark.parametrize("level", [0, "centre 0", "width 1"])
def test_the_models_own_window_is_the_very_image(physical_batch, run, level):
    batch = physical_batch(ramp(), unit=Unit.HU)
    (variant,), _ = run(ExportWindow(levels=(ExportWindow.level(level),), limits=BRAIN), batch)
    assert variant.images is batch.images


def test_the_window_comes_from_the_plan_and_is_asked_for_without_one(physical_batch, run):
    plan = SimpleNamespace(model=SimpleNamespace(input=SimpleNamespace(window_hu=(-160.0, 240.0), range=None)))
    assert ExportWindow().bound(plan).limits == (-160.0, 240.0)
    assert ExportWindow(limits=BRAIN).bound(plan).limits == BRAIN
    with pytest.raises(DataError, match="black and white"):
        run(ExportWindow(), physical_batch(ramp(), unit=Unit.HU))


def test_padding_stays(physical_batch, run):
    image = ramp()
    image[..., 0, 0] = -2000
    for variant in run(ExportWindow(limits=BRAIN), physical_batch(image, unit=Unit.HU))[0]:
        assert variant.images[0, 0, 0, 0] == -2000


def test_what_is_not_hu_is_refused(physical_batch, run):
    with pytest.raises(DataError, match="HU"):
        run(ExportWindow(limits=BRAIN), physical_batch(ramp().clamp(0, 1), unit=Unit.SIGNAL))
    with pytest.raises(ImageError, match="all lie in"):
        run(ExportWindow(limits=BRAIN), physical_batch(ramp().clamp(0, 1), unit=Unit.HU))


@pytest.mark.parametrize("level", ["width 0", "width", "center 0.1", "centre x", "kidney", "centre nan", "centre 1/0"])
def test_a_window_that_cannot_be_read_is_refused(level):
    with pytest.raises(PlanError, match="expected 'centre"):
        ExportWindow.from_options({"levels": [level]})


@pytest.mark.parametrize("limits", [[80.0, 0.0], [1.0], [0.0, 0.0]])
def test_limits_must_rise(limits):
    with pytest.raises(PlanError, match="black below white"):
        ExportWindow.from_options({"limits": limits})
