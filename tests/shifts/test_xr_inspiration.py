"""Less inspiration: height of the lungs, mass of their tissue, what follows from below."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.misfits import MISFIT
from robustbench_rad.shifts.xr_inspiration import XrInspiration


def chest(physical_batch, bottom=140, height=200, count=2):
    """Two lungs from row 20 to ``bottom``, dark, over a brighter abdomen with a ramp."""
    mask = torch.zeros(count, 1, height, 160, dtype=torch.bool)
    mask[:, :, 20:bottom, 20:70] = True
    mask[:, :, 20:bottom, 90:140] = True
    images = torch.where(mask, 0.3, 0.5).contiguous()
    return replace(physical_batch(images, unit=Unit.SIGNAL), anatomy=mask)


def test_height_follows_the_level_and_the_mass_is_kept(physical_batch, run):
    batch = chest(physical_batch)
    variants, measured = run(XrInspiration(), batch)
    for variant in variants:
        assert measured["lung_height_factor", variant.level.name].tolist() == pytest.approx(
            [variant.level.value] * 2, abs=0.5 / 120
        )
        assert measured["mass_ratio", variant.level.name].tolist() == pytest.approx([1.0] * 2, rel=0.01)
        added = (variant.images - 0.3)[:, :, 60, 40].item() if len(batch) == 1 else variant.images[0, 0, 60, 40] - 0.3
        decades = 0.0189 * 30 * (1 / variant.level.value - 1) / 2.302585
        assert float(added) == pytest.approx(decades / 1.5, rel=0.01)


def test_the_diaphragm_rises_and_the_borders_stay(physical_batch, run):
    batch = chest(physical_batch)
    (variant,), _ = run(XrInspiration(levels=(XrInspiration.level(0.8),)), batch)
    lungs = variant.anatomy[0, 0].any(1).nonzero().flatten()
    assert (lungs[0].item(), lungs[-1].item()) == (20, 115)
    torch.testing.assert_close(variant.images[..., :19, :], batch.images[..., :19, :])
    torch.testing.assert_close(variant.images[..., 125:, :], batch.images[..., 145:170, :].mean().expand(2, 1, 75, 160))


def test_lungs_that_reach_the_lower_border_are_not_applicable(physical_batch, run):
    variants, measured = run(XrInspiration(), chest(physical_batch, bottom=198))
    assert not variants[-1].applicable.any()
    assert variants[-1].reason == "too little of the image lies below the lungs"
    assert measured["mass_ratio", "0.8"].isnan().all()


@pytest.mark.parametrize(
    ("kept", "reason"), [(True, "no lungs in the mask"), (False, "no mask of the lungs; give [data] anatomy")]
)
def test_without_lungs_it_is_not_applicable(physical_batch, run, kept, reason):
    batch = chest(physical_batch)
    batch = replace(batch, anatomy=torch.zeros_like(batch.anatomy) if kept else None)
    for variant in run(XrInspiration(), batch)[0]:
        assert not variant.applicable.any()
        assert variant.reason == reason
        assert torch.equal(variant.images, batch.images)
    wrong = replace(batch, anatomy_misfit=(True,) * len(batch))
    assert {variant.reason for variant in run(XrInspiration(), wrong)[0]} == {MISFIT}


def test_bad_options_are_refused():
    with pytest.raises(PlanError, match=r"a factor on the height of the lungs from 0\.5 to 1, got 1\.2"):
        XrInspiration.from_options({"levels": [1.2]})
