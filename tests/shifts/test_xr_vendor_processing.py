"""Multi-scale contrast amplification: gain of the middle bands, mean kept, strong contrast spared."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_vendor_processing import XrVendorProcessing


def wave(contrast, period_mm, size=256):
    phase = torch.cos(2 * math.pi * (torch.arange(size) + 0.5) / period_mm)
    return (0.5 + contrast * phase).expand(1, 1, 8, size).contiguous(), phase


def amplitude(images, phase):
    return (2 * (images * phase).mean()).item()


def apply(physical_batch, run, images, **options):
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(0.5, 0.5))
    return run(XrVendorProcessing(**options), batch)[0]


def test_faint_contrast_of_the_middle_bands_gets_the_gain(physical_batch, run):
    images, phase = wave(0.002, period_mm=16)  # 8 mm
    frequency = 1 / 8
    share = math.exp(-2 * (math.pi * 0.4 * frequency) ** 2) - math.exp(-2 * (math.pi * 6.4 * frequency) ** 2)
    assert share > 0.9
    for variant in apply(physical_batch, run, images):
        gain = amplitude(variant.images, phase) / 0.002
        assert gain == pytest.approx(1 + share * variant.level.value / 100, rel=0.005)


def test_coarse_structures_are_left_alone(physical_batch, run):
    images, phase = wave(0.01, period_mm=256)  # 128 mm
    variants = apply(physical_batch, run, images)
    assert amplitude(variants[-1].images, phase) == pytest.approx(0.01, rel=0.06)


def test_strong_contrast_is_amplified_less(physical_batch, run):
    gains = []
    for contrast in (0.002, 0.05, 0.2):
        images, phase = wave(contrast, period_mm=16)
        gains.append(amplitude(apply(physical_batch, run, images)[1].images, phase) / contrast)
    assert 1.25 < gains[0] < 1.31
    assert gains[0] > gains[1] > gains[2] > 1.0


def test_the_mean_is_kept(physical_batch, run):
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(2, 1, 40, 50, generator=generator)
    for variant in apply(physical_batch, run, images):
        assert variant.images.min() > 0
        assert variant.images.max() < 1
        torch.testing.assert_close(variant.images.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-6)


def test_edge_boost_reaches_the_finest_band(physical_batch, run):
    images, phase = wave(0.002, period_mm=2.5)
    without, boosted = (
        amplitude(apply(physical_batch, run, images, edge_boost=boost)[-1].images, phase) for boost in (0.0, 1.0)
    )
    assert boosted / without > 1.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [900]}, "a gain in % from -90 to 700"),
        ({"octaves": 2.5}, "octaves: expected a whole number"),
        ({"contrast": 0}, "contrast: expected a number above 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrVendorProcessing.from_options(options)
