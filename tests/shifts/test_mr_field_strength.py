"""A weaker magnet: noise by the ratio of the fields, contrast by T1, and sources that are weak already."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts._mr_contrast import TISSUES, Weighting
from robustbench_rad.shifts.mr_field_strength import MrFieldStrength


def brain(noise=0.01, count=2, size=192):
    image = torch.zeros(count, 1, size, size)
    for number, value in enumerate((0.3, 0.6, 0.8)):
        image[..., 16 + 50 * number : 66 + 50 * number] = value
    return (image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).abs()


def header(tesla):
    return {"MagneticFieldStrength": str(tesla), "RepetitionTime": "500", "EchoTime": "15"}


def test_noise_grows_by_the_ratio_of_the_fields(physical_batch, run):
    batch = physical_batch(brain(), unit=Unit.MAGNITUDE, attributes=(header(3),) * 2)
    variants, measured = run(MrFieldStrength(), batch)
    for variant in variants[:3]:
        noise = variant.images[..., 24:58].std((1, 2, 3)), variant.images[..., 124:158].std((1, 2, 3))
        assert (noise[1] / 0.01).tolist() == pytest.approx([3 / variant.level.value] * 2, rel=0.04)
        assert measured["snr_ratio_requested", variant.level.name].tolist() == pytest.approx(
            [variant.level.value / 3] * 2
        )
        assert variant.attributes == {"MagneticFieldStrength": f"{variant.level.value:g}"}


def test_contrast_between_grey_and_white_matter_falls(physical_batch, run):
    batch = physical_batch(brain(0.001), unit=Unit.MAGNITUDE, attributes=(header(3),) * 2)
    variants, measured = run(MrFieldStrength(), batch)
    ratios = [measured["contrast_ratio", variant.level.name][0].item() for variant in variants]
    assert ratios == sorted(ratios, reverse=True)
    white, grey = (variants[1].images[..., a : a + 30].mean().item() for a in (130, 80))
    assert white / grey / (0.8 / 0.6) == pytest.approx(ratios[1], rel=0.005)


def test_with_a_map_contrast_is_that_of_the_tissues(physical_batch, run):
    images = brain(0.001, count=1)
    tissue = torch.zeros(images.shape, dtype=torch.uint8)
    for number in range(3):
        tissue[..., 16 + 50 * number : 66 + 50 * number] = number + 1
    batch = replace(physical_batch(images, unit=Unit.MAGNITUDE, attributes=(header(3),)), tissue=tissue)
    (variant,), measured = run(MrFieldStrength(levels=(MrFieldStrength.level(1.5),)), batch)
    source = Weighting(repetition_ms=500, echo_ms=15, tesla=3)
    ratios = [replace(source, tesla=1.5).signal(kind) / source.signal(kind) for kind in TISSUES.values()]
    means = [variant.images[..., a : a + 30].mean() / images[..., a : a + 30].mean() for a in (26, 76, 126)]
    assert [float(mean / means[0]) for mean in means] == pytest.approx([r / ratios[0] for r in ratios], rel=2e-3)
    assert measured["classified_share", "1.5"].item() == pytest.approx(1, abs=0.01)


def test_a_source_of_a_lower_field_is_not_applicable(physical_batch, run):
    batch = physical_batch(brain(), unit=Unit.MAGNITUDE, attributes=(header(3), header(1.5)))
    variants, _ = run(MrFieldStrength(), batch)
    assert variants[0].applicable.tolist() == [True, False]
    assert variants[1].applicable.tolist() == [True, True]
    assert torch.equal(variants[0].images[1], batch.images[1])


def test_a_noiseless_source_needs_a_reference(physical_batch, run):
    batch = physical_batch(brain(0.0), unit=Unit.MAGNITUDE)
    assert not run(MrFieldStrength(), batch)[0][0].applicable.any()
    variants, measured = run(MrFieldStrength(reference_snr=50.0), batch)
    assert variants[0].applicable.all()
    assert (measured["weighting_assumed", "1"] == 1).all()
