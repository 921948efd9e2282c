"""CT kernel: measured edges and noise power against the requested transfer function, invariance and bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts._ct_kernels import KERNELS, Kernel, transfer
from robustbench_rad.shifts._spectral import filtered, radial_frequency_per_mm
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_kernel import CtKernel, with_kernel

PIXEL_MM = 0.7
SPACING = torch.tensor([PIXEL_MM])
SOFT = KERNELS["soft"]
STANDARD = ({"ConvolutionKernel": "STANDARD"},)
TILT = math.radians(4.0)


def levels(*factors):
    return tuple(CtKernel.level(factor) for factor in factors)


def across_mm(size):
    """Distance of every pixel from an edge that is tilted by 4° against the rows."""
    side = (torch.arange(size) - (size - 1) / 2) * PIXEL_MM
    return side * math.cos(TILT) + side[:, None] * math.sin(TILT)


def slanted_edge(kernel, size=256, step_mm=0.02):
    """An edge of 1000 HU as the kernel's transfer function shows it, ``(1, 1, size, size)``."""
    position = np.arange(-300.0, 300.0, step_mm)
    frequency = torch.from_numpy(np.fft.rfftfreq(position.size, step_mm))[None]
    spectrum = np.fft.rfft((position > 0).astype(float)) * transfer([kernel], frequency)[0].numpy()
    profile = 1000.0 * np.fft.irfft(spectrum, n=position.size) - 1000.0
    return torch.from_numpy(np.interp(across_mm(size).numpy(), position, profile)).float()[None, None]


def measured_f50(image):
    """Oversampled edge profile, its derivative, the transform of that, and where it falls to a half."""
    bins = 4
    place = ((across_mm(image.shape[-1]) / PIXEL_MM + 100.0) * bins).flatten()
    inside = (place >= 0) & (place < 200 * bins)
    index, values = place[inside].long(), image.flatten()[inside].double()
    count = torch.zeros(200 * bins, dtype=torch.float64).index_add(0, index, torch.ones_like(values))
    edge = torch.zeros(200 * bins, dtype=torch.float64).index_add(0, index, values) / count.clamp_min(1)
    line = edge.diff() * torch.hann_window(200 * bins - 1, dtype=torch.float64)
    frequency = torch.fft.rfftfreq(line.numel(), PIXEL_MM / bins)
    values = torch.fft.rfft(line).abs() / torch.sinc(frequency * PIXEL_MM / bins).clamp_min(0.3) ** 2
    values /= values[0].clone()
    first = int((values < 0.5).to(torch.int8).argmax())
    upper, lower = values[first - 1], values[first]
    return (frequency[first - 1] + (upper - 0.5) / (upper - lower) * frequency[1]).item()


@pytest.mark.parametrize("name", ["0.5", "0.7", "1.35", "1.6"])
def test_edge_has_the_requested_f50(name, physical_batch, run):
    edge = slanted_edge(SOFT)
    assert measured_f50(edge) == pytest.approx(0.34, rel=0.03)
    batch = physical_batch(edge, unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM), metadata=STANDARD)
    (variant,), measured = run(CtKernel(levels=levels(name)), batch)
    assert measured_f50(variant.images) == pytest.approx(0.34 * float(name), rel=0.03)
    assert measured["f50_per_mm", name].item() == pytest.approx(0.34 * float(name), rel=0.01)
    assert measured["requested_f50_per_mm", name].item() == pytest.approx(0.34 * float(name))


@pytest.mark.parametrize(
    ("name", "f50"), [("B30f to B50f", 0.55), ("B70f to B30f", 0.34**2 / 0.8), ("STANDARD to DETAIL", 0.55)]
)
def test_two_kernels_stand_for_the_factor_between_their_nominal_f50(name, f50, physical_batch, run):
    batch = physical_batch(slanted_edge(SOFT), unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM), metadata=STANDARD)
    (variant,), measured = run(CtKernel(levels=levels(name)), batch)
    assert str(variant.level).strip() == name
    assert measured["requested_f50_per_mm", name].item() == pytest.approx(f50)
    assert measured_f50(variant.images) == pytest.approx(f50, rel=0.03)


