"""Relaxation and contrast of brain MR: the T1 law, the signal equation, class maps and the monotone map."""

import math

import pytest
import torch

from robustbench_rad.shifts._mr_contrast import (
    TISSUES,
    Weighting,
    remapped,
    signal_ratios,
    tissue_nodes,
    with_class_maps,
)


@pytest.mark.parametrize(("name", "tesla", "seconds"), [("white matter", 1.5, 0.682), ("white matter", 3.0, 0.888)])
def test_t1_follows_the_power_law(name, tesla, seconds):
    assert TISSUES[name].t1_s(tesla) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(("name", "exponent"), [("white matter", 0.382), ("grey matter", 0.376)])
def test_t1_grows_with_the_field(name, exponent):
    assert TISSUES[name].t1_s(3.0) / TISSUES[name].t1_s(1.5) == pytest.approx(2**exponent)
    assert TISSUES["fluid"].t1_s(3.0) == TISSUES["fluid"].t1_s(0.064)


@pytest.mark.parametrize(
    ("name", "tesla", "milliseconds"),
    [("white matter", 1.5, 884), ("white matter", 3.0, 1084), ("grey matter", 1.5, 1124), ("grey matter", 3.0, 1820)],
)
def test_t1_is_of_the_order_of_the_values_in_vitro(name, tesla, milliseconds):
    """Stanisz et al. 2005; tissue in vitro relaxes slower than the brain that the law was fitted to."""
    assert 0.7 < 1000 * TISSUES[name].t1_s(tesla) / milliseconds < 1.0


def test_signal_equation_at_its_limits():
    white = TISSUES["white matter"]
    long = Weighting(repetition_ms=1e9, echo_ms=0.0, tesla=3.0)
    assert long.signal(white) == pytest.approx(white.proton_density)
    nulled = Weighting(repetition_ms=1e9, echo_ms=0.0, tesla=3.0, inversion_ms=1000 * math.log(2) * white.t1_s(3.0))
    assert nulled.signal(white) == pytest.approx(0.0, abs=1e-9)
    short = Weighting(repetition_ms=500.0, echo_ms=15.0, tesla=3.0, inversion_ms=400.0)
    t1 = white.t1_s(3.0)
    expected = abs(1 - 2 * math.exp(-0.4 / t1) + math.exp(-0.5 / t1)) * math.exp(-15 / 70) * white.proton_density
    assert short.signal(white) == pytest.approx(expected)


def test_longer_repetition_brings_fluid_up_and_is_told_when_it_inverts():
    source = Weighting(repetition_ms=500.0, echo_ms=15.0, tesla=3.0)
    ratios, ordered = signal_ratios(source, Weighting(repetition_ms=600.0, echo_ms=15.0, tesla=3.0))
    assert ordered
    assert ratios[0] > ratios[1] > ratios[2] > 1.0
    assert not signal_ratios(source, Weighting(repetition_ms=8000.0, echo_ms=100.0, tesla=3.0))[1]


def test_class_maps_scale_every_tissue_exactly():
    maps = torch.eye(3)[:, :, None].expand(3, 3, 4)
    image = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(0))
    ratios = torch.tensor([0.5, 1.0, 2.0])
    torch.testing.assert_close(with_class_maps(image, maps, ratios), image * ratios[:, None])
    assert torch.equal(with_class_maps(image, torch.zeros(3, 3, 4), ratios), image)


def test_three_tissues_are_found():
    values = torch.tensor([0.2, 0.6, 0.9]).repeat_interleave(100)
    noisy = (values + 0.02 * torch.randn(300, generator=torch.Generator().manual_seed(0)))[None, :, None]
    assert tissue_nodes(noisy, torch.ones_like(noisy, dtype=torch.bool)).tolist() == pytest.approx(
        [0.2, 0.6, 0.9], abs=0.01
    )
    assert tissue_nodes(torch.ones(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)).isnan().all()


def test_the_map_is_monotone_even_where_tissues_would_swap():
    values = torch.linspace(0, 2, 101)
    mapped = remapped(values, torch.tensor([0.2, 0.6, 1.0]), [3.0, 0.5, 1.2])
    assert (mapped.diff() >= -1e-6).all()
    assert mapped[0] == 0.0
