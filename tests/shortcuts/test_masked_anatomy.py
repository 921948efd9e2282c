"""The masked-anatomy audit: what each fill hides, what it keeps, and what it says when it cannot run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.planted.phantoms import phantoms
from robustbench_rad.registry import catalogue
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._own_masks import EMPTY_MASKS, NO_MASKS
from robustbench_rad.shortcuts.masked_anatomy import (
    FILLS,
    NO_DONOR,
    NO_OUTSIDE,
    NO_OWN_MASK,
    MaskedAnatomy,
)
from robustbench_rad.statistics.auc import auc

SIDE = 32


class Looks(nn.Module):
    """One logit: the mean of a window."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.window = (rows, columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * x[:, :, self.window[0], self.window[1]].mean((1, 2, 3)).unsqueeze(1)


def classifier(module: nn.Module) -> Classifier:
    head = HeadSpec(kind=Head.SINGLE_LOGIT, outputs=Outputs.LOGITS, findings=("x",), thresholds=(0.5,))
    return Classifier(module=module.eval(), input=InputSpec(size=(SIDE, SIDE)), head=head)


def cases(n: int = 24, patients: int | None = None) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(n, 1, SIDE, SIDE, generator=generator)
    masks = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.bool)
    for row in range(n):
        shift = row % 3
        masks[row, :, 10 + shift : 20 + shift, 9:23] = True
    ids = tuple(f"case-{row}" for row in range(n))
    return Batch(
        images=images,
        labels=(torch.arange(n) % 2).float().unsqueeze(1),
        case_ids=ids,
        patient_ids=tuple(f"patient-{row % (patients or n)}" for row in range(n)),
        seeds=tuple(derive_seed(7, name) for name in ids),
        space=Space.DISPLAY,
        anatomy=masks,
    )


def same_film(batch: Batch) -> Batch:
    """The same cases in one and the same film: they differ in their anatomy and one corner, and are equally bright."""
    inside = batch.anatomy.any(0, keepdim=True)
    differs = inside.clone()
    differs[..., :4, :4] = True
    return replace(batch, images=torch.where(differs, batch.images, batch.images[:1]))


def split(batch: Batch, size: int) -> list[Batch]:
    return [batch.select(rows) for rows in torch.arange(len(batch)).split(size)]


def fitted(batch: Batch, condition: MaskedAnatomy | None = None, size: int = 5) -> dict[str, torch.Tensor]:
    return dict((condition or MaskedAnatomy()).fit(classifier(nn.Identity()), iter(split(batch, size))) or {})


def variants(batch: Batch, state: dict[str, torch.Tensor] | None, condition: MaskedAnatomy | None = None):
    return {v.level.name: v for v in (condition or MaskedAnatomy()).apply(batch, None, state).variants}


def test_state_holds_mean_union_and_donors_of_distinct_patients():
    batch = cases(n=24, patients=20)
    state = fitted(batch, MaskedAnatomy(dilation_fraction=0.0))
    torch.testing.assert_close(state["mean"], batch.images.double().mean(0, keepdim=True).float())
    assert torch.equal(state["atlas"], batch.anatomy.any(0, keepdim=True))
    assert len(state["donors"]) == 16
    assert state["donor_patients"].unique().numel() == 16
    torch.testing.assert_close(state["grey"][0], batch.images[batch.anatomy].mean())
    torch.testing.assert_close(state["grey"][1], batch.images[~batch.anatomy & state["atlas"]].mean())


def test_donors_are_ordered_from_typical_to_odd():
    batch = cases(8)
    batch = replace(batch, images=torch.cat([batch.images[:-1] * 0.1 + 0.4, torch.ones(1, 1, SIDE, SIDE)]))
    assert (fitted(batch)["donors"][-1] == 1.0).all()


@pytest.mark.parametrize("size", [1, 7, 24])
def test_fit_depends_on_neither_batch_size_nor_order(size):
    batch = cases(n=24, patients=20)
    shuffled = batch.select(torch.randperm(24, generator=torch.Generator().manual_seed(size)))
    expected, got = fitted(batch), fitted(shuffled, size=size)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


def test_apply_does_not_depend_on_batch_mates():
    batch = cases()
    state = fitted(batch)
    whole = variants(batch, state)
    for row, single in enumerate(split(batch, 1)):
        for name, variant in variants(single, state).items():
            torch.testing.assert_close(variant.images[0], whole[name].images[row])


def test_a_model_that_sees_only_anatomy_keeps_nothing_and_one_that_sees_a_corner_keeps_all():
    batch = same_film(cases())
    state = fitted(batch)
    anatomy, corner = classifier(Looks(slice(11, 20), slice(9, 23))), classifier(Looks(slice(0, 4), slice(0, 4)))
    for name, variant in variants(batch, state).items():
        assert variant.applicable.all()
        if name == "atlas-mean":
            assert anatomy.margins(variant.images).std() < 1e-6
        if name == "atlas-donor":
            donor = state["donor_patients"][0]
            others = torch.tensor([derive_seed("patient", patient) != donor for patient in batch.patient_ids])
            assert others.sum() == 23
            assert anatomy.margins(variant.images)[others].std() < 1e-6
        if name.startswith("atlas"):
            assert torch.equal(corner.margins(variant.images), corner.margins(batch.images))
    assert anatomy.margins(batch.images).std() > 0.1  # the audit would see a difference if there was one


