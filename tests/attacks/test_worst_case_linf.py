"""The worst of several attacks: the minimum of its members run alone, paid for by survivors only, within a tier's budget."""

from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.worst_case_linf import BUDGETS, Tier, WorstCaseLinf, names
from robustbench_rad.errors import PlanError
from robustbench_rad.query import CountingQuery

NAMES = ("1/255", "2/255", "4/255")
MEMBERS = (
    "attack.fgsm",
    {"id": "attack.pgd-linf", "steps": 4},
    {"id": "attack.apgd-linf", "steps": 8},
    {"id": "attack.momentum-linf", "steps": 10},
    {"id": "attack.square-linf", "queries": 40},
    {"id": "attack.pgd-linf", "steps": 3, "random_starts": 2},
)


@pytest.fixture
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=16, seed=3, scale=3.0)
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    return classifier, lab.batch(images, labels, clean_margins=classifier.margins(images).detach())


def composite(full=(), attacks=MEMBERS, **options):
    return WorstCaseLinf(levels=ladder(*NAMES), full_search=full, attacks=attacks, **options)


def winner_of(attack, measured, level, finding="finding-0"):
    return measured[attack.winner, level, finding]


def test_a_full_search_is_the_minimum_of_its_members_alone(lab, bench):
    classifier, batch = bench
    attack = composite(full=NAMES)
    worst, measured = lab.attack(attack, classifier, batch)
    alone = [lab.attack(member, classifier, batch)[0] for member in attack.members]
    side, winners = lab.side(batch.labels), set()
    for name in NAMES:
        healths = torch.stack([side * margins[name] for margins in alone])
        lowest, first = healths.min(0)
        torch.testing.assert_close(side * worst[name], lowest, equal_nan=True)
        for k in (0, 1):
            found = winner_of(attack, measured, name, f"finding-{k}")
            known = ~batch.labels[:, k].isnan()
            said = healths[:, :, k].gather(0, found.nan_to_num(0).long()[None])[0]
            torch.testing.assert_close(said[known], lowest[known, k])
            assert torch.equal(found.isnan(), ~known)
            winners |= set(first[known, k].tolist())
    assert len(winners) >= 3  # no single member does it all, so the equality above says something


def test_to_the_flip_it_flips_what_any_member_alone_flips(lab, bench):
    classifier, batch = bench
    attack = composite()
    worst, measured = lab.attack(attack, classifier, batch)
    right = (batch.clean_margins >= 0).float() == batch.labels
    for name in NAMES:
        any_alone = torch.zeros_like(right)
        for member in attack.members:
            margins, _ = lab.attack(member, classifier, batch)
            any_alone |= right & ((margins[name] >= 0).float() != batch.labels)
        flipped = right & ((worst[name] >= 0).float() != batch.labels)
        assert torch.equal(flipped, any_alone)
        for k in (0, 1):
            assert not winner_of(attack, measured, name, f"finding-{k}")[flipped[:, k]].isnan().any()
    assert 0 < flipped.sum() < right.sum()


@pytest.mark.parametrize("full", [(), NAMES], ids=["to-the-flip", "full-search"])
def test_a_member_more_never_makes_the_model_look_better(lab, bench, full):
    classifier, batch = bench
    side = lab.side(batch.labels)
    known = ~side.isnan()
    before = None
    for count in range(1, len(MEMBERS) + 1):
        margins, _ = lab.attack(composite(full, MEMBERS[:count]), classifier, batch)
        healths = torch.stack([side * margins[name] for name in NAMES])
        assert all((stronger <= milder)[known].all() for milder, stronger in pairwise(healths))
        if before is not None:
            assert ((healths < 0) | (before >= 0))[:, known].all()
            assert not full or (healths <= before + 1e-6)[:, known].all()
        before = healths


