"""CT dose in the image: strength and spectrum against noise made in the projections, and what it cannot do."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.registry import entry
from robustbench_rad.shifts.ct_dose import CtDose
from robustbench_rad.shifts.ct_dose_image import CtDoseImage

PLAIN = {"electronic_noise_quanta": 0.0, "kernel": "hann", "i0": 1e6}


def ellipse(rows_mm, columns_mm, count):
    side = (torch.arange(192) - 95.5) * 1.9
    inside = (side / columns_mm) ** 2 + (side[:, None] / rows_mm) ** 2 < 1
    return torch.where(inside, 0.0, -1000.0).expand(count, 1, 192, 192)


def extra(shift, batch, run):
    (variant,), measured = run(shift, batch)
    return (variant.images - batch.images)[:, 0], measured


@pytest.fixture(scope="module")
def both(physical_batch, run):
    """Noise of half the dose in a shoulder, made both ways."""
    batch = physical_batch(ellipse(80, 165, 16), unit=Unit.HU, spacing_mm=(1.9, 1.9))
    levels = (CtDose.level(0.5),)
    return [extra(shift(levels=levels, **PLAIN), batch, run)[0] for shift in (CtDose, CtDoseImage)]


def test_strength_agrees_with_the_projections_everywhere(both):
    places = {"centre": (92, 92), "side": (92, 150), "top": (65, 92), "edge": (60, 130)}
    for row, column in places.values():
        ours, theirs = (noise[:, row : row + 8, column : column + 8].std().item() for noise in both[::-1])
        assert ours == pytest.approx(theirs, rel=0.12)
    ours, theirs = (noise[:, 60:130, 30:160].square().mean().sqrt().item() for noise in both[::-1])
    assert ours == pytest.approx(theirs, rel=0.03)


def test_the_spectrum_is_that_of_the_projections_but_without_direction(both):
    radial, anisotropy = [], []
    frequency = torch.fft.fftfreq(64).abs()
    rows, columns = frequency[:, None], frequency[None]
    radius = torch.hypot(rows, columns)
    for noise in both:
        power = torch.fft.fft2(noise[:, 64:128, 64:128]).abs().square().mean(0)
        bins = [power[(radius > low) & (radius <= low + 0.1)].mean() for low in (0.05, 0.15, 0.25, 0.35)]
        radial.append(torch.stack(bins) / power.mean())
        vertical = power[(rows > 2 * columns) & (rows > 0.1)].mean()
        anisotropy.append((vertical / power[(columns > 2 * rows) & (columns > 0.1)].mean()).item())
    torch.testing.assert_close(radial[1], radial[0], rtol=0.15, atol=0)
    assert anisotropy[0] > 4
    assert anisotropy[1] == pytest.approx(1.0, abs=0.15)


def test_calibration_to_native_noise_and_levels(physical_batch, run):
    axis = (torch.arange(96) - 47.5) * 3.0
    disc = torch.hypot(axis[:, None], axis) < 130
    noise = 14 * torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    batch = physical_batch(torch.where(disc, 50.0 + noise, -1000.0), unit=Unit.HU, spacing_mm=(3.0, 3.0))
    variants, measured = run(CtDoseImage(electronic_noise_quanta=0.0), batch)
    native = measured["native_noise_sd_hu", ""]
    for variant in variants:
        expected = native * (1 / variant.level.value - 1) ** 0.5
        torch.testing.assert_close(measured["added_noise_sd_hu", variant.level.name], expected, rtol=0.02, atol=0)


def test_it_is_marked_approximate_and_the_projections_physical():
    assert entry("shift.ct.dose-image").kind == "approximate"
    assert entry("shift.ct.dose").kind == "physical"
