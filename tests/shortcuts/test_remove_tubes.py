"""Taking tubes out: what is left, what the placebo does, and where nothing is done."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.registry import entry
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts.remove_tubes import NOTHING, RemoveTubes

SIDE, N = 64, 6


def chests(n=N) -> Batch:
    """Noisy planes with two dark lungs; every second one has a bright line in the left of them."""
    generator = torch.Generator().manual_seed(1)
    images = 0.5 + 0.02 * torch.randn(n, 1, SIDE, SIDE, generator=generator)
    lungs = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.bool)
    lungs[..., 10:54, 8:28], lungs[..., 10:54, 36:56] = True, True
    images[lungs] -= 0.2
    images[::2, :, 14:50, 17] += 0.15
    names = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=images.clamp(0, 1),
        labels=torch.zeros(n, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
        modality="DX",
        anatomy=lungs,
    )


def removed(batch: Batch, **options):
    applied = RemoveTubes.from_options(options).apply(batch, None, None)
    variants = {variant.level.name: variant for variant in applied.variants}
    return variants, {(m.quantity, m.level): m.values for m in applied.measurements}


def contrast(images):
    """How bright the line is, against what lies beside it."""
    beside = images[:, 0, 16:48, [13, 14, 20, 21]].mean((1, 2))
    return images[:, 0, 16:48, 17].mean(1) - beside


def test_a_tube_is_found_and_taken_out_and_the_placebo_leaves_it():
    batch = chests()
    variants, measured = removed(batch)
    assert measured["found", "tubes"].tolist() == [1.0, 0.0] * (N // 2)
    for name in ("tubes", "tubes, placebo"):
        assert variants[name].applicable.tolist() == [True, False] * (N // 2)
        assert variants[name].reason == NOTHING
    assert contrast(batch.images)[::2].min() > 0.13
    assert contrast(variants["tubes"].images)[::2].abs().max() < 0.03
    assert contrast(variants["tubes, placebo"].images)[::2].min() > 0.13
    assert (removed(replace(batch, images=variants["tubes"].images))[1]["found", "tubes"] == 0).all()


def test_only_the_gap_changes_and_it_has_the_noise_of_the_image():
    batch = chests()
    variants, _ = removed(batch)
    for name in ("tubes", "tubes, placebo"):
        changed = variants[name].images != batch.images
        assert not changed[1::2].any()
        assert (changed & ~batch.anatomy).sum() == 0
        inside = variants[name].images[changed]
        assert 0.015 < inside.std() < 0.05  # a smooth gap would have next to none


@pytest.mark.parametrize("what", ["empty", "inverted"])
def test_without_a_mask_to_look_in_nothing_is_searched(what):
    batch = chests()
    border = torch.ones(SIDE, SIDE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    batch.anatomy[0] = {"empty": torch.zeros_like(border), "inverted": ~batch.anatomy[0, 0] | border}[what]
    variants, measured = removed(batch)
    assert measured["found", "tubes"][0].isnan()
    assert measured["found", "tubes"][1:].isfinite().all()
    assert not variants["tubes"].applicable[0]
    assert removed(replace(batch, anatomy=None))[1]["found", "tubes"].isnan().all()


def test_a_line_outside_of_the_mask_is_left():
    batch = chests()
    variants, measured = removed(replace(batch, anatomy=batch.anatomy & (torch.arange(SIDE) > 30)))
    assert (measured["found", "tubes"] == 0).all()
    assert not variants["tubes"].applicable.any()


def test_the_grain_of_a_case_is_its_own_whatever_the_batch():
    batch = chests()
    whole = removed(batch)[0]["tubes"].images
    for row in range(N):
        alone = removed(batch.select(torch.tensor([row])))[0]["tubes"].images
        assert torch.equal(alone[0], whole[row])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length_share": 1.5}, "length_share"),
        ({"contrast": 0.0}, "contrast"),
        ({"noise_multiple": -1.0}, "noise_multiple"),
        ({"levels": ["tube"]}, "tubes"),
    ],
)
def test_nonsense_is_refused_by_name(options, said):
    with pytest.raises(PlanError, match=said):
        entry("shortcut.remove-tubes").load().from_options(options)


def test_other_modalities_and_volumes_are_refused():
    batch = chests()
    with pytest.raises(DataError, match="projection radiographs"):
        removed(replace(batch, modality="CT"))
    with pytest.raises(DataError, match="shape"):
        removed(replace(batch, images=batch.images[:, :, None], anatomy=None))
