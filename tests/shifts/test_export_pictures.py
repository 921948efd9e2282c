"""JPEG, CLAHE and downscaling of what is shown: known answers, achieved values, the HU guard."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts import _albumentations
from robustbench_rad.shifts.export_clahe import ExportClahe
from robustbench_rad.shifts.export_downscale import ExportDownscale
from robustbench_rad.shifts.export_jpeg import ExportJpeg, best_quality

ALL = (ExportJpeg, ExportClahe, ExportDownscale)


def pictures(count=3, size=128):
    axis = torch.linspace(0, 6, size)
    smooth = 0.5 + 0.3 * torch.sin(axis)[:, None] * torch.cos(axis)
    noise = 0.03 * torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    return (smooth + noise).clamp(0, 1)


@pytest.fixture
def display(physical_batch):
    def make(images):
        return physical_batch(images, unit=None, space=Space.DISPLAY)

    return make


def levels(shift, *values):
    return tuple(shift.level(value) for value in values)


def test_jpeg_is_what_pillow_decodes(display, run):
    batch = display(pictures())
    (variant,), _ = run(ExportJpeg(levels=levels(ExportJpeg, "q40")), batch)
    for image, altered in zip(batch.images, variant.images, strict=True):
        file = io.BytesIO()
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(file, "JPEG", quality=40)
        difference = altered[0] * 255 - torch.from_numpy(np.array(Image.open(file)).astype(np.float32))
        psnr = 20 * np.log10(255 / max(difference.square().mean().sqrt().item(), 1e-9))
        assert psnr > 50


def test_a_ratio_is_reached_with_the_best_quality_that_reaches_it(display, run):
    batch = display(pictures())
    _, measured = run(ExportJpeg(levels=levels(ExportJpeg, "5:1", 10, 15)), batch)
    for ratio in ("5", "10", "15"):
        achieved, quality = measured["compression_ratio", ratio], measured["jpeg_quality", ratio]
        assert (achieved >= float(ratio)).all()
        assert (achieved < 1.3 * float(ratio)).all()
        assert torch.equal(measured["compression_ratio_requested", ratio], torch.full((3,), float(ratio)))
        assert ((quality >= 1) & (quality <= 100)).all()
    assert (measured["jpeg_quality", "5"] > measured["jpeg_quality", "15"]).all()


def test_a_picture_too_small_for_a_ratio_is_not_applicable(display, run):
    batch = display(pictures(2, 16))
    (variant,), _ = run(ExportJpeg(levels=levels(ExportJpeg, 50)), batch)
    assert not variant.applicable.any()
    assert "not reached" in variant.reason
    assert torch.equal(variant.images, batch.images)
    assert best_quality([np.zeros((8, 8), np.uint8)], 50.0) is None


@pytest.mark.parametrize("value", ["q0", "q101", "q1.5", 0.5, "best", 5000])
def test_levels_of_jpeg_that_mean_nothing_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|could not convert"):
        ExportJpeg.level(value)


def test_clahe_raises_the_contrast_more_with_a_higher_limit(display, run):
    dull = 0.5 + 0.1 * (pictures() - 0.5)
    _, measured = run(ExportClahe(), display(dull))
    ratios = torch.stack([measured["contrast_ratio", level.name] for level in ExportClahe().levels])
    assert (ratios[0] > 1).all()
    assert (ratios.diff(dim=0) >= 0).all()
    assert (ratios[-1] > 2).all()


def test_clahe_of_an_image_smaller_than_its_tiles_is_not_applicable(display, run):
    (variant,), _ = run(ExportClahe(levels=levels(ExportClahe, 2)), display(torch.full((1, 1, 4, 4), 0.5)))
    assert not variant.applicable.any()
    assert "fewer than 8 pixels" in variant.reason


def test_downscaling_by_two_keeps_the_mean_of_each_block(display, run):
    batch = display(pictures())
    shift = ExportDownscale(levels=levels(ExportDownscale, 2), enlarge="nearest")
    (variant,), measured = run(shift, batch)
    blocks = torch.nn.functional.avg_pool2d(batch.images, 2)
    torch.testing.assert_close(variant.images[..., ::2, ::2], blocks, rtol=0, atol=1.01 / 255)
    torch.testing.assert_close(variant.images[..., 1::2, 1::2], blocks, rtol=0, atol=1.01 / 255)
    assert measured["scale", "2"].tolist() == [0.5] * 3


def test_downscaling_takes_more_detail_the_smaller_the_picture(display, run):
    batch = display(pictures())
    variants, _ = run(ExportDownscale(), batch)
    errors = torch.tensor([(v.images - batch.images).square().mean().sqrt() for v in variants])
    assert (errors.diff() > -0.001).all()
    assert errors[-1] > 1.2 * errors[0]


def test_what_would_leave_no_picture_is_not_applicable(display, run):
    (variant,), _ = run(ExportDownscale(levels=levels(ExportDownscale, 6)), display(torch.rand(2, 1, 1, 1)))
    assert not variant.applicable.any()
    assert "leave 0" in variant.reason


@pytest.mark.parametrize("shift", ALL)
def test_volumes_are_worked_on_slice_by_slice(display, run, shift):
    planes = pictures(4, 64)
    volume = planes[:, 0][None, None]
    options = {"levels": levels(shift, "q30" if shift is ExportJpeg else 2)}
    (flat,), _ = run(shift(**options), display(planes))
    (deep,), _ = run(shift(**options), display(volume))
    assert torch.equal(deep.images[0, 0], flat.images[:, 0])


@pytest.mark.parametrize("shift", ALL)
def test_hu_are_refused_by_name_and_never_clipped(physical_batch, run, shift):
    batch = physical_batch(torch.full((2, 1, 32, 32), -700.0), unit=Unit.HU)
    with pytest.raises(DataError, match=rf"{shift.id}: expected windowed images in \[0, 1\].*HU in physical space"):
        run(shift(), batch)
    disguised = physical_batch(torch.full((2, 1, 32, 32), -700.0), unit=None, space=Space.DISPLAY)
    with pytest.raises(ImageError, match=rf"{shift.id}.*case-0"):
        run(shift(), disguised)
    broken = physical_batch(torch.full((2, 1, 32, 32), torch.nan), unit=None, space=Space.DISPLAY)
    with pytest.raises(ImageError, match="NaN"):
        run(shift(), broken)


@pytest.mark.parametrize("shift", ALL)
def test_gradients_pass_straight_through(display, run, shift):
    images = pictures(1, 32).requires_grad_()
    (variant,), _ = run(shift(levels=levels(shift, "q30" if shift is ExportJpeg else 2)), display(images))
    variant.images.sum().backward()
    assert torch.equal(images.grad, torch.ones_like(images))


@pytest.mark.parametrize(
    ("shift", "options", "words"),
    [
        (ExportClahe, {"tiles": 0}, "tiles: expected a whole number"),
        (ExportClahe, {"levels": [-1]}, "expected 0 to 100"),
        (ExportDownscale, {"shrink": "lanczos"}, "shrink: expected one of area"),
        (ExportDownscale, {"levels": [0.5]}, "expected 1 to 64"),
        (ExportJpeg, {"levels": ["q0"]}, "expected a quality from q1 to q100"),
    ],
)
def test_options_that_mean_nothing_are_refused(shift, options, words):
    with pytest.raises(PlanError, match=words):
        shift.from_options(options)


def test_the_successor_under_another_licence_is_refused_by_what_is_installed(monkeypatch, display, run):
    monkeypatch.setattr(_albumentations, "packages_distributions", lambda: {"albumentations": ["AlbumentationsX"]})
    _albumentations.albumentations.cache_clear()
    try:
        with pytest.raises(PlanError, match=r"AlbumentationsX, which is under AGPL-3\.0"):
            run(ExportJpeg(levels=levels(ExportJpeg, "q30")), display(pictures(1, 16)))
    finally:
        _albumentations.albumentations.cache_clear()
