"""Pictures with fewer grey levels, fewer pixels, or taken from a screen."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.shifts._viewer_text import dots, written
from robustbench_rad.shifts.export_bit_depth import ExportBitDepth
from robustbench_rad.shifts.export_resample import METHODS, ExportResample
from robustbench_rad.shifts.export_screenshot import ExportScreenshot

SIZE = 96


@pytest.fixture
def ramp(physical_batch):
    image = torch.linspace(0, 1, SIZE * SIZE).reshape(1, 1, SIZE, SIZE)
    return replace(physical_batch(image, unit=Unit.SIGNAL, spacing_mm=(0.2, 0.2)), stored_bits=14)


@pytest.mark.parametrize("bits", [1, 5, 8, 10])
def test_grey_levels_and_rounding_error_are_those_of_the_bits(ramp, run, bits):
    (variant,), measured = run(ExportBitDepth.from_options({"levels": [bits]}), ramp)
    assert variant.images.unique().numel() == 2**bits
    step = 1 / (2**bits - 1)
    assert (variant.images - ramp.images).abs().max() <= step / 2 + 1e-6
    # rounding a uniform density: a step over the root of twelve
    assert measured["rounding_rms", str(bits)].item() == pytest.approx(step / 12**0.5, rel=0.03)
    assert measured["grey_levels", str(bits)].item() == 2**bits
    assert variant.attributes == {"BitsStored": str(bits)}


def test_fewer_bits_are_a_larger_error(ramp, run):
    shift = ExportBitDepth()
    _, measured = run(shift, ramp)
    errors = [measured["rounding_rms", level.name].item() for level in shift.levels]
    assert errors == sorted(errors)
    assert len(set(errors)) == 5


def test_a_window_of_ct_is_rounded_between_black_and_white_and_clipped(physical_batch, run):
    image = torch.tensor([-1000.0, -160.0, 39.0, 41.0, 240.0, 2000.0]).reshape(1, 1, 1, 6)
    batch = replace(physical_batch(image, unit=Unit.HU), stored_bits=12)
    (variant,), _ = run(ExportBitDepth.from_options({"levels": [1], "limits": [-160, 240]}), batch)
    assert variant.images.flatten().tolist() == [-160.0, -160.0, -160.0, 240.0, 240.0, 240.0]
    with pytest.raises(DataError, match="black and white"):
        run(ExportBitDepth(), batch)


def test_a_file_of_eight_bits_is_not_brought_to_eight(ramp, run):
    variants, measured = run(ExportBitDepth(), replace(ramp, stored_bits=8))
    assert [bool(variant.applicable.all()) for variant in variants] == [False, False, True, True, True]
    assert variants[1].reason == "the file has 8 bits"
    assert torch.equal(variants[1].images, ramp.images)
    assert measured["rounding_rms", "8"].isnan().all()


def test_gradients_pass_straight_through_the_rounding(ramp, run):
    image = ramp.images.clone().requires_grad_()
    (variant,), _ = run(ExportBitDepth.from_options({"levels": [5]}), replace(ramp, images=image))
    variant.images.sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


@pytest.mark.parametrize("bits", [0, 17, 7.5])
def test_bits_without_meaning_are_refused(bits):
    with pytest.raises(PlanError, match="bits"):
        ExportBitDepth.from_options({"levels": [bits]})


@pytest.mark.parametrize("method", METHODS)
def test_a_detour_loses_more_the_fewer_pixels_it_takes(physical_batch, run, method):
    generator = torch.Generator().manual_seed(4)
    rough = torch.randn(1, 1, SIZE, SIZE, generator=generator)
    low_pass = torch.fft.fftfreq(SIZE)[:, None].square() + torch.fft.rfftfreq(SIZE).square()
    image = 40 + 100 * torch.fft.irfft2(torch.fft.rfft2(rough) * torch.exp(-low_pass / 0.01))
    shift = ExportResample(method=method)
    _, measured = run(shift, physical_batch(image, unit=Unit.HU))
    errors = [measured["resampling_rms", level.name].item() for level in shift.levels]
    assert errors == sorted(errors)
    assert errors[-1] > 2 * errors[0]
    assert measured["factor", "6"].item() == 6.0


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_image_and_its_place_survive_a_detour(physical_batch, run, method):
    """A slope comes back within half a pixel of where it was; nothing is shifted to a side."""
    image = torch.linspace(0, 1, SIZE).expand(1, 1, SIZE, SIZE).clone()
    variants, _ = run(ExportResample(method=method), physical_batch(image, unit=Unit.SIGNAL))
    for variant in variants:
        offset = (variant.images - image)[..., 12:-12].mean() * (SIZE - 1)
        limit = variant.level.value / 2 if method == "nearest" else 0.05  # nearest takes the first of its pixels
        assert offset.abs() <= limit
    flat = torch.full((1, 1, 9, 7), 0.3)
    for variant in run(ExportResample(method=method), physical_batch(flat, unit=Unit.SIGNAL))[0]:
        torch.testing.assert_close(variant.images, flat)


def test_area_averages_before_it_loses_pixels_and_nearest_aliases(physical_batch, run):
    stripes = (torch.arange(SIZE) % 2).float().expand(1, 1, SIZE, SIZE).clone()
    batch = physical_batch(stripes, unit=Unit.SIGNAL)
    seen = {}
    for method in ("area", "nearest"):
        (seen[method],), _ = run(ExportResample.from_options({"levels": [2], "method": method}), batch)
    torch.testing.assert_close(seen["area"].images, torch.full_like(stripes, 0.5))
    assert seen["nearest"].images.unique().numel() == 1
    assert seen["nearest"].images[0, 0, 0, 0] in (0.0, 1.0)


def test_padding_and_range_survive_a_cubic_detour(physical_batch, run):
    image = torch.full((1, 1, 32, 32), -1000.0)
    image[..., 10:, 10:] = 900.0
    image[..., :4, :] = -2000.0
    for variant in run(ExportResample(method="cubic"), physical_batch(image, unit=Unit.HU))[0]:
        assert (variant.images[..., :4, :] == -2000.0).all()
        assert variant.images[..., 4:, :].min() >= -1000.0
        assert variant.images.max() <= 900.0


def test_one_pixel_cannot_be_lost(physical_batch, run):
    for variant in run(ExportResample(), physical_batch(torch.full((1, 1, 1, 1), 0.5), unit=Unit.SIGNAL))[0]:
        assert not variant.applicable.any()
        assert variant.reason == "too few pixels to lose one"


def test_slices_are_resampled_each_for_itself(physical_batch, run):
    volume = torch.rand(2, 1, 3, 20, 20, generator=torch.Generator().manual_seed(5))
    whole = run(ExportResample(), physical_batch(volume, unit=Unit.SIGNAL))[0]
    alone = run(ExportResample(), physical_batch(volume[:, :, 2], unit=Unit.SIGNAL))[0]
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one.images[:, :, 2], other.images)


def test_an_unknown_method_is_refused():
    with pytest.raises(PlanError, match="nearest, bilinear, area, cubic"):
        ExportResample.from_options({"method": "lanczos"})


def test_every_step_of_a_screenshot_holds_those_before_it(ramp, run):
    flat = replace(ramp, images=torch.full_like(ramp.images, 0.25))
    variants, measured = run(ExportScreenshot(words=("LL",), text_height=0.2), flat)
    eight, text, frame, uneven, gamma = (variant.images[0, 0] for variant in variants)
    torch.testing.assert_close(eight, torch.full_like(eight, round(0.25 * 255) / 255))
    assert text.max().item() == pytest.approx(0.95, abs=0.01)
    assert text[SIZE // 2, SIZE // 2] == eight[SIZE // 2, SIZE // 2]
    assert frame[SIZE // 2, 1] == 0.0
    assert frame[SIZE // 2, SIZE // 2] == eight[0, 0]
    covered = [measured["overlay_share", v.level.name].item() for v in variants]
    assert covered == sorted(covered)
    assert covered[2] == pytest.approx(1 - 0.88**2, abs=0.05)
    assert (uneven[:, SIZE // 2] > 0).sum() < (uneven[SIZE // 2] > 0).sum()
    assert gamma[SIZE // 2, SIZE // 2].item() == pytest.approx(0.25 ** (1 / 2.2), abs=0.003)


def test_uneven_pixels_have_the_aspect_that_was_asked_for(ramp, run):
    flat = replace(ramp, images=torch.full_like(ramp.images, 0.5))
    for aspect in (0.8, 1.25):
        options = {"levels": ["uneven pixels"], "aspect": aspect, "words": []}
        (variant,), _ = run(ExportScreenshot.from_options(options), flat)
        shown = variant.images[0, 0] > 0.25
        wide, high = shown[SIZE // 2].sum().item(), shown[:, SIZE // 2].sum().item()
        assert wide / high == pytest.approx(aspect, rel=0.04)


def test_masks_follow_the_picture_into_its_frame(ramp, run):
    mask = torch.ones_like(ramp.images, dtype=torch.bool)
    variants, _ = run(ExportScreenshot(), replace(ramp, anatomy=mask, lesion=mask))
    assert variants[1].anatomy.all()
    assert variants[2].anatomy.float().mean().item() == pytest.approx(0.88**2, abs=0.02)


def test_a_tiny_image_has_no_room_and_a_volume_no_screen(physical_batch, run):
    for variant in run(ExportScreenshot(), physical_batch(torch.full((1, 1, 1, 1), 0.5), unit=Unit.SIGNAL))[0]:
        assert not variant.applicable.any()
        assert "16 pixels" in variant.reason
    with pytest.raises(DataError, match="shape"):
        run(ExportScreenshot(), physical_batch(torch.full((1, 1, 2, 20, 20), 0.5), unit=Unit.SIGNAL))


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"words": ["äh"]}, "no such letter"), ({"frame": 0.5}, "below 0.5"), ({"gamma": 0}, "gamma")],
)
def test_options_of_a_screenshot_are_checked(options, problem):
    with pytest.raises(PlanError, match=problem):
        ExportScreenshot.from_options(options)


@settings(max_examples=20, deadline=None)
@given(height=st.floats(3, 40), top=st.floats(0, 10), left=st.floats(0, 10))
def test_ink_is_conserved_at_any_size_and_place(height, top, left):
    words = "W: 4"
    opacity = written(words, (60, 200), height_px=height, top_px=top, left_px=left)
    assert opacity.sum().item() == pytest.approx(dots(words).sum().item() * (height / 7) ** 2, rel=1e-3)
    assert opacity.max() <= 1 + 1e-5
