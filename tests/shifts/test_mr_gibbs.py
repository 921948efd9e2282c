"""Truncation of MR: the overshoot of an edge, whole lines, and sources that were cut already."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_gibbs import MrGibbs, truncated


def edge(size=1024):
    image = torch.full((1, 1, size, 2), 0.2)
    image[:, :, size // 4 : 3 * size // 4] = 1.2
    return image


@pytest.mark.parametrize("fraction", [0.1, 0.05, 0.03])
def test_an_edge_is_overshot_by_nine_per_cent(physical_batch, run, fraction):
    shift = MrGibbs(levels=(MrGibbs.level(fraction),))
    (variant,), _ = run(shift, physical_batch(edge(), unit=Unit.MAGNITUDE))
    assert variant.images.max().item() - 1.2 == pytest.approx(0.09, abs=0.005)


def test_a_hamming_window_takes_the_rings_away(physical_batch, run):
    shift = MrGibbs(levels=(MrGibbs.level(0.25),), window="hamming")
    (variant,), _ = run(shift, physical_batch(edge(), unit=Unit.MAGNITUDE))
    assert variant.images.max().item() < 1.2 + 0.01


def test_a_wave_inside_stays_and_one_outside_goes():
    rows = torch.arange(64)[:, None] / 64
    slow, fast = (0.3 * torch.cos(2 * torch.pi * cycles * rows).expand(64, 4) for cycles in (10, 20))
    torch.testing.assert_close(truncated((1 + slow + fast)[None], -2, 15), (1 + slow)[None], atol=1e-5, rtol=0)


def test_kept_fraction_is_in_whole_lines(physical_batch, run):
    _, measured = run(MrGibbs(), physical_batch(edge(256), unit=Unit.MAGNITUDE))
    kept = torch.stack([measured["kept_fraction", name] for name in ("0.9", "0.75", "0.6", "0.5", "0.4")])
    requested = torch.tensor([0.9, 0.75, 0.6, 0.5, 0.4])[:, None]
    assert (kept.diff(dim=0) < 0).all()
    assert (kept - requested).abs().max() <= 1 / 256


def test_a_source_cut_already_is_not_applicable(physical_batch, run):
    image = truncated(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) + 5.0, -2, 12)
    variants, _ = run(MrGibbs(), physical_batch(image, unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert torch.equal(variants[0].images, image)
    assert variants[0].reason == "k-space is empty beyond the fraction"


@pytest.mark.parametrize("options", [{"window": "hann"}, {"levels": [0]}, {"levels": [1.1]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.gibbs"):
        MrGibbs.from_options(options)
