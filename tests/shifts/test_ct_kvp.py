"""Tube voltage: the table of materials as inserts, noise, header, cases that are there already."""

import math

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts import _ct_materials as materials
from robustbench_rad.shifts.ct_kvp import CtKvp

ADAPTED = {"exposure": "adapted"}
INSERTS = {
    "water": (0.0,) * 5,
    "air": (-1000.0,) * 5,
    "adipose": materials.ADIPOSE_HU,
    "muscle": materials.MUSCLE_HU,
    "lung": materials.LUNG_HU,
    "hydroxyapatite 200": materials.HYDROXYAPATITE_200_HU,
    "hydroxyapatite 800": materials.HYDROXYAPATITE_800_HU,
    "cortical bone": materials.CORTICAL_BONE_HU,
}
IODINE = {f"{c} mg/ml": tuple(c * hu for hu in materials.IODINE_HU_PER_MG_ML) for c in (5, 10, 20)}


def insert(hu, count=1):
    """A rod of a material in water."""
    axis = torch.arange(48) - 23.5
    rod = torch.hypot(axis[:, None], axis) < 14
    return torch.where(rod, hu, 0.0).expand(count, 1, 48, 48).clone()


def at_centre(variant):
    return variant.images[0, 0, 20:28, 20:28]


@pytest.mark.parametrize("source", materials.KVP)
@pytest.mark.parametrize("name", INSERTS)
def test_inserts_follow_the_table_from_every_voltage(name, source, physical_batch, run):
    table = dict(zip(materials.KVP, INSERTS[name], strict=True))
    batch = physical_batch(insert(table[source]), unit=Unit.HU)
    shift = CtKvp(source_kvp=source, levels=tuple(map(CtKvp.level, materials.KVP)), **ADAPTED)
    for variant in run(shift, batch)[0]:
        expected = table[variant.level.value]
        assert at_centre(variant).mean().item() == pytest.approx(expected, abs=max(2.0, 0.01 * abs(expected)))


@pytest.mark.parametrize("name", IODINE)
def test_iodine_in_water_follows_the_table(name, physical_batch, run):
    table = dict(zip(materials.KVP, IODINE[name], strict=True))
    batch = physical_batch(insert(table[120]), unit=Unit.HU)
    variants, _ = run(CtKvp(branch="iodine", iodine_background_hu=0.0, **ADAPTED), batch)
    for variant in variants:
        if variant.level.value in table:
            expected = table[variant.level.value]
            assert at_centre(variant).mean().item() == pytest.approx(expected, abs=max(2.0, 0.01 * expected))


def test_iodine_in_blood_leaves_the_blood_as_it_is(physical_batch, run):
    batch = physical_batch(insert(40.0 + 266.0), unit=Unit.HU)
    variants, _ = run(CtKvp(branch="iodine", levels=(CtKvp.level(80),), **ADAPTED), batch)
    assert at_centre(variants[0]).mean().item() == pytest.approx(40 + 420, abs=2)


def test_mix_scales_vessels_as_iodine_and_cortex_as_bone(physical_batch, run):
    shift = CtKvp(branch="mix", levels=(CtKvp.level(80),), **ADAPTED)
    for hu, expected in ((40.0 + 133.0, 40 + 210), (1608.0, 2180)):
        (variant,), _ = run(shift, physical_batch(insert(hu), unit=Unit.HU))
        assert at_centre(variant).mean().item() == pytest.approx(expected, rel=0.01)


def test_noise_is_scaled_by_a_constant_and_not_by_the_curve(physical_batch, run):
    noise = 12 * torch.randn(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    for hu, ratio in ((100.0, 1.2), (-78.0, 1.0), (271.0, 1.39)):
        batch = physical_batch(insert(hu) + noise, unit=Unit.HU)
        (variant,), _ = run(CtKvp(levels=(CtKvp.level(80),), **ADAPTED), batch)
        assert at_centre(variant).std() / noise[0, 0, 20:28, 20:28].std() == pytest.approx(ratio, abs=0.12)


def test_photons_by_hand():
    """80 instead of 120 kVp through 24 cm of water: (2/3)^2.5 · exp(-0.0022 · 240), noise shown over another µ."""
    expected = (2 / 3) ** 2.5 * math.exp(-0.0022 * 240) * (0.0212 / 0.0190) ** 2
    assert CtKvp().photon_fraction(120.0, 80.0) == pytest.approx(expected, rel=1e-6)
    assert CtKvp().photon_fraction(120.0, 140.0) == 1.0


@pytest.fixture
def bodies(physical_batch):
    axis = (torch.arange(96) - 47.5) * 3.0
    disc = torch.hypot(axis[:, None], axis) < 130
    noise = 14.0 * torch.randn(3, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    attributes = tuple({"KVP": kvp} for kvp in ("100", "", "80"))
    return physical_batch(
        torch.where(disc, 60.0 + noise, -1000.0), unit=Unit.HU, spacing_mm=(3.0, 3.0), attributes=attributes
    )


def test_the_file_says_where_a_case_starts_and_noise_follows(bodies, run):
    variants, measured = run(CtKvp(levels=tuple(map(CtKvp.level, (100, 80))), electronic_noise_quanta=0.0), bodies)
    assert measured["source_kvp", ""].tolist() == [100, 120, 80]
    assert measured["source_kvp_assumed", ""].tolist() == [0, 1, 0]
    assert torch.equal(variants[0].images[0], bodies.images[0])
    assert torch.equal(variants[1].images[2], bodies.images[2])
    assert [row.get("KVP") for row in variants[1].changed_attributes(3)] == ["80", "80", None]
    fractions = [CtKvp().photon_fraction(kvp, 80.0) for kvp in (100, 120, 80)]
    torch.testing.assert_close(measured["photon_fraction", "80"], torch.tensor(fractions))
    assert fractions[2] == 1.0
    native = bodies.images[:, 0, 30:66, 30:66].std((1, 2))
    added = measured["added_noise_sd_hu", "80"][:2] / native[:2]
    expected = torch.tensor([math.sqrt(1 / fraction - 1) for fraction in fractions[:2]])
    torch.testing.assert_close(added, expected, rtol=0.15, atol=0)


def test_a_voltage_beyond_the_table_and_padding(physical_batch, run):
    images = insert(500.0, count=2)
    images[..., 0, :] = -2000.0
    batch = physical_batch(images, unit=Unit.HU, attributes=({"KVP": "40"}, {"KVP": "120"}))
    (variant, *_), _ = run(CtKvp(**ADAPTED), batch)
    assert variant.applicable.tolist() == [False, True]
    assert variant.reason == "tube voltage beyond 70 to 140 kVp"
    assert torch.equal(variant.images[0], images[0])
    assert (variant.images[..., 0, :] == -2000).all()


def test_volumes_and_gradients(physical_batch, run):
    stack = insert(500.0).repeat(1, 2, 1, 1)[:, None].requires_grad_()
    variants, _ = run(CtKvp(**ADAPTED), physical_batch(stack, unit=Unit.HU))
    assert torch.equal(variants[-1].images[0, 0, 0], variants[-1].images[0, 0, 1])
    variants[-1].images.sum().backward()
    assert stack.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"branch": "gold"}, {"exposure": "less"}, {"source_kvp": 150.0}])
def test_nonsense_options_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        CtKvp(**options)


@pytest.mark.parametrize("value", [60, 150, "low"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtKvp.level(value)
