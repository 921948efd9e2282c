"""Taking out markers and frames: what is found, what is left, and the placebo beside it."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.registry import entry
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._beside import frame_widths
from robustbench_rad.shortcuts.remove_markers import RemoveMarkers, without

SIDE = 128


def chests(n: int = 4) -> Batch:
    """Smooth bodies: a bright oval with two dark lungs and soft ribs, on dark air."""
    axis = torch.linspace(-1, 1, SIDE)
    y, x = axis[:, None], axis[None]
    body = torch.sigmoid(12 * (0.9 - (x / 0.95) ** 4 - (y / 1.3) ** 6))
    lungs = sum(torch.sigmoid(20 * (1 - ((x - s) / 0.3) ** 2 - ((y + 0.1) / 0.6) ** 2)) for s in (-0.42, 0.42))
    ribs = 0.5 + 0.5 * torch.sin(30 * y + 4 * x**2)
    plane = 0.05 + 0.7 * body - 0.45 * lungs + 0.25 * lungs * ribs
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=plane.clamp(0, 1).expand(n, 1, -1, -1).clone(),
        labels=torch.zeros(n, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
    )


def marked(corner: str = "top right", **options) -> tuple[Batch, Batch]:
    """The same bodies without and with a lead letter."""
    clean = chests()
    condition = entry("shortcut.insert-marker").load().from_options({"levels": [corner], **options})
    return clean, replace(clean, images=next(iter(condition.apply(clean, None, None).variants)).images)


def removed(batch: Batch, level: str = "markers", **options):
    result = RemoveMarkers.from_options({"levels": [level], **options}).apply(batch, None, None)
    variants = {variant.level.name: variant for variant in result.variants}
    return variants, {m.quantity: m.values for m in result.measurements if m.level == level}


@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
def test_a_marker_is_found_and_taken_out(corner):
    clean, batch = marked(corner, height_share=0.08)
    variants, measured = removed(batch)
    assert (measured["found"] == 1).all()
    assert variants["markers"].applicable.all()
    ink = (batch.images - clean.images) > 0.3
    left = (variants["markers"].images - clean.images)[ink].clamp_min(0.0)
    assert left.mean() < 0.25 * (batch.images - clean.images)[ink].mean()
    again = removed(replace(batch, images=variants["markers"].images))[1]
    assert (again["found"] == 0).all()


def test_nothing_is_found_on_a_body_without_a_marker_and_the_case_is_left_out_with_the_reason():
    variants, measured = removed(chests())
    assert (measured["found"] == 0).all()
    assert not variants["markers"].applicable.any()
    assert variants["markers"].reason == "no marker or text found near the border"


def test_only_the_hole_changes_and_the_placebo_is_a_hole_of_the_same_shape_where_nothing_was():
    _, batch = marked(height_share=0.08)
    variants, _ = removed(batch)
    hole = batch.images != variants["markers"].images
    elsewhere = batch.images != variants["markers, placebo"].images
    assert not (hole & elsewhere).any()
    assert hole.any()
    assert not (elsewhere & ~torch.stack([hole.flip(a) for a in ((3,), (2,), (2, 3))]).any(0)).any()
    assert (
        batch.images[..., SIDE // 3 : -SIDE // 3, :] == variants["markers"].images[..., SIDE // 3 : -SIDE // 3, :]
    ).all()


def test_a_marker_on_the_organ_is_left_and_one_inside_an_outline_of_the_body_is_not():
    _, batch = marked(height_share=0.08)
    organ = torch.zeros_like(batch.images, dtype=torch.bool)
    organ[..., : SIDE // 3, SIDE // 2 :] = True
    assert (removed(replace(batch, anatomy=organ))[1]["found"] == 0).all()
    assert (removed(replace(batch, anatomy=torch.ones_like(organ)))[1]["found"] == 1).all()
    assert (removed(replace(batch, anatomy=torch.zeros_like(organ)))[1]["found"] == 1).all()


def test_a_marker_in_the_middle_is_not_beside_the_patient():
    batch = chests()
    batch.images[..., 60:70, 37:39] = 1.0
    batch.images[..., 68:70, 37:43] = 1.0
    assert (removed(batch)[1]["found"] == 0).all()
    assert (removed(batch, border_share=0.6)[1]["found"] == 1).all()


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_a_frame_is_measured_on_each_side_and_continued_over(grey):
    batch = chests()
    batch.images[1:, :, :5] = grey
    batch.images[1:, :, :, -3:] = grey
    assert frame_widths(batch.images, 0.25).tolist() == [[0] * 4] + [[5, 0, 0, 3]] * 3
    variants, measured = removed(batch, "frame")
    assert measured["found"].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert variants["frame"].applicable.tolist() == [False, True, True, True]
    images = variants["frame"].images[1:]
    assert ((images[..., :5, 40:80] - grey).abs() > 0.02).any()
    assert torch.equal(images[..., 5:, :-3], batch.images[1:, :, 5:, :-3])
    inside = variants["frame, placebo"].images[1:]
    assert torch.equal(inside[..., :5, :], batch.images[1:, :, :5, :])
    assert not torch.equal(inside[..., 5:10, :], batch.images[1:, :, 5:10, :])


def test_an_empty_image_has_no_frame_and_noise_in_the_border_neither():
    batch = chests(2)
    batch.images[0] = 0.0
    batch.images[1, :, :5] = 0.02 * torch.rand(1, 5, SIDE, generator=torch.Generator().manual_seed(0))
    assert (frame_widths(batch.images, 0.25) == 0).all()


def test_a_hole_in_a_ramp_is_continued_to_within_a_few_grey_levels():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 28:36, 28:36] = True
    assert (without(torch.where(hole, 1.0, ramp), hole) - ramp).abs().max() < 0.06


def test_what_is_found_does_not_depend_on_the_other_cases():
    _, batch = marked(height_share=0.08)
    whole = removed(batch)[0]["markers"].images
    for row in range(len(batch)):
        torch.testing.assert_close(removed(batch.select(torch.tensor([row])))[0]["markers"].images[0], whole[row])


def test_cases_without_a_hole_are_left_beside_cases_with_one_and_each_is_filled_as_alone():
    images = torch.rand(5, 1, 33, 40, generator=torch.Generator().manual_seed(1))
    images[2] = 1.3 * images[2]
    holes = torch.zeros_like(images, dtype=torch.bool)
    holes[1, :, 3:9, 4:12] = True
    holes[4, :, 20:, :5] = True
    filled = without(images, holes)
    assert torch.equal(filled, torch.cat([without(images[row, None], holes[row, None]) for row in range(5)]))
    assert torch.equal(filled[[0, 2, 3]], images[[0, 2, 3]].clamp(0, 1))
    assert torch.equal(filled[~holes], images.clamp(0, 1)[~holes])
    assert (filled != images.clamp(0, 1))[holes].float().mean() > 0.95
    assert images.max() > 1.0
