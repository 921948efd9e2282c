"""CT dose: noise against closed forms, calibration, invariance, real slices and bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.metrology.native_noise import noise_hu
from robustbench_rad.shifts.ct_dose import CtDose

SOFT = ({"ConvolutionKernel": "STANDARD"},)
PLAIN = {"electronic_noise_quanta": 0.0, "bowtie_diameter_mm": 0.0, "kernel": "hann"}


def distances_mm(size, pixel_mm, rows=1.0):
    side = (torch.arange(size) - (size - 1) / 2) * pixel_mm
    return torch.hypot(side[:, None] * rows, side)


def water_disc(size=256, pixel_mm=1.4, diameter_mm=200.0, count=1):
    disc = torch.where(distances_mm(size, pixel_mm) < diameter_mm / 2, 0.0, -1000.0)
    return disc.expand(count, 1, -1, -1).clone()


def levels(*fractions):
    return tuple(CtDose.level(fraction) for fraction in fractions)


def body(count=3, size=128, noise_hu=14.0, seed=1):
    """Ellipses of soft tissue with lungs, and white noise of their own."""
    pixel_mm = 2.8
    generator = torch.Generator().manual_seed(seed)
    outside = distances_mm(size, pixel_mm, rows=1.3) > 160
    lungs = distances_mm(size, pixel_mm, rows=0.9) < 70
    image = torch.where(outside, -1000.0, torch.where(lungs, -850.0, 45.0))
    return image + noise_hu * torch.randn(count, 1, size, size, generator=generator)


@pytest.fixture
def bodies(physical_batch):
    return physical_batch(body(), unit=Unit.HU, spacing_mm=(2.8, 2.8), metadata=SOFT * 3)


@pytest.fixture(scope="module")
def water(physical_batch, run):
    """A disc of 20 cm at a reference noise of 5 HU without electronic noise: extra noise by level."""
    batch = physical_batch(water_disc(count=12), unit=Unit.HU, spacing_mm=(1.4, 1.4))
    variants, measured = run(CtDose(reference_noise_hu=5.0, **PLAIN), batch)
    return {v.level.value: (v.images - batch.images)[:, 0] for v in variants}, measured


def test_noise_in_the_centre_is_the_reference_noise(water):
    extra, _ = water
    centre = distances_mm(256, 1.4) < 20
    assert extra[0.5][:, centre].std().item() == pytest.approx(5.0, rel=0.03)


def test_total_noise_follows_the_inverse_root_of_the_dose(water):
    extra, _ = water
    centre = distances_mm(256, 1.4) < 20
    full = extra[0.5][:, centre].std().item()  # half the dose adds as much as the scan has
    for alpha, noise in extra.items():
        total = math.hypot(full, noise[:, centre].std().item())
        assert total / full == pytest.approx(math.sqrt(1 / alpha), rel=0.02)


def test_mean_is_not_shifted(water):
    extra, _ = water
    inside = distances_mm(256, 1.4) < 90
    assert extra[0.25][:, inside].mean().abs().item() < 0.2


def test_photons_per_ray_agree_with_the_closed_form(water):
    """I₀ = (1000 / µ)² π² C exp(µD) / (12 views Δs² σ²) with C = 0.090 for Hann, counted per reading of 0.6 mm."""
    _, measured = water
    rays = 12 * 360 * (1.4 * 0.6 / 0.7) ** 2 * 5.0**2
    i0 = (1000 / 0.0190) ** 2 * math.pi**2 * 0.0902 * math.exp(0.0190 * 200) / rays
    readings = (1.4 * 0.6 / 0.7) / 0.6 * 720 / 360
    assert measured["i0_quanta", ""][0].item() == pytest.approx(i0 / readings, rel=0.02)


def test_explicit_photons_give_the_same_noise_at_any_sampling(physical_batch, run):
    noise = []
    for size in (128, 256):
        batch = physical_batch(water_disc(size, 358.4 / size, count=4), unit=Unit.HU, spacing_mm=(358.4 / size,) * 2)
        shift = CtDose(levels=levels(0.5), i0=1e5, kernel="soft", electronic_noise_quanta=10.0)
        extra = run(shift, batch)[0][0].images - batch.images
        pooled = torch.nn.functional.avg_pool2d(extra, size // 64)[:, 0]
        noise.append(pooled[:, distances_mm(64, 5.6) < 60].std().item())
    assert noise[0] == pytest.approx(noise[1], rel=0.1)


def test_electronic_noise_lifts_low_doses_above_the_quantum_law(physical_batch, run):
    batch = physical_batch(water_disc(128, 2.8, 320.0), unit=Unit.HU, spacing_mm=(2.8, 2.8))
    options = {"i0": 2e5, "bowtie_diameter_mm": 0.0, "kernel": "soft"}
    centre = distances_mm(128, 2.8) < 60
    ratios = []
    for electronic in (0.0, 15.0):
        variants, _ = run(CtDose(electronic_noise_quanta=electronic, **options), batch)
        sd = [(v.images - batch.images)[0, 0, centre].std().item() for v in variants]
        ratios.append(sd[-1] / sd[0])
    assert ratios[0] == pytest.approx(math.sqrt(39), rel=0.03)
    assert ratios[1] > 1.1 * ratios[0]


def test_shoulders_give_horizontal_streaks(physical_batch, run):
    side = (torch.arange(256) - 127.5) * 1.4
    ellipse = torch.where((side / 170) ** 2 + (side[:, None] / 80) ** 2 < 1, 0.0, -1000.0)
    batch = physical_batch(ellipse.expand(6, 1, -1, -1), unit=Unit.HU, spacing_mm=(1.4, 1.4))
    (variant,), _ = run(CtDose(levels=levels(0.5), i0=1e6, **PLAIN), batch)
    centre = (variant.images - batch.images)[:, 0, 96:160, 96:160]
    power = torch.fft.fft2(centre).abs().square().mean(0)
    frequency = torch.fft.fftfreq(64, 1.4).abs()
    rows, columns = frequency[:, None], frequency[None]
    vertical = power[(rows > 2 * columns) & (rows > 0.05)].mean()
    horizontal = power[(columns > 2 * rows) & (columns > 0.05)].mean()
    assert (vertical / horizontal).item() > 5


def test_native_noise_is_read_and_doubled_in_variance(physical_batch, run):
    """A disc of soft tissue that carries the noise of a known scan: half its dose adds the same noise again."""
    clean = physical_batch(water_disc(count=4) + 40.0, unit=Unit.HU, spacing_mm=(1.4, 1.4), metadata=SOFT * 4)
    acquired = run(CtDose(levels=levels(0.5), reference_noise_hu=18.0), clean)[0][0].images
    batch = physical_batch(acquired.flip(0), unit=Unit.HU, spacing_mm=(1.4, 1.4), metadata=SOFT * 4)
    (variant,), measured = run(CtDose(levels=levels(0.5), electronic_noise_quanta=0.0), batch)
    ring = (distances_mm(256, 1.4) > 20) & (distances_mm(256, 1.4) < 80)
    own = (acquired - clean.images).flip(0)[:, 0, ring].std(1)
    torch.testing.assert_close((variant.images - batch.images)[:, 0, ring].std(1), own, rtol=0.08, atol=0.0)
    torch.testing.assert_close(measured["native_noise_sd_hu", ""], own, rtol=0.1, atol=0.0)


def test_total_noise_is_what_the_metrology_reads_in_the_altered_image(physical_batch, run):
    """Native and added noise add in quadrature, all of them in the same windows of soft tissue."""
    batch = physical_batch(body(noise_hu=14.0), unit=Unit.HU, spacing_mm=(2.8, 2.8), metadata=SOFT * 3)
    variants, measured = run(CtDose(levels=levels(0.5, 0.25)), batch)
    native = measured["native_noise_sd_hu", ""]
    for variant in variants:
        added, total = (measured[f"{kind}_noise_sd_hu", variant.level.name] for kind in ("added", "total"))
        torch.testing.assert_close(total, torch.hypot(native, added), rtol=0.05, atol=0.0)
        read = [noise_hu(image.numpy(), 2.8).sd for image in variant.images[:, 0, None]]
        assert total.tolist() == pytest.approx(read, rel=0.1)  # windows chosen anew in the noisier image


def test_starved_rays_add_noise_and_stay_finite(physical_batch, run):
    batch = physical_batch(water_disc(128, 2.8, 340.0), unit=Unit.HU, spacing_mm=(2.8, 2.8))
    variants, measured = run(CtDose(i0=3e4, bowtie_diameter_mm=0.0), batch)
    assert all(variant.images.isfinite().all() for variant in variants)
    assert measured["added_noise_sd_hu", "0.5"] == pytest.approx(
        measured["added_noise_sd_requested_hu", "0.5"].item(), rel=0.02
    )
    assert measured["added_noise_sd_hu", "0.025"] > 1.02 * measured["added_noise_sd_requested_hu", "0.025"]
    # the logarithm of few counts reads as more attenuation
    inside = distances_mm(128, 2.8) < 160
    shift = [(variant.images - batch.images)[0, 0, inside].mean().item() for variant in variants]
    assert abs(shift[0]) < 2
    assert shift[-1] > 20


def test_full_dose_is_the_image_itself_and_the_input_is_untouched(bodies, run):
    kept = bodies.images.clone()
    variants, _ = run(CtDose(levels=levels(1, 0.25)), bodies)
    assert torch.equal(variants[0].images, bodies.images)
    assert torch.equal(bodies.images, kept)
    assert variants[1].images.dtype == torch.float32


def test_levels_are_monotone_and_share_their_draw(bodies, run):
    variants, measured = run(CtDose(electronic_noise_quanta=0.0), bodies)
    sd = torch.stack([measured["added_noise_sd_hu", variant.level.name] for variant in variants])
    assert (sd.diff(dim=0) > 0).all()
    noise = torch.stack([(variant.images - bodies.images).flatten() for variant in variants[:2]])
    assert torch.corrcoef(noise)[0, 1] > 0.999


def test_hu_are_not_clipped(bodies, run):
    variants, _ = run(CtDose(), bodies)
    assert variants[-1].images.min() < bodies.images.min() - 10


def test_a_case_does_not_depend_on_its_batch(bodies, run):
    together, _ = run(CtDose(), bodies)
    reordered, _ = run(CtDose(), bodies.select(torch.tensor([2, 0, 1])))
    alone, _ = run(CtDose(), bodies.select(torch.tensor([2])))
    for one, many, other in zip(alone, together, reordered, strict=True):
        assert torch.equal(one.images[0], many.images[2])
        assert torch.equal(other.images[0], many.images[2])


def test_a_level_does_not_depend_on_the_other_levels(bodies, run):
    (alone,), _ = run(CtDose(levels=levels(0.1)), bodies)
    torch.testing.assert_close(alone.images, run(CtDose(), bodies)[0][2].images, rtol=0.0, atol=1e-3)


def test_slices_of_a_volume_get_noise_of_their_own(physical_batch, run):
    volume = body(count=6, size=64)[:, 0].reshape(2, 1, 3, 64, 64)
    spacing = torch.tensor([[2.0, 2.8, 2.8]] * 2)
    batch = physical_batch(volume, unit=Unit.HU, spacing_mm=spacing, metadata=SOFT * 2)
    (variant,), measured = run(CtDose(levels=levels(0.25), i0=1e5), batch)
    noise = (variant.images - volume).reshape(6, -1)
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 0.1
    assert measured["added_noise_sd_hu", "0.25"].shape == (2,)
    (overlapping,), _ = run(CtDose(levels=levels(0.25), i0=1e5, slice_profile_fwhm_mm=4.0), batch)
    neighbours = torch.corrcoef((overlapping.images - volume).reshape(6, -1))
    assert neighbours[0, 1] > 0.5
    assert neighbours[2, 3].abs() < 0.1  # of two patients


def test_overlapping_slices_share_noise_as_they_share_data(physical_batch, run):
    """Slices of 3 mm at 1 mm share two thirds with the first neighbour, a third with the second, nothing with the third."""
    volume = water_disc(64, 5.6)[:, :, None].repeat(1, 1, 12, 1, 1)
    spacing = torch.tensor([[1.0, 5.6, 5.6]])
    correlation, deviation = {}, {}
    for thickness in ("3", "1", ""):
        attributes = ({"SliceThickness": thickness},)
        batch = physical_batch(volume, unit=Unit.HU, spacing_mm=spacing, attributes=attributes)
        (variant,), _ = run(CtDose(levels=levels(0.25), i0=1e5), batch)
        inside = (variant.images - volume)[0, 0][:, distances_mm(64, 5.6) < 80]
        table = torch.corrcoef(inside)
        correlation[thickness] = [table.diagonal(lag)[2 : 10 - lag].mean().item() for lag in (1, 2, 3)]
        deviation[thickness] = inside.std().item()
    assert correlation["3"] == pytest.approx([2 / 3, 1 / 3, 0], abs=0.07)
    assert correlation["1"] == pytest.approx([0, 0, 0], abs=0.07)
    assert correlation[""] == correlation["1"]
    assert deviation["3"] == pytest.approx(deviation["1"], rel=0.05)


def test_volume_of_one_slice_and_oblong_images(physical_batch, run):
    image = body(count=1)[:, :, 20:100]
    for images in (image, image[:, :, None]):
        batch = physical_batch(images, unit=Unit.HU, spacing_mm=(2.8, 2.8), metadata=SOFT)
        (variant,), _ = run(CtDose(levels=levels(0.25)), batch)
        assert variant.images.shape == images.shape
        assert variant.applicable.all()
        assert not torch.equal(variant.images, images)


def test_one_pixel(physical_batch, run):
    batch = physical_batch(torch.zeros(2, 1, 1, 1), unit=Unit.HU, spacing_mm=(1.0, 1.0))
    variants, _ = run(CtDose(i0=1e5), batch)
    assert all(v.images.shape == (2, 1, 1, 1) and v.images.isfinite().all() for v in variants)
    relative, _ = run(CtDose(), batch)
    assert not relative[0].applicable.any()
    assert torch.equal(relative[0].images, batch.images)


def test_padding_stays(physical_batch, run):
    images = body(count=1)
    images[:, :, :10] = -2000.0
    circle = distances_mm(128, 1.0) > 64
    images[:, :, circle] = -3024.0
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=(2.8, 2.8), metadata=SOFT)
    (variant,), _ = run(CtDose(levels=levels(0.1)), batch)
    assert torch.equal(variant.images[images < -1024], images[images < -1024])
    assert not torch.equal(variant.images, images)


def test_cases_it_cannot_serve_are_named_and_unchanged(physical_batch, run):
    images = body(count=4)
    images[3] = torch.where(images[3] > -900, -850.0 + 0.01 * images[3], -1000.0)  # lung only
    spacing = torch.tensor([[2.8, 2.8], [math.nan, math.nan], [2.8, 1.4], [2.8, 2.8]])
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=spacing, metadata=SOFT * 4)
    variants, measured = run(CtDose(), batch)
    for variant in variants:
        assert variant.applicable.tolist() == [True, False, False, False]
        assert variant.reason.startswith("pixel spacing unknown, pixels are not square, no native noise")
        assert torch.equal(variant.images[1:], images[1:])
        assert not torch.equal(variant.images[0], images[0])
    assert measured["added_noise_sd_hu", "0.5"].isnan().tolist() == [False, True, True, True]


def test_a_clipped_source_is_not_applicable(physical_batch, run):
    """Air at -160 HU would weigh like fat in the projections."""
    images = body(count=2)
    images[1] = images[1].clamp(-160, 240)
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=(2.8, 2.8), metadata=SOFT * 2)
    (variant, *_), _ = run(CtDose(), batch)
    assert variant.applicable.tolist() == [True, False]
    assert variant.reason == "HU are clipped to a window"
    assert torch.equal(variant.images[1], images[1])


def test_no_spacing_at_all(physical_batch, run):
    variants, _ = run(CtDose(), physical_batch(body(), unit=Unit.HU))
    assert len(variants) == 5
    assert not variants[0].applicable.any()
    assert variants[0].reason == "pixel spacing unknown"


def test_noise_free_phantom_needs_a_reference(physical_batch, run):
    batch = physical_batch(water_disc(128, 2.8) + 40.0, unit=Unit.HU, spacing_mm=(2.8, 2.8))
    assert not run(CtDose(), batch)[0][0].applicable.any()
    assert run(CtDose(reference_noise_hu=10.0), batch)[0][0].applicable.all()


def test_gradient_is_that_of_the_identity(bodies, run):
    images = bodies.images.clone().requires_grad_()
    (variant,), _ = run(CtDose(levels=levels(0.25)), replace(bodies, images=images))
    (gradient,) = torch.autograd.grad(variant.images.sum(), images)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_wrong_unit_is_refused_by_name(physical_batch):
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match=r"shift\.ct\.dose: expected images in HU .* got signal in physical"):
        CtDose().apply(physical_batch(images, unit=Unit.SIGNAL), None, None)
    with pytest.raises(DataError, match="got no unit in display space"):
        CtDose().apply(physical_batch(images, unit=None, space=Space.DISPLAY), None, None)
    with pytest.raises(ImageError, match=r"expected HU, got values that all lie in \[0, 1\]: case-0"):
        CtDose().apply(physical_batch(images, unit=Unit.HU), None, None)


def test_bad_pixels_name_the_case(physical_batch):
    images = body()
    images[2, 0, 5, 5] = math.nan
    with pytest.raises(ImageError, match=r"NaN or infinity: case-2$"):
        CtDose().apply(physical_batch(images, unit=Unit.HU), None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0]}, "dose fraction above 0"),
        ({"i0": -1}, "i0: expected a number above 0, got -1"),
        ({"i0": 1e5, "reference_noise_hu": 10}, "expected one of them, got both"),
        ({"kernel": "B30f"}, "kernel: expected one of auto, soft"),
        ({"dose": 0.5}, "unknown option 'dose'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        CtDose.from_options(options)


@pytest.mark.parametrize("name", ["ge_standard_rle", "head_standard_uncompressed", "siemens_b30s_jpeg_lossless"])
def test_real_slices(name, packs, physical_batch, run):
    pydicom = pytest.importorskip("pydicom")
    file = packs / "ct" / f"{name}.dcm"
    if not file.is_file():
        pytest.skip("the CT slices are not beside this checkout")
    data = pydicom.dcmread(file)
    try:
        stored = data.pixel_array
    except RuntimeError as error:
        pytest.skip(f"no decoder for this transfer syntax: {error}")
    hu = torch.from_numpy(stored.astype(np.float32) * float(data.RescaleSlope) + float(data.RescaleIntercept))
    spacing = tuple(float(value) for value in data.PixelSpacing)
    metadata = ({"ConvolutionKernel": str(data.ConvolutionKernel)},)
    batch = physical_batch(hu[None, None], unit=Unit.HU, spacing_mm=spacing, metadata=metadata)
    variants, measured = run(CtDose(levels=levels(0.5, 0.1)), batch)
    assert variants[0].applicable.all()
    assert measured["source_kernel_assumed", ""].item() == 0
    assert 2 < measured["native_noise_sd_hu", ""].item() < 30
    ratio = measured["added_noise_sd_hu", "0.5"] / measured["native_noise_sd_hu", ""]
    assert 0.95 < ratio.item() < 1.3  # electronic noise lifts it
    assert torch.equal(variants[1].images[batch.images < -1024], batch.images[batch.images < -1024])
