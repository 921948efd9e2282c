"""Blur of a less sharp detector: slanted-edge f50, exposure kept, source sharper than the target."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.xr_detector_mtf import XrDetectorMtf

SPACING = 0.1
FINE = 4  # bins of the edge profile per pixel


def slanted_edge(size=256, tilt=0.05):
    """Detector signal of an edge blurred by a Gaussian of one pixel."""
    rows, columns = torch.arange(size).double()[:, None], torch.arange(size).double()
    distance = columns - size / 2 - tilt * (rows - size / 2)
    return (0.3 + 0.4 * torch.special.ndtr(distance)).float()[None, None], distance


def edge_mtf(image, distance):
    """Transfer function on the frequencies of a finely binned edge profile, cycles per mm (Samei et al. 1998)."""
    bins = ((distance + 60) * FINE).long().flatten()
    inside = (bins >= 0) & (bins < 120 * FINE)
    total = torch.zeros(120 * FINE, dtype=torch.float64).index_add_(0, bins[inside], image.double().flatten()[inside])
    count = torch.zeros_like(total).index_add_(0, bins[inside], torch.ones_like(total)[0].expand(int(inside.sum())))
    line = (total / count).diff()
    mtf = torch.fft.rfft(line).abs()
    return mtf / mtf[0], torch.fft.rfftfreq(len(line), SPACING / FINE)


@pytest.mark.parametrize("f50", [1.1, 0.7, 0.35])
@pytest.mark.parametrize("curve", ["linear", "log-linear"])
def test_slanted_edge_has_the_f50_that_was_asked_for(physical_batch, run, f50, curve):
    image, distance = slanted_edge()
    signal = image if curve == "linear" else -image.log10() / 1.5
    batch = physical_batch(signal, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    (variant,), measured = run(XrDetectorMtf(levels=(XrDetectorMtf.level(f50),), display_curve=curve), batch)
    blurred = variant.images if curve == "linear" else 10 ** (-1.5 * variant.images)
    after, frequency = edge_mtf(blurred, distance)
    before, _ = edge_mtf(image, distance)
    system = after / before / (1 + (frequency / 1.29) ** 2)
    below = int((system < 0.5).nonzero()[0])
    share = (system[below - 1] - 0.5) / (system[below - 1] - system[below])
    found = frequency[below - 1] + share * (frequency[below] - frequency[below - 1])
    assert found == pytest.approx(f50, rel=0.03)
    assert measured["f50_per_mm", str(f50)].item() == pytest.approx(f50, rel=0.001)


def test_focal_spot_blurs_more_and_says_so(physical_batch, run):
    image, _ = slanted_edge()
    batch = physical_batch(image, unit=Unit.SIGNAL, spacing_mm=(SPACING, SPACING))
    _, measured = run(XrDetectorMtf(levels=(XrDetectorMtf.level(1.29),), focal_spot_mm=3.0, magnification=1.2), batch)
    frequency = measured["f50_per_mm", "1.29"].item()
    spot = math.exp(-((math.pi * 0.6 * frequency) ** 2) / (4 * math.log(2)))
    assert spot / (1 + (frequency / 1.29) ** 2) == pytest.approx(0.5, abs=1e-3)


def test_flat_exposure_is_kept(physical_batch, run):
    batch = physical_batch(torch.full((1, 1, 40, 30), 0.4), unit=Unit.SIGNAL, spacing_mm=(0.2, 0.2))
    for variant in run(XrDetectorMtf(), batch)[0]:
        torch.testing.assert_close(variant.images, batch.images, rtol=0, atol=1e-6)


def test_the_sources_own_detector_is_the_image_itself(physical_batch, run):
    image, _ = slanted_edge(64)
    batch = physical_batch(image, unit=Unit.SIGNAL, spacing_mm=(0.1, 0.1))
    (variant,), _ = run(XrDetectorMtf(levels=(XrDetectorMtf.level(1.29),)), batch)
    assert torch.equal(variant.images, batch.images)


def test_a_sharper_target_is_not_applicable(physical_batch, run):
    image, _ = slanted_edge(64)
    batch = physical_batch(image, unit=Unit.SIGNAL, spacing_mm=(0.1, 0.1))
    (variant,), measured = run(XrDetectorMtf(levels=(XrDetectorMtf.level(2.5),)), batch)
    assert not variant.applicable.any()
    assert "less sharp than the target" in variant.reason
    assert torch.equal(variant.images, batch.images)
    assert measured["f50_per_mm", "2.5"].isnan().all()


def test_unknown_spacing_is_assumed_or_not_applicable(physical_batch, run):
    image, _ = slanted_edge(64)
    batch = physical_batch(image, unit=Unit.SIGNAL)
    _, measured = run(XrDetectorMtf(), batch)
    assert measured["assumed_spacing_mm", ""].item() == pytest.approx(430 / 64)
    variants, _ = run(XrDetectorMtf(assumed_field_of_view_mm=0.0), batch)
    assert not variants[0].applicable.any()
    assert variants[0].reason == "pixel spacing unknown"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0]}, "an f50 per mm from 0.05 to 20, got 0"),
        ({"magnification": 0.9}, "magnification: expected at least 1"),
        ({"display_curve": "gamma"}, "one of log-linear, linear"),
        ({"assumed_field_of_view_mm": -1}, "not below 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrDetectorMtf.from_options(options)