@pytest.mark.parametrize("fill", ["atlas-mean", "atlas-blur", "atlas-donor", "own-mean"])
def test_a_film_brighter_as_a_whole_is_as_much_brighter_where_it_is_filled(fill):
    batch = same_film(cases())
    batch = replace(batch, images=0.1 + 0.6 * batch.images)
    state = fitted(batch)
    brighter = replace(batch, images=batch.images + 0.125)
    plain, moved = variants(batch, state)[fill].images, variants(brighter, state)[fill].images
    torch.testing.assert_close(moved - plain, torch.full_like(plain, 0.125))


def test_brightness_is_measured_outside_of_the_atlas_and_a_frame_does_not_move_it():
    batch = same_film(cases())
    batch = replace(batch, images=0.1 + 0.6 * batch.images)
    state = fitted(batch)
    framed = batch.images.clone()
    framed[..., :3, :], framed[..., -3:, :] = 0.0, 0.0
    inside = state["atlas"].expand_as(framed)
    for fill in ("atlas-mean", "atlas-donor"):
        plain, shuttered = (
            variants(replace(batch, images=images), state)[fill].images for images in (batch.images, framed)
        )
        torch.testing.assert_close(plain[inside], shuttered[inside])


@pytest.mark.parametrize("fill", ["atlas-mean", "atlas-blur", "atlas-donor"])
def test_nothing_inside_the_atlas_leaks(fill):
    batch = cases()
    state = fitted(batch)
    changed = replace(batch, images=torch.where(state["atlas"], torch.rand(len(batch), 1, SIDE, SIDE), batch.images))
    assert torch.equal(variants(batch, state)[fill].images, variants(changed, state)[fill].images)
    assert not torch.equal(batch.images, changed.images)


def test_shape_only_depends_on_the_mask_alone_and_own_mean_covers_the_mask():
    batch = same_film(cases())
    state = fitted(batch)
    got = variants(batch, state)
    assert torch.equal(got["shape-only"].images, torch.where(batch.anatomy, *state["grey"]))
    assert torch.equal(got["own-mean"].images[batch.anatomy], state["mean"].expand_as(batch.images)[batch.anatomy])


@pytest.mark.parametrize("patients", [2, 5, 24])
def test_donor_is_never_of_the_same_patient(patients):
    batch = cases(n=24, patients=patients)
    number = torch.arange(24.0).reshape(24, 1, 1, 1).expand(24, 1, SIDE, SIDE) / 24
    batch = replace(batch, images=torch.where(batch.anatomy.any(0, keepdim=True), number, 0.5))
    variant = variants(batch, fitted(batch))["atlas-donor"]
    donor_rows = (variant.images[:, 0, 16, 16] * 24).round().long()
    assert variant.applicable.all()
    for row, donor in enumerate(donor_rows.tolist()):
        assert batch.patient_ids[row] != batch.patient_ids[donor]


def test_images_are_learned_from_cases_without_burned_in_text_and_the_atlas_from_all():
    batch = cases(n=24)
    burned = torch.arange(24) % 4 != 0
    marked = replace(batch, images=torch.where(burned[:, None, None, None], 7.0, batch.images))
    state = fitted(replace(marked, burned_in=tuple(burned.tolist())))
    expected = fitted(batch.select((~burned).nonzero().flatten()))
    for name in ("mean", "donors", "donor_patients"):
        assert torch.equal(state[name], expected[name]), name
    assert state["grey"].max() < 1
    assert torch.equal(state["atlas"], fitted(batch)["atlas"])
    assert not state["shows_burned_in"]


def test_when_all_cases_are_burned_in_all_are_used_and_it_is_said():
    batch = cases()
    state, expected = fitted(replace(batch, burned_in=(True,) * 24)), fitted(batch)
    assert state.pop("shows_burned_in")
    assert not expected.pop("shows_burned_in")
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_cases_without_burned_in_text_may_have_no_mask():
    batch = cases()
    batch.anatomy[:12] = False
    state = fitted(replace(batch, burned_in=(False,) * 12 + (True,) * 12))
    assert state["grey"].isfinite().all()
    torch.testing.assert_close(state["mean"], batch.images[:12].double().mean(0, keepdim=True).float())


def test_one_patient_has_no_donor():
    batch = cases(n=6, patients=1)
    variant = variants(batch, fitted(batch))["atlas-donor"]
    assert not variant.applicable.any()
    assert variant.reason == NO_DONOR