def test_the_order_of_members_decides_who_wins_and_not_what_is_lost(lab, bench):
    classifier, batch = bench
    forth, back = composite(NAMES), composite(NAMES, MEMBERS[::-1])
    one, _ = lab.attack(forth, classifier, batch)
    other, _ = lab.attack(back, classifier, batch)
    for name in NAMES:
        torch.testing.assert_close(one[name], other[name], equal_nan=True)


def test_only_survivors_pay_for_the_next_member(lab, bench):
    classifier, batch = bench
    attack = composite()
    query = CountingQuery(classifier)
    list(attack.apply(batch, query, None).variants)
    together, alone = query.forwards + 2 * query.backwards, 0
    for member in attack.members:
        query = CountingQuery(classifier)
        list(member.apply(batch, query, None).variants)
        alone += query.forwards + 2 * query.backwards
    assert together < 0.8 * alone


def test_each_flip_is_counted_once_at_the_mildest_level(lab, bench):
    classifier, batch = bench
    margins, measured = lab.attack(composite(), classifier, batch)
    right = (batch.clean_margins[:, 0] >= 0).float() == batch.labels[:, 0]
    flipped = right & ((margins[NAMES[-1]][:, 0] >= 0).float() != batch.labels[:, 0])
    counts = torch.stack([measured["steps_to_flip", name, "finding-0"] for name in NAMES])
    assert torch.equal((~counts.isnan()).sum(0) == 1, flipped)
    assert torch.equal((~counts.isnan()).sum(0) == 0, ~flipped)


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("levels", [1, 2, 3, 5, 8])
def test_a_tier_keeps_to_its_budget(tier, levels):
    attack = WorstCaseLinf(levels=ladder(*[f"{n}/255" for n in range(1, levels + 1)]), tier=tier)
    assert attack.passes(findings=1) <= BUDGETS[tier]
    assert attack.passes(findings=4) == 4 * attack.passes(findings=1)
    assert attack.passes(findings=1) > BUDGETS[tier] / 3
    prices = [member.passes_per_level for member in attack.members]
    assert prices[0] == min(prices)


@pytest.mark.parametrize("tier", ["smoke", "ci"])
def test_a_tier_costs_what_it_says(lab, tier):
    classifier = lab.classifier(
        lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0])), size=(6, 6), findings=2
    )
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    query = CountingQuery(classifier)
    attack = WorstCaseLinf(levels=ladder("1/255", "2/255"), tier=tier)
    list(attack.apply(batch, query, None).variants)
    assert query.forwards + 2 * query.backwards == 3 * attack.passes(findings=2)


def test_a_dearer_tier_flips_no_less(lab, bench):
    classifier, batch = bench
    found = []
    for tier in ("smoke", "ci", "audit"):
        attack = WorstCaseLinf(levels=ladder("1/255", "2/255"), tier=tier)
        margins, _ = lab.attack(attack, classifier, batch)
        found.append(sum(int(((margins[n] >= 0).float() != batch.labels).sum()) for n in ("1/255", "2/255")))
    assert found == sorted(found)


def boxed(model, images, side, radius):
    x, w = images.flatten(1).double(), model.weight[0].double()
    room = torch.where(side.double() * w > 0, x, 1 - x).clamp(max=radius)
    return side[:, 0].double() * (x @ w + model.bias.double()) - (w.abs() * room).sum(1)


@pytest.mark.parametrize("tier", ["smoke", "ci"])
def test_robust_exactly_where_the_box_form_says(lab, tier):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = WorstCaseLinf(levels=ladder(*NAMES), tier=tier)
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    side = lab.side(labels)
    for level in attack.levels:
        worst = boxed(model, images, side, level.value)
        flipped = (worst < 0) | ((worst == 0) & (side[:, 0] < 0))
        assert torch.equal((margins[level.name][:, 0] >= 0).float() != labels[:, 0], flipped)
        assert (winner_of(attack, measured, level.name)[flipped] == 0).all()  # FGSM solves a linear model


