"""Patch shuffle: nothing is lost but the layout, each case has its own permutation, and tiny images stay whole."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts.patch_shuffle import PatchShuffle, patch_level, shuffled


def cases(shape, n=4) -> Batch:
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0)),
        labels=torch.zeros(n, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
    )


@pytest.mark.parametrize("shape", [(56, 56), (60, 87), (6, 56, 60)])
def test_patches_change_places_and_keep_their_pixels(shape):
    batch = cases(shape)
    before = batch.images.clone()
    for variant in PatchShuffle().apply(batch, None, None).variants:
        assert variant.images.shape == before.shape
        assert torch.equal(variant.images.flatten(1).sort(1).values, before.flatten(1).sort(1).values)
        assert not torch.equal(variant.images, before)
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize(("shape", "size"), [((8, 12), (4, 4)), ((2, 8, 8), (2, 4, 4)), ((9, 13), (4, 4))])
def test_every_place_shows_the_patch_that_the_permutation_says(shape, size):
    images = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1))
    counts = [a // b for a, b in zip(shape, size, strict=True)]
    starts = [(a - c * b) // 2 for a, b, c in zip(shape, size, counts, strict=True)]
    places = torch.cartesian_prod(*(torch.arange(count) for count in counts))
    order = torch.stack([torch.randperm(len(places), generator=torch.Generator().manual_seed(n)) for n in (2, 3)])
    found = shuffled(images, size, order)

    def patch(image, place):
        return image[
            tuple(slice(s + int(p) * b, s + int(p) * b + b) for s, p, b in zip(starts, place, size, strict=True))
        ]

    for row in range(2):
        for at, place in enumerate(places):
            assert torch.equal(patch(found[row, 0], place), patch(images[row, 0], places[order[row, at]]))
    rest = torch.ones(shape, dtype=torch.bool)
    rest[tuple(slice(s, s + c * b) for s, c, b in zip(starts, counts, size, strict=True))] = False
    assert torch.equal(found[:, 0, rest], images[:, 0, rest])


def test_each_case_and_each_draw_has_a_permutation_of_its_own_whatever_the_batch():
    batch = cases((64, 64))
    batch = replace(batch, images=batch.images[:1].expand(4, -1, -1, -1).clone())
    condition = PatchShuffle.from_options({"levels": ["1/8", "1/8 draw 2"]})
    first, second = (v.images for v in condition.apply(batch, None, None).variants)
    assert len({tuple(image.flatten().tolist()) for image in [*first, *second]}) == 8
    alone = next(condition.apply(batch.select(torch.tensor([2])), None, None).variants).images
    assert torch.equal(alone, first[2:3])
    assert condition.passes(1) == 2


def test_the_size_is_a_share_of_the_shorter_side():
    applied = PatchShuffle().apply(cases((224, 300)), None, None)
    assert {m.level: m.values[0].item() for m in applied.measurements} == {"1/28": 8, "1/14": 16}


@pytest.mark.parametrize("shape", [(1, 1), (1, 3)])
def test_an_image_of_a_few_pixels_is_not_applicable(shape):
    for variant in PatchShuffle().apply(cases(shape), None, None).variants:
        assert variant.images is None
        assert not variant.applicable.any()
        assert "nothing can change places" in variant.reason


@pytest.mark.parametrize("value", ["0", "0.6", "half", "-1/8", "1/8 draw two"])
def test_a_share_without_meaning_is_refused(value):
    with pytest.raises((PlanError, ValueError)):
        PatchShuffle.from_options({"levels": [value]})


def test_levels_are_named_by_their_share():
    assert str(patch_level(0.125)) == "1/8 of the side"
    assert patch_level("1/28 draw 2").name == "1/28 draw 2"


def test_physical_images_are_refused():
    with pytest.raises(DataError, match="expected display images"):
        PatchShuffle().apply(replace(cases((32, 32)), space=Space.PHYSICAL), None, None)
