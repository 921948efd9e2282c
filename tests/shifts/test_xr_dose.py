"""Quantum noise of radiographs: variance laws, the magnitude table, invariance and bad input."""

import math

import pytest
import torch

from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, ImageError, PlanError
from robustbench_rad.shifts.xr_dose import QUANTA_PER_MM2_UGY, XrDose

DISPLAY_NEPERS = 1.5 * math.log(10)
WHITE = {"white_fraction": 1.0, "electronic_equivalent_ugy": 0.0}


def flat(size=256, count=2):
    return torch.full((count, 1, size, size), 0.5)


def chest_like(count=3, height=64, width=48):
    rows = torch.linspace(0.1, 0.9, height)[:, None].expand(height, width)
    return torch.stack([(rows * (0.8 + 0.05 * index))[None] for index in range(count)])


def levels(*fractions):
    return tuple(XrDose.level(fraction) for fraction in fractions)


def test_flat_field_variance_follows_the_inverse_of_the_dose(physical_batch, run):
    batch = physical_batch(flat(), unit=Unit.SIGNAL, spacing_mm=(1.92, 1.92))
    own = 1.0 / (2.5 * QUANTA_PER_MM2_UGY * 0.6 * 1.92**2) / DISPLAY_NEPERS**2
    variants, _ = run(XrDose(**WHITE), batch)
    for variant in variants:
        total = (variant.images - batch.images).var().item() + own
        assert total == pytest.approx(own / variant.level.value, rel=0.03)


def test_electronic_noise_lifts_the_variance_above_the_quantum_law(physical_batch, run):
    batch = physical_batch(flat(), unit=Unit.SIGNAL, spacing_mm=(1.92, 1.92))
    quantum, _ = run(XrDose(**WHITE), batch)
    both, _ = run(XrDose(white_fraction=1.0, electronic_equivalent_ugy=0.05), batch)
    alpha = 0.025
    expected = 1 + (1 / alpha**2 - 1) / (1 / alpha - 1) * 0.05 / 2.5
    assert both[-1].images.var() / quantum[-1].images.var() == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(
    ("pixels", "dose_fraction", "expected"),
    [(1024, 0.1, 0.023), (512, 0.05, 0.016), (512, 0.5, 0.0051), (224, 0.1, 0.0050), (224, 0.05, 0.0071)],
)
def test_magnitude_table_behind_the_mediastinum(physical_batch, run, pixels, dose_fraction, expected):
    """Total noise at a fifth of the mean kerma, 43 cm field of view, as a fraction of the display range."""
    bright = 0.5 + math.log10(9.0) / 1.5 / 2  # half the pixels at 1.8, half at 0.2 of the mean kerma
    images = torch.full((1, 1, 256, 256), 1.0 - bright)
    images[..., 128:] = bright
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(430 / pixels, 430 / pixels))
    (variant,), _ = run(XrDose(levels=levels(dose_fraction), **WHITE), batch)
    extra = (variant.images - images)[..., 128:].std().item()
    own = 1 / math.sqrt(0.5 * QUANTA_PER_MM2_UGY * 0.6 * (430 / pixels) ** 2) / DISPLAY_NEPERS
    assert math.hypot(extra, own) == pytest.approx(expected, rel=0.03)


def test_noise_power_has_the_shape_of_the_scintillator(physical_batch, run):
    """NNPS = MTF² / (K q DQE); near 1.42e-5 mm² at 0.5/mm as measured for CsI at 2.57 µGy (Marshall et al. 2011)."""
    spacing, size = 0.143, 256
    batch = physical_batch(flat(size, count=8), unit=Unit.SIGNAL, spacing_mm=(spacing, spacing))
    shift = XrDose(levels=levels(0.5), electronic_equivalent_ugy=0.0, white_fraction=0.0, detector_air_kerma_ugy=2.57)
    (variant,), _ = run(shift, batch)
    relative = (variant.images - batch.images) * DISPLAY_NEPERS  # at half the exposure extra noise equals own noise
    power = torch.fft.fft2(relative).abs().square().mean((0, 1)) * spacing**2 / size**2
    frequency = torch.fft.fftfreq(size, spacing)
    radius = torch.hypot(frequency[:, None], frequency)
    for low in (0.2, 0.4, 0.8, 1.6, 2.4):
        ring = (radius >= low) & (radius < low + 0.2)
        theory = (1 + (radius[ring] / 1.29) ** 2) ** -2 / (2.57 * QUANTA_PER_MM2_UGY * 0.6)
        assert power[ring].mean() == pytest.approx(theory.mean().item(), rel=0.05)
    ring = (radius > 0.45) & (radius < 0.55)
    assert power[ring].mean() == pytest.approx(1.42e-5, rel=0.2)


def test_full_exposure_is_the_image_itself(physical_batch, run):
    batch = physical_batch(chest_like(), unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3))
    variants, _ = run(XrDose(levels=levels(1, 0.5)), batch)
    assert torch.equal(variants[0].images, batch.images)
    assert not torch.equal(variants[1].images, batch.images)


def test_levels_are_monotone_and_share_their_draw(physical_batch, run):
    batch = physical_batch(chest_like(), unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3))
    variants, measured = run(XrDose(), batch)
    sd = torch.stack([measured["added_noise_sd", variant.level.name] for variant in variants])
    assert (sd.diff(dim=0) > 0).all()
    noise = [(variant.images - batch.images).flatten() for variant in variants[:2]]
    assert torch.corrcoef(torch.stack(noise))[0, 1] > 0.99


