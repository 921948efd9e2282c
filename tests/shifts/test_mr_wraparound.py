"""Wraparound of MR: the exact alias sum, the share that folds, and what is left outside."""

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from robustbench_rad.shifts.mr_wraparound import MrWraparound


def object_in_air(axis=-2):
    image = torch.zeros(1, 1, 120, 120)
    part = image.narrow(axis, 10, 100)
    part += 0.2 + torch.rand(part.shape, generator=torch.Generator().manual_seed(0))
    return image


@pytest.mark.parametrize("encoding", ["column", "row"])
def test_folded_image_is_the_alias_sum(physical_batch, run, encoding):
    axis = {"column": -2, "row": -1}[encoding]
    image = object_in_air(axis)
    variants, measured = run(MrWraparound(phase_encoding=encoding), physical_batch(image, unit=Unit.MAGNITUDE))
    turned = image.movedim(axis, 0)
    for variant in variants:
        count = 100 - round(variant.level.value)
        first = 10 + (100 - count) // 2
        expected = torch.zeros_like(turned)
        for line in range(120):
            expected[first + (line - first) % count] += turned[line]
        torch.testing.assert_close(variant.images.movedim(axis, 0), expected, rtol=1e-6, atol=1e-6)
        assert variant.images.sum().item() == pytest.approx(image.sum().item(), rel=1e-5)
        assert measured["folded_percent", variant.level.name].item() == pytest.approx(variant.level.value, abs=1e-3)


def test_two_lines_cannot_fold_a_little(physical_batch, run):
    variants, _ = run(MrWraparound(), physical_batch(torch.ones(1, 1, 2, 8), unit=Unit.MAGNITUDE))
    assert not variants[0].applicable.any()
    assert variants[0].reason == "too few lines to fold"


def test_a_share_beyond_one_fold_is_refused():
    with pytest.raises(PlanError, match="expected 0 to 75 % of the object, got 80"):
        MrWraparound.from_options({"levels": [80]})
