"""Tube voltage: tabulated attenuation, contrasts of coarse and fine structure, the source's own voltage."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts._attenuation import attenuation_cm2_per_g, contrast_factor, effective_energy_kev
from robustbench_rad.shifts.xr_kvp import XrKvp


def kvp(*values):
    return tuple({"KVP": value} for value in values)


def wave(contrast, period_px):
    phase = torch.cos(2 * math.pi * (torch.arange(256) + 0.5) / period_px)
    return (0.5 + contrast * phase).expand(1, 1, 8, 256).contiguous(), phase


def test_tabulated_attenuation_is_met_where_a_beam_has_a_tabulated_energy():
    voltage = 90 + (60.0 - effective_energy_kev(90)) / (effective_energy_kev(120) - effective_energy_kev(90)) * 30
    assert attenuation_cm2_per_g("water", voltage) == pytest.approx(0.2059, rel=1e-6)
    assert attenuation_cm2_per_g("bone", voltage) == pytest.approx(0.3148, rel=1e-6)


def test_bone_gains_more_contrast_than_soft_tissue_as_the_voltage_falls():
    factors = [(contrast_factor("water", 125, kv), contrast_factor("bone", 125, kv)) for kv in (110, 100, 90, 80, 70)]
    assert all(1 < soft < bone for soft, bone in factors)
    assert factors == sorted(factors)


@pytest.mark.parametrize(("period_px", "share"), [(8, 1.0), (8, 0.5), (8, 0.0), (256, 1.0)])
def test_log_contrast_is_multiplied_by_the_factor_of_its_tissue(physical_batch, run, period_px, share):
    """Periods of 8 mm are bone to the declared share; 256 mm are soft tissue."""
    images, phase = wave(0.01, period_px)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(1.0, 1.0))
    variants, measured = run(XrKvp(bone_share=share), batch)
    fine = 1 - math.exp(-2 * (math.pi * 8.0 / period_px) ** 2)
    for variant in variants:
        soft, bone = (measured[f"{tissue}_factor", variant.level.name].item() for tissue in ("soft_tissue", "bone"))
        contrast = 2 * ((variant.images - 0.5) * phase).mean().item() / 0.01
        assert contrast == pytest.approx(soft + share * (bone - soft) * fine, rel=0.01)


def test_the_sources_voltage_comes_from_the_file(physical_batch, run):
    images, _ = wave(0.1, 16)
    batch = physical_batch(
        images.expand(3, -1, -1, -1), unit=Unit.SIGNAL, spacing_mm=(1.0, 1.0), attributes=kvp("90", "", "120")
    )
    levels = (XrKvp.level(90), XrKvp.level(120))
    (ninety, high), measured = run(XrKvp(levels=levels), batch)
    assert measured["source_kvp", ""].tolist() == [90, 125, 120]
    assert measured["source_kvp_assumed", ""].tolist() == [0, 1, 0]
    assert torch.equal(ninety.images[0], images[0])
    assert torch.equal(high.images[2], images[0])
    assert high.images[0].std() < images[0].std() < ninety.images[2].std()
    assert [row["KVP"] for row in ninety.changed_attributes(3)] == ["90"] * 3


def test_a_voltage_outside_the_table_is_not_applicable(physical_batch, run):
    images, _ = wave(0.1, 16)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(1.0, 1.0), attributes=kvp("28"))
    variants, measured = run(XrKvp(), batch)
    assert not variants[0].applicable.any()
    assert variants[0].reason == "tube voltage outside 50 to 150 kVp"
    assert measured["bone_factor", "90"].isnan().all()


def test_mean_exposure_is_kept(physical_batch, run):
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.3 * torch.rand(1, 1, 32, 32, generator=generator)
    batch = physical_batch(images, unit=Unit.SIGNAL, spacing_mm=(2.0, 2.0))
    for variant in run(XrKvp(), batch)[0]:
        before, after = ((10 ** (-1.5 * signal)).mean() for signal in (images, variant.images))
        assert after == pytest.approx(before.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"levels": [28]}, "a tube voltage in kVp from 50 to 150, got 28"), ({"bone_share": 2}, "expected at most 1")],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        XrKvp.from_options(options)