def test_measured_noise_agrees_with_the_prediction(physical_batch, run):
    batch = physical_batch(chest_like(height=200, width=160), unit=Unit.SIGNAL, spacing_mm=(0.3, 0.3))
    _, measured = run(XrDose(), batch)
    for name in ("0.5", "0.1"):
        torch.testing.assert_close(
            measured["added_noise_sd", name], measured["added_noise_sd_requested", name], rtol=0.05, atol=0.0
        )


def test_a_case_does_not_depend_on_its_batch(physical_batch, run):
    batch = physical_batch(chest_like(), unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3))
    together, _ = run(XrDose(), batch)
    for row in (2, 0):
        alone, _ = run(XrDose(), batch.select(torch.tensor([row])))
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one.images[0], many.images[row], rtol=0.0, atol=1e-6)


def test_a_level_does_not_depend_on_the_other_levels(physical_batch, run):
    batch = physical_batch(chest_like(), unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3))
    (alone,), _ = run(XrDose(levels=levels(0.1)), batch)
    assert torch.equal(alone.images, run(XrDose(), batch)[0][2].images)


def test_unknown_spacing_is_assumed_and_reported(physical_batch, run):
    spacing = torch.tensor([[430 / 64, 430 / 64], [float("nan")] * 2, [0.0, 1.0]])
    batch = physical_batch(chest_like(), unit=Unit.SIGNAL, spacing_mm=spacing)
    _, measured = run(XrDose(), batch)
    assumed = measured["assumed_spacing_mm", ""]
    assert assumed[0].isnan()
    assert assumed[1:].tolist() == pytest.approx([430 / 64] * 2)
    _, without = run(XrDose(), physical_batch(chest_like(), unit=Unit.SIGNAL))
    torch.testing.assert_close(without["added_noise_sd", "0.5"], measured["added_noise_sd", "0.5"])


def test_saturated_pixels_stay_and_the_input_is_untouched(physical_batch, run):
    images = chest_like()
    images[:, :, :8], images[:, :, -8:] = 0.0, 1.0
    kept = images.clone()
    variants, _ = run(XrDose(), physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3)))
    assert torch.equal(images, kept)
    for variant in variants:
        assert torch.equal(variant.images[:, :, :8], kept[:, :, :8])
        assert torch.equal(variant.images[:, :, -8:], kept[:, :, -8:])
        assert 0.0 <= variant.images.min() <= variant.images.max() <= 1.0


def test_noise_is_brighter_where_less_radiation_arrives(physical_batch, run):
    images = torch.full((1, 1, 128, 128), 0.25)
    images[..., 64:] = 0.75
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(1.9, 1.9))
    log_linear, linear = (
        run(XrDose(levels=levels(0.1), display_curve=curve, **WHITE), batch)[0][0].images - images
        for curve in ("log-linear", "linear")
    )
    ratio = log_linear[..., 64:].std() / log_linear[..., :64].std()
    assert ratio == pytest.approx(10 ** (1.5 * 0.5 / 2), rel=0.06)
    assert linear[..., 64:].std() / linear[..., :64].std() == pytest.approx(math.sqrt(3), rel=0.06)


def test_gradient_reaches_the_image(physical_batch, run):
    images = chest_like().requires_grad_()
    variants, _ = run(XrDose(levels=levels(0.5)), physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(1.3, 1.3)))
    (gradient,) = torch.autograd.grad(variants[0].images.sum(), images)
    assert gradient.isfinite().all()
    assert gradient.mean() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3)])
def test_tiny_images_work(physical_batch, run, shape):
    images = torch.full((2, 1, *shape), 0.4)
    variants, _ = run(XrDose(), physical_batch(images, unit=Unit.SIGNAL))
    assert all(variant.images.shape == images.shape and variant.images.isfinite().all() for variant in variants)


def test_fully_saturated_image_is_left_alone(physical_batch, run):
    images = torch.zeros(1, 1, 8, 8)
    variants, measured = run(XrDose(), physical_batch(images, unit=Unit.SIGNAL))
    assert torch.equal(variants[-1].images, images)
    assert measured["added_noise_sd", "0.5"].isnan().all()


def test_wrong_unit_is_refused_by_name(physical_batch):
    with pytest.raises(DataError, match=r"shift\.xr\.dose: expected images in signal .* got HU"):
        XrDose().apply(physical_batch(chest_like(), unit=Unit.HU), None, None)
    with pytest.raises(DataError, match="got no unit in display space"):
        XrDose().apply(physical_batch(chest_like(), unit=None, space=Space.DISPLAY), None, None)


def test_volume_is_refused(physical_batch):
    with pytest.raises(DataError, match=r"expected images of shape \(N, 1, H, W\), got \(1, 1, 2, 4, 4\)"):
        XrDose().apply(physical_batch(torch.zeros(1, 1, 2, 4, 4), unit=Unit.SIGNAL), None, None)


@pytest.mark.parametrize(("value", "message"), [(math.nan, "finite pixels"), (1.2, r"signal in \[0, 1\]")])
def test_bad_pixels_name_the_case(physical_batch, value, message):
    images = chest_like()
    images[1, 0, 3, 3] = value
    with pytest.raises(ImageError, match=rf"{message}.*: case-1$"):
        XrDose().apply(physical_batch(images, unit=Unit.SIGNAL), None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0.5, 1.5]}, "dose fraction above 0 and at most 1, got 1.5"),
        ({"levels": ["half"]}, "half"),
        ({"dqe": 0}, "dqe: expected a number above 0, got 0"),
        ({"dqe": 1.5}, "at most 1"),
        ({"display_curve": "gamma"}, "one of log-linear, linear, got 'gamma'"),
        ({"decade": 2}, "unknown option 'decade'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrDose.from_options(options)
