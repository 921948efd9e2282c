"""Scattered radiation: contrast is 1 - SF, exposure control, more of it behind the mediastinum."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_scatter import XrScatter


def levels(*fractions):
    return tuple(XrScatter.level(fraction) for fraction in fractions)


def wave(contrast=0.01, size=128, cycles=16):
    """Detector signal with a fine sinusoid."""
    phase = 2 * math.pi * cycles * (torch.arange(size) + 0.5) / size
    return (0.4 * (1 + contrast * torch.cos(phase))).expand(1, 1, size, size).contiguous(), torch.cos(phase)


@pytest.mark.parametrize("source", [0.0, 0.4])
@pytest.mark.parametrize("target", [0.45, 0.7, 0.9])
def test_contrast_is_one_minus_the_scatter_fraction(physical_batch, run, source, target):
    images, phase = wave()
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(3.0, 3.0))
    shift = XrScatter(levels=levels(target), source_scatter_fraction=source, display_curve="linear")
    (variant,), measured = run(shift, batch)
    relative = variant.images / variant.images.mean()
    contrast = 2 * (relative * phase).mean().item()
    assert contrast == pytest.approx(0.01 * (1 - target) / (1 - source), rel=0.01)
    assert measured["contrast_factor", str(target)].item() == pytest.approx((1 - target) / (1 - source))
    assert variant.images.mean().item() == pytest.approx(images.mean().item(), rel=1e-4)


def test_flat_field_has_the_scatter_fraction_of_the_level(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 32, 32), 0.5), unit=Unit.SIGNAL, spacing_mm=(10.0, 10.0))
    variants, measured = run(XrScatter(), batch)
    for variant in variants:
        torch.testing.assert_close(variant.images, batch.images, rtol=0, atol=1e-5)
        assert measured["scatter_fraction_lung", variant.level.name].item() == pytest.approx(
            variant.level.value, abs=0.01
        )


def test_little_primary_radiation_has_more_scatter_and_levels_are_monotone(physical_batch, run):
    images = torch.full((1, 1, 64, 64), 0.2)
    images[..., 24:40] = 0.4  # 0.3 decades less exposure
    variants, measured = run(XrScatter(), physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(6.0, 6.0)))
    contrasts = [(v.images[0, 0, 32, 32] - v.images[0, 0, 32, 4]).item() for v in variants]
    assert all(first > second > 0 for first, second in zip([0.2, *contrasts], contrasts, strict=False))
    for variant in variants:
        lung, mediastinum = (measured[f"scatter_fraction_{p}", variant.level.name] for p in ("lung", "mediastinum"))
        assert lung < variant.level.value < mediastinum < 1


def test_a_place_that_received_less_than_the_supposed_scatter_has_no_scatter_fraction(physical_batch, run):
    images = torch.full((1, 1, 64, 64), 0.2)
    images[..., 24:40] = 0.7  # a sixth of the exposure
    _, measured = run(XrScatter(), physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(6.0, 6.0)))
    assert all(v.isnan().all() for (quantity, _), v in measured.items() if quantity.endswith("mediastinum"))
    assert all((v < 1).all() for (quantity, _), v in measured.items() if quantity.endswith("lung"))


def test_the_sources_scatter_is_the_image_itself_and_less_is_not_applicable(physical_batch, run):
    images, _ = wave()
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(3.0, 3.0))
    (same, less), _ = run(XrScatter(levels=levels(0.4, 0.2)), batch)
    assert torch.equal(same.images, images)
    assert not less.applicable.any()
    assert less.reason == "the source has more scatter already"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [1.0]}, "a scatter fraction from 0 to 0.95, got 1"),
        ({"source_scatter_fraction": 1.0}, "expected below 1"),
        ({"kernel_fwhm_mm": 0}, "kernel_fwhm_mm: expected a number above 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrScatter.from_options(options)
