"""Mammography: quanta of its beam, the inverse-dose law, and the sharpness of its detectors."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError
from robustbench_rad.shifts.mg_detector_mtf import MgDetectorMtf
from robustbench_rad.shifts.mg_dose import QUANTA_PER_MM2_UGY, MgDose

WHITE = {"white_fraction": 1.0, "electronic_equivalent_ugy": 0.0}


def test_the_quanta_are_those_of_photons_a_little_above_twenty_kiloelectronvolt():
    """Fluence per air kerma is 1 / (E · µ_en/ρ); µ_en/ρ of air 0.05389 m²/kg at 20 keV, 0.01537 at 30 keV (NIST)."""
    per_m2_gy = [1.0 / (energy * 1.602e-16 * absorption) for energy, absorption in ((20, 0.05389), (30, 0.01537))]
    twenty, thirty = (1e-6 * 1e-6 * fluence for fluence in per_m2_gy)
    assert twenty < QUANTA_PER_MM2_UGY < 1.1 * twenty < thirty


def test_flat_field_variance_follows_the_inverse_of_the_dose(physical_batch, run):
    spacing = 0.085
    batch = physical_batch(torch.full((2, 1, 256, 256), 0.5), unit=Unit.SIGNAL, spacing_mm=(spacing, spacing))
    own = 1.0 / (100.0 * QUANTA_PER_MM2_UGY * 0.55 * spacing**2) * 0.5**2
    variants, _ = run(MgDose(display_curve="linear", **WHITE), batch)
    for variant in variants:
        total = (variant.images - batch.images).var().item() + own
        assert total == pytest.approx(own / variant.level.value, rel=0.03)


def test_full_exposure_is_the_very_image(physical_batch, run):
    batch = physical_batch(torch.rand(1, 1, 16, 16), unit=Unit.SIGNAL, spacing_mm=(0.1, 0.1))
    (variant,), _ = run(MgDose(levels=(MgDose.level(1),)), batch)
    assert variant.images is batch.images


def test_a_wave_is_attenuated_by_the_ratio_of_the_transfer_functions(physical_batch, run):
    spacing, cycles = 0.1, 20
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(200) / 200)
    images = (0.5 + 0.001 * wave).expand(1, 1, 200, 200).contiguous()
    frequency = cycles / (200 * spacing)
    variants, measured = run(MgDetectorMtf(), physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(spacing, spacing)))
    inner = slice(60, 140)
    for variant in variants:
        f50 = variant.level.value
        expected = (1 + (frequency / 6.0) ** 2) / (1 + (frequency / f50) ** 2)
        ratio = (variant.images - 0.5)[0, 0, 100, inner].std() / (images - 0.5)[0, 0, 100, inner].std()
        assert ratio.item() == pytest.approx(expected, rel=0.01)
        if f50 < 5:
            assert measured["f50_per_mm", variant.level.name].item() == pytest.approx(f50, rel=0.03)


@pytest.mark.parametrize("shift", [MgDose(), MgDetectorMtf()], ids=lambda shift: shift.id)
def test_other_units_are_refused_by_name(physical_batch, shift):
    with pytest.raises(DataError, match=rf"{shift.id}: expected images in signal"):
        shift.apply(physical_batch(torch.rand(1, 1, 8, 8), unit=Unit.MAGNITUDE), None, None)