def test_volumes_and_planes_that_are_not_square(lab):
    model = lab.linear(60)
    volumes = lab.images((5, 1, 3, 4, 5), bits=8)
    labels = (lab.images((5, 1), seed=1) > 0.5).float()
    attack = composite(NAMES, ("attack.fgsm", {"id": "attack.apgd-linf", "steps": 4}))
    three_d, _ = lab.attack(attack, lab.classifier(model, size=(3, 4, 5)), lab.batch(volumes, labels))
    two_d, _ = lab.attack(attack, lab.classifier(model, size=(6, 10)), lab.batch(volumes.reshape(5, 1, 6, 10), labels))
    for name, margins in three_d.items():
        torch.testing.assert_close(margins, two_d[name])
    whole = composite(NAMES)
    margins, _ = lab.attack(whole, lab.classifier(model, size=(3, 4, 5)), lab.batch(volumes, labels))
    assert (lab.side(labels) * (margins["4/255"] - three_d["4/255"]) <= 1e-5).all()


@pytest.mark.parametrize("full", [(), NAMES], ids=["to-the-flip", "full-search"])
def test_order_and_companions_change_nothing(lab, bench, full):
    classifier, batch = bench
    attack = composite(full)
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5])
    some, measured_again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], some[name], equal_nan=True, rtol=1e-4, atol=1e-5)
    assert measured.keys() == measured_again.keys()


def test_where_rounding_alone_flips_nobody_has_won(lab):
    classifier = lab.classifier(lab.Linear(torch.ones(1, 16), torch.tensor([-7.9])), size=(4, 4))
    images = torch.full((1, 1, 4, 4), 0.499)  # two bits hold 0.333
    batch = lab.batch(images, torch.ones(1, 1), stored_bits=2, clean_margins=classifier.margins(images).detach())
    assert batch.clean_margins > 0
    attack = WorstCaseLinf(levels=ladder("1/3"), attacks=("attack.fgsm",))
    margins, measured = lab.attack(attack, classifier, batch)
    assert measured["flipped_by_rounding", "", "finding-0"].tolist() == [1.0]
    assert margins["1/3"].item() < 0
    assert winner_of(attack, measured, "1/3").isnan().all()


def test_members_share_the_ladder_the_mask_and_the_space(lab):
    attack = WorstCaseLinf(levels=ladder("3/255"), full_search=("3/255",), mask="anatomy", tier="audit")
    for member in attack.members:
        assert (member.levels, member.full_search, member.mask) == (attack.levels, attack.full_search, attack.mask)
    assert names(attack.members) == ["fgsm", "pgd-linf", "apgd-linf", "momentum-linf", "square-linf", "pgd-linf 2"]
    assert attack.winner == "winner of " + ", ".join(names(attack.members))


def test_its_positive_control_is_that_of_its_members():
    assert WorstCaseLinf(tier="ci").self_test() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tier": "huge"}, "tier: expected one of"),
        ({"attacks": "attack.fgsm"}, "expected a list of ids"),
        ({"attacks": [3]}, "expected ids or tables"),
        ({"attacks": [{"steps": 3}]}, "expected ids or tables"),
        ({"attacks": ["attack.fgsn"]}, "attack.fgsn"),
        ({"attacks": ["attack.worst-case"]}, "inside an L-infinity ball"),
        ({"attacks": ["attack.pgd-l2"]}, "inside an L-infinity ball"),
        ({"attacks": ["shift.xr.dose"]}, "inside an L-infinity ball"),
        ({"attacks": [{"id": "attack.pgd-linf", "steps": 0}]}, "steps"),
        ({"attacks": [{"id": "attack.pgd-linf", "epsilon": ["1/255"]}]}, "epsilon: say it once"),
        ({"attacks": [{"id": "attack.pgd-linf", "mask": "body"}]}, "mask: say it once"),
        ({"tier": "smoke", "epsilon": [f"{n}/255" for n in range(1, 29)]}, "levels: expected at most 27"),
    ],
)
def test_what_cannot_be_put_together_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        WorstCaseLinf.from_options(options)
