"""Resolution of MR: width of a point and of a slice, header, and sources that are coarser already."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.mr_resolution import SINC_FWHM, MrResolution


def width(profile, spacing_mm):
    """Full width at half maximum, linear between samples."""
    half, peak = profile.max() / 2, profile.argmax().item()
    edges = []
    for step in (-1, 1):
        at = peak
        while profile[at + step] > half:
            at += step
        edges.append(at + step * ((profile[at] - half) / (profile[at] - profile[at + step])).item())
    return (edges[1] - edges[0]) * spacing_mm


def point(*shape):
    image = torch.zeros(1, 1, *shape)
    image[(0, 0, *(n // 2 for n in shape))] = 1.0
    return image


def test_width_of_a_point_is_that_of_the_acquired_pixel(physical_batch, run):
    spacing = 0.25
    variants, measured = run(
        MrResolution(), physical_batch(point(512, 400), unit=Unit.MAGNITUDE, spacing_mm=(spacing, spacing))
    )
    for variant in variants:
        for axis, name in ((0, "acquired_row_mm"), (1, "acquired_column_mm")):
            plane = variant.images[0, 0]
            profile = plane[:, 200] if axis == 0 else plane[256]
            pixel = measured[name, variant.level.name].item()
            assert width(profile, spacing) == pytest.approx(SINC_FWHM * pixel, rel=0.03)
            assert pixel == pytest.approx(variant.level.value, rel=0.06)  # whole lines


def test_slices_get_as_thick_as_the_pixels(physical_batch, run):
    batch = physical_batch(point(64, 32, 32), unit=Unit.MAGNITUDE, spacing_mm=(0.5, 1.0, 1.0))
    variants, measured = run(MrResolution(), batch)
    for variant in variants:
        added = (variant.level.value**2 - 0.5**2) ** 0.5
        assert width(variant.images[0, 0, :, 16, 16], 0.5) == pytest.approx(added, rel=0.06)
        assert measured["slice_fwhm_mm", variant.level.name].item() == pytest.approx(variant.level.value)
        assert variant.case_attributes == ({"SliceThickness": f"{variant.level.value:g}"},)


def test_a_constant_stays_and_noise_falls(physical_batch, run):
    image = 0.5 + 0.01 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    variants, _ = run(MrResolution(), physical_batch(image, unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0)))
    for variant in variants:
        assert variant.images.mean().item() == pytest.approx(image.mean().item(), rel=1e-5)
    noise = [variant.images.std().item() for variant in variants]
    assert noise == sorted(noise, reverse=True)


def test_a_coarser_source_is_not_applicable(physical_batch, run):
    spacing = torch.tensor([[3.0, 3.0], [1.0, 1.0], [torch.nan, 1.0]])
    batch = physical_batch(torch.rand(3, 1, 32, 32), unit=Unit.MAGNITUDE, spacing_mm=spacing)
    variants, _ = run(MrResolution(), batch)
    assert [variant.applicable.tolist() for variant in variants] == [[False, True, False]] * 3 + [
        [True, True, False]
    ] * 2
    assert torch.equal(variants[0].images[0], batch.images[0])


def test_one_slice_has_no_through_plane_change(physical_batch, run):
    batch = physical_batch(torch.rand(1, 1, 1, 32, 32), unit=Unit.MAGNITUDE, spacing_mm=(1.0, 1.0, 1.0))
    variants, measured = run(MrResolution(), batch)
    assert ("slice_fwhm_mm", "2") not in measured
    assert variants[0].case_attributes == ({},)
