"""Shading of MR: the requested nonuniformity, mean 1 in the foreground, and images too small for a field."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_bias_field import MrBiasField


def head(shape=(96, 80), count=2):
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.7
    return torch.stack([ball * (0.4 + 0.1 * n) for n in range(count)])[:, None].float()


@pytest.mark.parametrize("options", [{}, {"order": 1}, {"field": "surface-coil"}])
@pytest.mark.parametrize("shape", [(96, 80), (12, 40, 40)])
def test_nonuniformity_is_the_requested_one(physical_batch, run, options, shape):
    images = head(shape)
    variants, _ = run(MrBiasField(**options), physical_batch(images, unit=Unit.MAGNITUDE))
    for variant in variants:
        for before, after in zip(images, variant.images, strict=True):
            field = after[before > 0] / before[before > 0]
            measured = (field.max() - field.min()) / field.mean()
            assert 100 * measured.item() == pytest.approx(variant.level.value, rel=0.02)
            assert field.mean().item() == pytest.approx(1.0, abs=1e-3)


def test_measured_values_are_those_of_the_images(physical_batch, run):
    _, measured = run(MrBiasField(), physical_batch(head(), unit=Unit.MAGNITUDE))
    for percent in (10, 20, 40, 60, 100):
        assert measured["inu_percent", str(percent)].tolist() == pytest.approx([percent] * 2, rel=0.02)


def test_cases_have_fields_of_their_own_and_levels_share_them(physical_batch, run):
    batch = physical_batch(torch.ones(2, 1, 32, 32), unit=Unit.MAGNITUDE)
    variants, _ = run(MrBiasField(), batch)
    mild, strong = (variants[n].images.log().flatten(1) for n in (0, 4))
    assert torch.corrcoef(torch.stack([mild[0], strong[0]]))[0, 1] > 0.9999
    assert torch.corrcoef(mild)[0, 1].abs() < 0.99


def test_one_pixel_has_no_field(physical_batch, run):
    variants, _ = run(MrBiasField(), physical_batch(torch.ones(1, 1, 1, 1), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert variants[0].reason == "too small for a field"


@pytest.mark.parametrize("options", [{"order": 0}, {"field": "plane"}, {"levels": [-5]}, {"levels": [1000]}])
def test_bad_options_are_refused(options):
    with pytest.raises(PlanError, match=r"shift\.mr\.bias-field"):
        MrBiasField.from_options(options)