def test_strong_sharpening_reports_what_the_cap_leaves(physical_batch, run):
    batch = physical_batch(slanted_edge(SOFT), unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM), metadata=STANDARD)
    (variant,), measured = run(CtKernel(levels=levels("2.0")), batch)
    assert measured["requested_f50_per_mm", "2.0"].item() == pytest.approx(0.68)
    assert measured["f50_per_mm", "2.0"].item() == pytest.approx(0.655, abs=0.005)
    assert measured_f50(variant.images) == pytest.approx(0.655, rel=0.04)


def test_source_kernel_of_the_file_is_the_starting_point(physical_batch, run):
    metadata = ({"ConvolutionKernel": "B45f"},)
    edge = slanted_edge(KERNELS["medium"])
    batch = physical_batch(edge, unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM), metadata=metadata)
    (variant,), measured = run(CtKernel(levels=levels("0.7")), batch)
    assert measured["source_f50_per_mm", ""].item() == pytest.approx(0.55)
    assert measured_f50(variant.images) == pytest.approx(0.385, rel=0.03)


def test_levels_are_monotone(physical_batch, run):
    batch = physical_batch(slanted_edge(SOFT, size=128), unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM))
    variants, measured = run(CtKernel(), batch)
    achieved = [measured["f50_per_mm", variant.level.name].item() for variant in variants]
    assert achieved == sorted(achieved)
    steepest = [variant.images.diff(dim=-1).max().item() for variant in variants]
    assert steepest == sorted(steepest)
    assert measured["source_kernel_assumed", ""].item() == 1


@pytest.fixture(scope="module")
def scanned(physical_batch, run):
    """A soft-tissue disc with the noise of a soft kernel: the batch, and the disc alone."""
    side = (torch.arange(256) - 127.5) * PIXEL_MM
    disc = torch.where(torch.hypot(side[:, None], side) < 85, 40.0, -1000.0).expand(6, 1, -1, -1)
    clean = physical_batch(disc, unit=Unit.HU, spacing_mm=(PIXEL_MM, PIXEL_MM), metadata=STANDARD * 6)
    scan = CtDose(levels=(CtDose.level(0.5),), reference_noise_hu=12.0, electronic_noise_quanta=0.0)
    return replace(clean, images=run(scan, clean)[0][0].images), clean


def noise_power(noise):
    """Ring means of the noise power in the centre, and the rings' frequencies per mm."""
    centre = noise[:, 0, 64:192, 64:192]
    window = torch.hann_window(128)[:, None] * torch.hann_window(128)
    power = torch.fft.fft2((centre - centre.mean()) * window).abs().square().mean(0)
    frequency = torch.fft.fftfreq(128, PIXEL_MM)
    radius = torch.hypot(frequency[:, None], frequency)
    rings = [(low, (radius >= low) & (radius < low + 0.05)) for low in np.arange(0.1, 0.7, 0.05)]
    return torch.tensor([low + 0.025 for low, _ in rings], dtype=torch.float32), torch.stack(
        [power[ring].mean() for _, ring in rings]
    )


@pytest.mark.parametrize("factor", [0.7, 1.35])
def test_noise_power_follows_the_square_of_the_ratio(factor, scanned, run):
    batch, clean = scanned
    shift = CtKernel(levels=levels(factor))
    images, plain = (run(shift, source)[0][0].images for source in (batch, clean))
    frequency, before = noise_power(batch.images - clean.images)
    _, after = noise_power(images - plain)
    theory = (transfer([SOFT], frequency[None], factor=factor) / transfer([SOFT], frequency[None]))[0] ** 2
    strong = transfer([SOFT], frequency[None], factor=min(factor, 1.0))[0] > 0.05
    torch.testing.assert_close((after / before)[strong], theory[strong], rtol=0.05, atol=0.0)


