"""Display field of view: anatomy grows by the ratio, spacing, header and masks follow, smaller fields, cut lesions."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.shifts.ct_fov import CtFov

SOURCE = 512.0  # mm: 64 pixels of 8 mm


def ladder(*values):
    return CtFov(levels=tuple(map(CtFov.level, values)))


def disc(radius_px, count=1, side=64):
    axis = torch.arange(side) - (side - 1) / 2
    return (torch.hypot(axis[:, None], axis) < radius_px).expand(count, 1, side, side)


@pytest.fixture
def bodies(physical_batch):
    images = torch.where(disc(12, 3), 40.0, -1000.0)
    return physical_batch(images, unit=Unit.HU, spacing_mm=(8.0, 8.0))


def test_anatomy_grows_by_the_ratio_and_the_header_follows(bodies, run):
    variants, measured = run(CtFov(), bodies)
    area = (bodies.images > -480).flatten(1).sum(1)
    for variant in variants:
        field = variant.level.value
        ratio = (variant.images > -480).flatten(1).sum(1) / area
        assert ratio[0].item() ** 0.5 == pytest.approx(SOURCE / field, rel=0.02)
        torch.testing.assert_close(variant.spacing_mm, torch.full((3, 2), field / 64))
        texts = variant.changed_attributes(3)[0]
        assert texts["ReconstructionDiameter"] == f"{field:g}"
        assert [float(text) for text in texts["PixelSpacing"].split("\\")] == pytest.approx([field / 64] * 2)
        assert measured["field_mm", variant.level.name][0].item() == pytest.approx(field)
        assert (variant.images[:, 0, 28:36, 28:36] - 40).abs().max() < 0.01


def test_masks_move_with_the_image(bodies, run):
    batch = replace(bodies, anatomy=bodies.images > -480, lesion=disc(3, 3).clone())
    (variant,), _ = run(ladder(256), batch)
    assert variant.anatomy.dtype == torch.bool
    overlap = (variant.anatomy == (variant.images > -480)).float().mean()
    assert overlap > 0.98
    assert variant.lesion[0].sum().item() == pytest.approx(4 * batch.lesion[0].sum().item(), rel=0.05)
    assert torch.equal(variant.applied_to(batch).anatomy, variant.anatomy)


def test_a_lesion_outside_of_the_field_makes_a_case_not_applicable(bodies, run):
    lesion = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    lesion[0, 0, 2:6, 30:34] = True
    lesion[1, 0, 30:34, 30:34] = True
    (wide, narrow), _ = run(ladder(500, 300), replace(bodies, lesion=lesion))
    assert wide.applicable.tolist() == [True, True, True]
    assert narrow.applicable.tolist() == [False, True, True]
    assert narrow.reason == "the lesion would lie outside of the field"
    assert torch.equal(narrow.images[0], bodies.images[0])
    assert narrow.spacing_mm[0].tolist() == [8.0, 8.0]


def test_smaller_sources_are_not_applicable_and_equal_ones_come_back(physical_batch, run):
    images = torch.where(disc(12, 4), 40.0, -1000.0)
    spacing = torch.tensor([[8.0, 8.0], [4.0, 4.0], [300 / 64, 300 / 64], [torch.nan, torch.nan]])
    batch = physical_batch(images, unit=Unit.HU, spacing_mm=spacing)
    (variant,), _ = run(ladder(300), batch)
    assert variant.applicable.tolist() == [True, False, True, False]
    assert variant.reason == "pixel spacing unknown, the field is smaller already"
    assert torch.equal(variant.images[1:], images[1:])
    assert [bool(texts) for texts in variant.changed_attributes(4)] == [True, False, False, False]
    (nothing,), _ = run(ladder(300), physical_batch(images, unit=Unit.HU))
    assert nothing.spacing_mm is None
    assert not nothing.applicable.any()


def test_padding_stays_and_volumes_keep_their_slice_distance(physical_batch, run):
    image = torch.where(disc(20), 40.0, -2000.0)
    stack = torch.stack([image, image + 5], 2).requires_grad_()
    batch = physical_batch(stack, unit=Unit.HU, spacing_mm=torch.tensor([[3.0, 8.0, 8.0]]))
    (variant,), _ = run(ladder(400), batch)
    assert variant.spacing_mm.tolist() == [[3.0, 6.25, 6.25]]
    assert variant.images[0, 0, 0, 0, 0].item() <= -1995
    assert set(variant.images[0, 0, 1, 32].detach().round().tolist()) <= {45.0, -2000.0} | {
        value for value in variant.images[0, 0, 1, 32].detach().round().tolist() if value > -1100
    }
    assert not ((variant.images > -1900) & (variant.images < -1100)).any()
    variant.images.sum().backward()
    assert stack.grad.isfinite().all()


@pytest.mark.parametrize("value", [5, 2000, "wide"])
def test_nonsense_levels_are_refused(value):
    with pytest.raises(ValueError, match=r"expected|convert"):
        CtFov.level(value)