def test_without_masks_every_level_says_so():
    batch = replace(cases(), anatomy=None)
    got = variants(batch, fitted(batch))
    assert tuple(got) == FILLS
    for variant in got.values():
        assert variant.reason == NO_MASKS
        assert not variant.applicable.any()
        assert variant.margins.isnan().all()


def test_masks_that_are_all_empty_are_told_from_none():
    batch = cases()
    batch = replace(batch, anatomy=batch.anatomy & False)
    assert {variant.reason for variant in variants(batch, fitted(batch)).values()} == {EMPTY_MASKS}


def test_no_cases_is_not_assessable():
    assert variants(cases(), dict(MaskedAnatomy().fit(classifier(nn.Identity()), iter([])) or {}))["atlas-mean"].reason


def test_a_case_without_mask_loses_only_the_rows_that_need_it():
    batch = cases()
    batch.anatomy[3] = False
    got = variants(batch, fitted(batch))
    for name in ("shape-only", "own-mean"):
        assert got[name].applicable.tolist() == [row != 3 for row in range(24)]
        assert got[name].reason == NO_OWN_MASK
    assert got["atlas-mean"].applicable.all()
    assert got["atlas-mean"].reason == ""


@pytest.mark.parametrize("spoil", [torch.logical_not, torch.ones_like], ids=["inverted", "everything"])
def test_masks_over_the_whole_image_leave_nothing_to_judge(spoil):
    batch = cases()
    batch = replace(batch, anatomy=spoil(batch.anatomy))
    assert {variant.reason for variant in variants(batch, fitted(batch)).values()} == {NO_OUTSIDE}


def test_mask_of_another_size_is_an_error_that_names_both():
    batch = replace(cases(), anatomy=torch.ones(24, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(DataError, match=r"\(5, 1, 32, 32\), got \(5, 1, 8, 8\)"):
        fitted(batch)


def test_measures_what_sticks_out_of_the_atlas():
    batch = cases()
    state = fitted(batch)
    batch.anatomy[0] = False
    batch.anatomy[1] = False
    batch.anatomy[1, :, :1, :4] = True
    measured = {m.quantity: m.values for m in MaskedAnatomy().apply(batch, None, state).measurements}
    assert measured["anatomy_outside_atlas_fraction"][0].isnan()
    assert measured["anatomy_outside_atlas_fraction"][1] == 1.0
    assert measured["anatomy_outside_atlas_fraction"][2] == 0.0
    torch.testing.assert_close(measured["atlas_area_fraction"], state["atlas"].float().mean().expand(24))


def test_batch_is_left_alone():
    batch = cases()
    images, masks = batch.images.clone(), batch.anatomy.clone()
    variants(batch, fitted(batch))
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.anatomy, masks)


def test_volumes_work():
    batch = cases(6)
    images = batch.images.unsqueeze(2).expand(6, 1, 4, SIDE, SIDE)
    masks = batch.anatomy.unsqueeze(2).expand(6, 1, 4, SIDE, SIDE)
    batch = replace(batch, images=images, anatomy=masks)
    assert all(variant.applicable.all() for variant in variants(batch, fitted(batch)).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ["atlas-men"]}, "Did you mean 'atlas-mean'"),
        ({"atlas_fraction": 0.0}, "atlas_fraction"),
        ({"dilation_fraction": 0.9}, "dilation_fraction"),
        ({"donors": 1}, "donors"),
        ({"fill": "mean"}, "unknown option 'fill'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(PlanError, match=message):
        MaskedAnatomy.from_options(options)


def test_catalogue_knows_it():
    entry = catalogue()["shortcut.masked-anatomy"]
    assert (entry.domain, entry.space, entry.kind) == ("shortcut", "display", "categorical")
    assert [str(level) for level in MaskedAnatomy.from_options({"levels": ["shape-only"]}).levels] == [
        "shape-only fill"
    ]


@pytest.mark.parametrize("weights", range(4))
def test_of_random_weights_the_auroc_without_anatomy_is_a_half(weights):
    """Known answer: whatever a network that has learned nothing sees in the surroundings, every fill's interval holds 0.5."""
    drawn = phantoms(400, seed=5)
    batch = replace(
        cases(400),
        images=torch.from_numpy(drawn.images).unsqueeze(1).clamp(0, 1),
        anatomy=torch.from_numpy(drawn.anatomy).unsqueeze(1),
    )
    convolutions = nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 5, stride=2), nn.ReLU()
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(648, 1))
    generator = torch.Generator().manual_seed(weights)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    variants = MaskedAnatomy().apply(batch, None, fitted(batch)).variants
    masked = {variant.level.name: network(variant.images)[:, 0].detach().double().numpy() for variant in variants}
    for fill in FILLS:
        assert masked[fill].std() > 0
        area = auc(drawn.labels, masked[fill], np.arange(400), 400)
        assert area.lower < 0.5 < area.upper, (fill, area)
