"""Ghosts of MR: where they lie, how bright they are, and that the mean of k-space stays."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_ghosting import MrGhosting


def bar(size=128, axis=-2):
    """An object of a tenth of the field of view, so that its ghosts lie in air."""
    image = torch.zeros(1, 1, size, size)
    start, stop = round(0.45 * size), round(0.55 * size)
    image.narrow(axis, start, stop - start)[...] = 0.5
    return image


@pytest.mark.parametrize("period", [2, 3, 4, 5])
@pytest.mark.parametrize("encoding", ["column", "row"])
def test_ghosts_have_the_requested_ratio_at_their_place(physical_batch, run, period, encoding):
    axis = {"column": -2, "row": -1}[encoding]
    size = 120
    image = bar(size, axis)
    shift = MrGhosting(period_lines=period, phase_encoding=encoding)
    variants, measured = run(shift, physical_batch(image, unit=Unit.MAGNITUDE))
    for variant in variants:
        middle = size // 2
        for ghost in {(middle + size // period) % size, (middle - size // period) % size}:
            ratio = variant.images.select(axis, ghost).mean() / 0.5
            assert 100 * ratio.item() == pytest.approx(variant.level.value, rel=0.05)
        assert measured["ghost_percent", variant.level.name].item() == pytest.approx(variant.level.value, rel=0.05)


def test_the_sum_of_the_complex_image_stays(physical_batch, run):
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * bar(64)
    variants, _ = run(MrGhosting(), physical_batch(image, unit=Unit.MAGNITUDE))
    assert variants[0].images.sum() >= 0.999 * image.sum()
    assert not torch.equal(variants[0].images, image)


@pytest.mark.parametrize("level", ["2.5", "30"])
def test_noise_in_the_air_does_not_spoil_the_measurement(physical_batch, run, level):
    image = bar() + 0.01 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)).abs()
    _, measured = run(MrGhosting(), physical_batch(image, unit=Unit.MAGNITUDE))
    assert measured["ghost_percent", level].item() == pytest.approx(float(level), rel=0.05)


def test_the_header_names_the_phase_encoding_axis(physical_batch, run):
    image = bar(64, -1)
    batch = physical_batch(image, unit=Unit.MAGNITUDE, attributes=({"InPlanePhaseEncodingDirection": "ROW"},))
    by_header, _ = run(MrGhosting(), batch)
    by_option, _ = run(MrGhosting(phase_encoding="row"), physical_batch(image, unit=Unit.MAGNITUDE))
    assert torch.equal(by_header[-1].images, by_option[-1].images)


def test_an_object_that_fills_the_field_has_no_measurable_ghost(physical_batch, run):
    _, measured = run(MrGhosting(), physical_batch(torch.ones(1, 1, 32, 32), unit=Unit.MAGNITUDE))
    assert measured["ghost_percent", "10"].isnan().all()


@pytest.mark.parametrize("options", [{"period_lines": 1}, {"phase_encoding": "up"}, {"levels": [101]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.ghosting"):
        MrGhosting.from_options(options)
