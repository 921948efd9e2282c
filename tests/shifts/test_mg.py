"""Mammography: quanta of its beam, the inverse-dose law, and the sharpness of its detectors."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.shifts.mg_detector_mtf import MgDetectorMtf
from robustbench_rad.shifts.mg_dose import MgDose, quanta_per_mm2_ugy

WHITE = {"white_fraction": 1.0, "electronic_equivalent_ugy": 0.0}


def test_the_quanta_are_those_of_photons_of_the_mean_energy():
    """Fluence per air kerma is 1 / (E · µ_en/ρ); µ_en/ρ of air 0.1334, 0.05389 and 0.01537 m²/kg at 15, 20, 30 keV (NIST)."""
    for energy, absorption in ((15, 0.1334), (20, 0.05389), (30, 0.01537)):
        per_m2_gy = 1.0 / (energy * 1.602e-16 * absorption)
        assert quanta_per_mm2_ugy(energy) == pytest.approx(1e-6 * 1e-6 * per_m2_gy, rel=1e-3)
    ladder = [quanta_per_mm2_ugy(energy) for energy in (10, 12, 17.8, 20.3, 24.7, 40)]
    assert ladder == sorted(ladder)
    assert ladder[2:5] == pytest.approx([4500, 5975, 9000], rel=0.1)
    assert MgDose(photon_energy_kev=15).quanta_per_mm2_ugy == quanta_per_mm2_ugy(15)


@pytest.mark.parametrize("energy", [0, 5, 60, float("nan"), "soft"])
def test_an_energy_that_is_not_of_mammography_is_refused(energy):
    with pytest.raises(PlanError, match="photon_energy_kev: expected"):
        MgDose.from_options({"photon_energy_kev": energy})


def test_flat_field_variance_follows_the_inverse_of_the_dose(physical_batch, run):
    spacing = 0.085
    batch = physical_batch(torch.full((2, 1, 256, 256), 0.5), unit=Unit.SIGNAL, spacing_mm=(spacing, spacing))
    own = 1.0 / (100.0 * MgDose().quanta_per_mm2_ugy * 0.55 * spacing**2) * 0.5**2
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
