"""Sizes of lesions: of boxes and balls, of nothing, with and without spacing; and options that are refused."""

import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import PlanError
from robustbench_rad.shortcuts.hidden_strata import HiddenStrata, diameter_mm


def batch(lesion=None, spacing=None):
    return Batch(
        images=torch.zeros(3, 1, 8, 8),
        labels=torch.zeros(3, 1),
        case_ids=("a", "b", "c"),
        patient_ids=("a", "b", "c"),
        seeds=(1, 2, 3),
        space=Space.DISPLAY,
        lesion=lesion,
        spacing_mm=spacing,
    )


def measured(given):
    applied = HiddenStrata().apply(given, None, None)
    assert list(applied.variants) == []
    return {measurement.quantity: measurement.values for measurement in applied.measurements}


def test_pixels_are_counted_and_an_empty_mask_is_no_lesion():
    lesion = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    lesion[0, 0, 2:4, 1:6] = True
    lesion[2] = True
    found = measured(batch(lesion, torch.full((3, 2), 0.5)))
    assert found["lesion_px"].nan_to_num(-1).tolist() == [10, -1, 64]
    assert found["lesion_mm"][2].item() == pytest.approx(2 * (16 / torch.pi) ** 0.5)
    assert found["lesion_mm"][1].isnan()


def test_without_masks_or_spacing_nothing_is_known():
    assert measured(batch())["lesion_px"].isnan().all()
    lesion = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    assert measured(batch(lesion))["lesion_mm"].isnan().all()
    assert measured(batch(lesion, torch.full((3, 2), torch.nan)))["lesion_mm"].isnan().all()


def test_a_ball_has_its_diameter():
    voxels = torch.tensor([4 / 3 * torch.pi * 5**3 / (0.5 * 0.7 * 0.7)])
    assert diameter_mm(voxels, torch.tensor([[0.5, 0.7, 0.7]])).item() == pytest.approx(10, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"), [({"columns": "tubes"}, "expected a list"), ({"levels": [1]}, "no levels")]
)
def test_options_without_meaning_are_refused(options, said):
    with pytest.raises(PlanError, match=said):
        HiddenStrata.from_options(options)


def test_a_column_must_be_declared(small_set):
    assert HiddenStrata(columns=("view",)).bound(small_set).columns == ("view",)
    with pytest.raises(PlanError, match="'vew' is not declared") as caught:
        HiddenStrata(columns=("vew",)).bound(small_set)
    assert "view" in str(caught.value.hint)
