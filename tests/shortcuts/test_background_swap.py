"""Background swap: what is kept of whom, who is dealt which donor, and what cannot be swapped."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.conditions import SHOWS_BURNED_IN, Batch, Space
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.sampling import patient_key
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts import _spike, anatomy
from robustbench_rad.shortcuts._own_masks import EMPTY_MASKS, NO_MASKS
from robustbench_rad.shortcuts.background_swap import NO_DONOR, NO_OUTSIDE, BackgroundSwap
from robustbench_rad.shortcuts.spike_and_recovery import SEEN, SpikeAndRecovery, vector_name


class Reader:
    findings = ("ill", "rare")

    def margins(self, images):
        return torch.stack([images.flatten(1).mean(1), images.flatten(1).amax(1)], dim=1)


def cases(n=12, shape=(32, 40), patients=None) -> Batch:
    names = tuple(f"case-{row}" for row in range(n))
    images = torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(n, 1, *shape, dtype=torch.bool)
    mask[..., 10:20, 12:28] = True
    labels = torch.stack([torch.arange(n) % 2, (torch.arange(n) % 4 == 0)], dim=1).float()
    return Batch(
        images=images,
        labels=labels,
        case_ids=names,
        patient_ids=patients or names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
        anatomy=mask,
    )


def applied(batch, condition=None, state=None):
    condition = condition or BackgroundSwap()
    state = condition.fit(None, iter([batch])) if state is None else state
    found = condition.apply(batch, Reader(), state)
    variants = list(found.variants)
    return variants, {(m.quantity, m.level, m.finding): m.values for m in found.measurements}, state


def test_the_anatomy_stays_and_the_surroundings_are_those_of_the_donor_that_is_named():
    batch = cases()
    variants, measured, state = applied(batch)
    weights = state["weights"]
    assert weights.min() == 0
    assert weights.max() == 1
    for variant in variants:
        number = measured["donor", variant.level.name, ""].long()
        donors = state["donors"][number].float()
        assert torch.equal(variant.images[:, weights[0] == 1], batch.images[:, weights[0] == 1])
        assert torch.equal(variant.images[:, weights[0] == 0], donors[:, weights[0] == 0])
        own = {patient_key(name): row for row, name in enumerate(batch.patient_ids)}
        who = [own[int(key)] for key in state["donor_patients"][number]]
        assert all(row != donor for row, donor in enumerate(who))
        torch.testing.assert_close(donors, batch.images[who], rtol=0, atol=3e-4)
        for k, finding in enumerate(Reader.findings):
            assert torch.equal(measured["donor_label", variant.level.name, finding], batch.labels[who, k])


def test_levels_deal_different_donors_and_a_case_is_dealt_the_same_in_any_batch():
    batch = cases()
    _, measured, state = applied(batch)
    numbers = torch.stack([measured["donor", f"donor {n}", ""] for n in (1, 2, 3)], dim=1)
    assert all(len(set(row)) == 3 for row in numbers.tolist())
    rows = torch.tensor([7, 2, 11])
    _, few, _ = applied(batch.select(rows), state=state)
    assert torch.equal(few["donor", "donor 2", ""], numbers[rows, 1])


def test_whose_images_are_used_twice_is_measured():
    batch = cases(patients=tuple(f"p{row // 2}" for row in range(12)))
    _, measured, state = applied(batch, BackgroundSwap(donors=4))
    own = measured["own_number_as_donor", "", ""]
    keys = [patient_key(name) for name in batch.patient_ids]
    for row, number in enumerate(own.tolist()):
        known = keys[row] in state["donor_patients"].tolist()
        assert known == (number == number)
        if known:
            assert int(state["donor_patients"][int(number)]) == keys[row]
    assert len(set(state["donor_patients"].tolist())) == len(state["donors"]) == 4


def test_the_bank_is_the_same_for_any_batches_and_holds_both_labels_of_a_rare_finding():
    batch = cases(200)
    batch.labels[:, 1] = 0.0
    batch.labels[[3, 50, 120], 1] = 1.0
    condition = BackgroundSwap(donors=20)
    whole = condition.fit(None, iter([batch]))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    pieces = condition.fit(None, (batch.select(part) for part in order.split(37)))
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)
    assert len(whole["donors"]) == 20
    assert whole["donor_labels"][:, 1].sum() == 3
    assert 5 <= whole["donor_labels"][:, 0].sum() <= 15


def test_burned_in_text_is_nobodys_surroundings_unless_all_have_it():
    batch = replace(cases(), burned_in=tuple(row < 4 for row in range(12)))
    state = BackgroundSwap().fit(None, iter([batch]))
    burned = {patient_key(f"case-{row}") for row in range(4)}
    assert not burned & set(state["donor_patients"].tolist())
    assert not state[SHOWS_BURNED_IN]
    assert BackgroundSwap().fit(None, iter([replace(batch, burned_in=(True,) * 12)]))[SHOWS_BURNED_IN]


def test_large_images_have_fewer_donors():
    state = BackgroundSwap(largest_bank_mib=6 * 2 * 32 * 40 / 2**20).fit(None, iter([cases()]))
    assert len(state["donors"]) == 6
    assert state["donors"].dtype == torch.float16


def test_a_volume_is_swapped_like_a_plane():
    batch = cases(6, (3, 24, 24))
    batch.anatomy[:] = False
    batch.anatomy[..., 1, 8:14, 8:14] = True
    variants, measured, state = applied(batch)
    number = measured["donor", "donor 1", ""].long()
    assert torch.equal(variants[0].images[:, :, 0, 0, 0], state["donors"][number].float()[:, :, 0, 0, 0])


def test_a_case_without_a_donor_of_another_patient_is_not_applicable():
    batch = cases(4, patients=("a", "a", "b", "b"))
    variants, measured, _ = applied(batch)
    assert variants[0].applicable.all()
    assert not variants[1].applicable.any()
    assert variants[1].reason == NO_DONOR
    assert measured["donor_label", "donor 2", "ill"].isnan().all()


@pytest.mark.parametrize(
    ("masks", "reason"),
    [(None, NO_MASKS), ("empty", EMPTY_MASKS), ("full", NO_OUTSIDE), ("inverted", NO_OUTSIDE)],
)
def test_masks_that_leave_nothing_to_swap_are_said(masks, reason):
    batch = cases()
    given = {"empty": batch.anatomy & False, "full": batch.anatomy | True, "inverted": ~batch.anatomy, None: None}[
        masks
    ]
    batch = replace(batch, anatomy=given)
    variants, _, _ = applied(batch)
    assert all(v.images is None and v.margins.isnan().all() and not v.applicable.any() for v in variants)
    assert {v.reason for v in variants} == {reason}


def test_bad_input_is_refused():
    batch = cases()
    with pytest.raises(DataError, match="the shape of the display images"):
        BackgroundSwap().fit(None, iter([replace(batch, anatomy=batch.anatomy[..., :-1])]))
    state = BackgroundSwap().fit(None, iter([batch]))
    with pytest.raises(DataError, match="donors' shape"):
        BackgroundSwap().apply(cases(shape=(40, 40)), Reader(), state)
    with pytest.raises(DataError, match="expected display images"):
        BackgroundSwap().apply(replace(batch, space=Space.PHYSICAL), Reader(), state)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"donors": 1}, "2 or more"),
        ({"largest_bank_mib": 0}, "above 0"),
        ({"levels": [0]}, "counted from 1"),
        ({"levels": ["first"]}, "levels"),
        ({"atlas_fraction": 0.0}, "atlas_fraction"),
        ({"feather_fraction": -0.1}, "feather_fraction"),
        ({"donor": 3}, "unknown option"),
    ],
)
def test_options_without_meaning_are_refused(options, said):
    with pytest.raises(PlanError, match=said):
        BackgroundSwap.from_options(options)


def test_the_spike_is_put_into_the_donors_too():
    batch, audit = cases(shape=(64, 64)), BackgroundSwap()
    batch.images.mul_(0.1).add_(0.4)
    spike = SpikeAndRecovery().among((audit,))
    learned = audit.fit(None, iter([batch]))
    state = {f"{audit.id}/{name}": value for name, value in learned.items()}
    kept = {v.name: v.values for v in spike.apply(batch, Reader(), state).vectors}
    for level in ("donor 1", "donor 2", "donor 3"):
        seen = kept[vector_name(audit.id, level, SEEN)]
        torch.testing.assert_close(seen[:, 1], torch.ones(12), rtol=0, atol=1e-3)
        assert seen[:, 0].abs().max() < 0.2
    marked = audit.implanted_state(learned, _spike.implanted)
    assert torch.equal(marked["donors"], _spike.implanted(learned["donors"]))
    nothing = {"atlas": torch.zeros(0, dtype=torch.bool)}
    assert audit.implanted_state(nothing, _spike.implanted) is nothing


def test_the_region_is_the_grown_atlas_with_a_soft_edge():
    batch = cases()
    state = BackgroundSwap(dilation_fraction=0.1, feather_fraction=0.1).fit(None, iter([batch]))
    assert torch.equal(state["atlas"], anatomy.dilated(batch.anatomy[:1], 3))
    assert torch.equal(state["weights"], anatomy.feathered(state["atlas"], 2))