def test_missing_noise_fills_the_power_of_a_sharp_kernel(scanned, run):
    """Twice the f50: where the gain is capped, the noise has the power of the target kernel all the same."""
    batch, clean = scanned
    frequency, before = noise_power(batch.images - clean.images)
    theory = (transfer([SOFT], frequency[None], factor=2.0) / transfer([SOFT], frequency[None]))[0] ** 2
    ratio = {}
    for missing in (True, False):
        shift = CtKernel(levels=levels(2.0), missing_noise=missing)
        images, measured = run(shift, batch)
        plain = with_kernel(clean.images, torch.full((6,), PIXEL_MM), [SOFT] * 6, factor=2.0)
        ratio[missing] = noise_power(images[0].images - plain)[1] / before / theory
    low, high, capped = frequency < 0.45, frequency > 0.55, frequency > 0.65  # the gain reaches its cap at 0.648
    torch.testing.assert_close(ratio[True][low], torch.ones(int(low.sum())), rtol=0.1, atol=0.0)
    torch.testing.assert_close(ratio[True][high], torch.ones(int(high.sum())), rtol=0.2, atol=0.0)
    assert (ratio[False][capped] < 0.8 * ratio[True][capped]).all()
    assert measured["missing_noise_sd_hu", "2.0"].tolist() == [0.0] * 6


def test_round_trip_comes_back():
    side = torch.arange(256) - 127.5
    image = torch.where(torch.hypot(side[:, None] * 1.3, side) < 100, 40.0, -1000.0)
    image[60:80, 100:110] = 900.0
    frequency = radial_frequency_per_mm((256, 256), SPACING[:, None].expand(-1, 2))
    soft = filtered(image[None, None], transfer([SOFT], frequency))
    medium = with_kernel(soft, SPACING, [SOFT], factor=1.6)
    target = Kernel(name="target", f50_per_mm=SOFT.f50_per_mm * 1.6, f10_per_mm=SOFT.f10_per_mm * 1.6)
    back = with_kernel(medium, SPACING, [target], factor=1 / 1.6)
    assert (medium - soft).square().mean().sqrt() > 10
    assert (back - soft).square().mean().sqrt() < 2


def test_mean_stays_and_nothing_wraps_around():
    image = torch.full((1, 1, 64, 64), 30.0)
    image[..., :4] = 1000.0
    for factor in (0.5, 2.0):
        changed = with_kernel(image, SPACING, [SOFT], factor=factor)
        assert changed[..., 40:].sub(30.0).abs().max() < 3.0
        flat = with_kernel(torch.full_like(image, 55.0), SPACING, [SOFT], factor=factor)
        torch.testing.assert_close(flat, torch.full_like(image, 55.0), rtol=0.0, atol=1e-3)


def test_factor_one_is_the_image_itself_and_the_input_is_untouched(scanned, run):
    batch, _ = scanned
    kept = batch.images.clone()
    variants, _ = run(CtKernel(levels=levels(1, 0.5)), batch)
    assert torch.equal(variants[0].images, batch.images)
    assert torch.equal(batch.images, kept)
    assert not torch.equal(variants[1].images, batch.images)


def test_a_case_does_not_depend_on_its_batch(scanned, run):
    batch, _ = scanned
    together, _ = run(CtKernel(), batch)
    alone, _ = run(CtKernel(), batch.select(torch.tensor([4])))
    for one, many in zip(alone, together, strict=True):
        assert torch.equal(one.images[0], many.images[4])


def test_volumes_are_filtered_slice_by_slice(scanned, physical_batch, run):
    images = scanned[0].images[:2, :, 64:192, 64:192]
    volume = physical_batch(images.reshape(1, 1, 2, 128, 128), unit=Unit.HU, spacing_mm=torch.tensor([[1.0, 0.7, 0.7]]))
    flat = physical_batch(images, unit=Unit.HU, spacing_mm=(0.7, 0.7))
    shift = CtKernel(levels=levels(0.7))
    torch.testing.assert_close(
        run(shift, volume)[0][0].images[0, 0], run(shift, flat)[0][0].images[:, 0], rtol=0.0, atol=1e-3
    )
    sharpened, measured = run(CtKernel(levels=levels(2.0)), volume)
    assert sharpened[0].images.shape == volume.images.shape
    assert measured["missing_noise_sd_hu", "2.0"].item() > 0


def test_gradient_is_that_of_the_filter(physical_batch, run):
    images = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 50
    images.requires_grad_()
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=(0.7, 0.7))
    (variant,), _ = run(CtKernel(levels=levels(0.5), missing_noise=False), batch)
    (gradient,) = torch.autograd.grad(variant.images[0, 0, 8, 8], images)
    nudged = images.detach().clone()
    nudged[0, 0, 7, 8] += 100.0
    changed = run(CtKernel(levels=levels(0.5), missing_noise=False), replace(batch, images=nudged))[0][0].images
    expected = (changed - variant.images)[0, 0, 8, 8].item() / 100
    assert gradient[0, 0, 7, 8].item() == pytest.approx(expected, abs=1e-4)
    assert expected > 0.01


def test_padding_stays_and_rings_nowhere(scanned, run):
    batch, _ = scanned
    images = batch.images.clone()
    images[..., :30, :] = -3024.0
    variants, _ = run(CtKernel(levels=levels(0.5), missing_noise=False), replace(batch, images=images))
    changed = variants[0].images
    assert torch.equal(changed[..., :30, :], images[..., :30, :])
    below = changed[..., 30:36, 100:150]  # air continues under the padding, so the air beside it stays air
    reference = torch.where(images < -1024, -1000.0, images)
    expected = with_kernel(reference, torch.full((6,), PIXEL_MM), [SOFT] * 6, factor=0.5)[..., 30:36, 100:150]
    torch.testing.assert_close(below, expected, rtol=0.0, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40)])
def test_tiny_and_oblong_images(shape, physical_batch, run):
    images = torch.full((2, 1, *shape), 40.0)
    variants, _ = run(CtKernel(), physical_batch(images, unit=Unit.HU, spacing_mm=(0.7, 0.7)))
    for variant in variants:
        torch.testing.assert_close(variant.images, images, rtol=0.0, atol=1e-3)


def test_unknown_spacing_is_not_applicable(scanned, run):
    batch, _ = scanned
    spacing = torch.full((6, 2), PIXEL_MM)
    spacing[2] = math.nan
    variants, measured = run(CtKernel(levels=levels(0.5, 2.0)), replace(batch, spacing_mm=spacing))
    for variant in variants:
        assert variant.applicable.tolist() == [True, True, False, True, True, True]
        assert variant.reason == "pixel spacing unknown"
        assert torch.equal(variant.images[2], batch.images[2])
    assert measured["f50_per_mm", "0.5"].isnan().tolist() == [False, False, True, False, False, False]
    assert not run(CtKernel(), replace(batch, spacing_mm=None))[0][0].applicable.any()


def test_f50_beyond_the_pixels_is_not_claimed(scanned, run):
    batch, _ = scanned
    _, measured = run(CtKernel(levels=levels(2.0)), replace(batch, spacing_mm=torch.full((6, 2), 2.0)))
    assert measured["f50_per_mm", "2.0"].isnan().all()


def test_missing_noise_needs_soft_tissue(physical_batch, run):
    lung = -850.0 + 20 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    batch = physical_batch(lung, unit=Unit.HU, spacing_mm=(0.7, 0.7))
    (variant,), measured = run(CtKernel(levels=levels(2.0)), batch)
    assert measured["missing_noise_sd_hu", "2.0"].isnan().all()
    assert variant.applicable.all()
    torch.testing.assert_close(variant.images, with_kernel(lung, SPACING, [SOFT], factor=2.0))


def test_wrong_unit_and_bad_pixels(scanned, physical_batch):
    batch, _ = scanned
    with pytest.raises(DataError, match=r"shift\.ct\.kernel: expected images in HU .* got signal"):
        CtKernel().apply(physical_batch(torch.zeros(1, 1, 8, 8), unit=Unit.SIGNAL), None, None)
    images = batch.images.clone()
    images[5, 0, 0, 0] = math.inf
    with pytest.raises(ImageError, match=r"NaN or infinity: case-5$"):
        CtKernel().apply(replace(batch, images=images), None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ["20"]}, r"factor on f50 between 0\.1 and 10, got 20"),
        ({"levels": [math.nan]}, "between"),
        ({"levels": ["B30f to Quite"]}, "expected two known kernels.*'Quite' is not known"),
        ({"levels": ["quite to B30f"]}, "'quite' is not known"),
        ({"levels": ["B30f to"]}, "could not convert|factor"),
        ({"source": "B30f"}, "source: expected one of auto, soft, medium, sharp"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        CtKernel.from_options(options)
