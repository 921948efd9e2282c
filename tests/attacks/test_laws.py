"""What must hold whatever the model: order, companions, seeds, ladders, and hands off the model."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks import _climb
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.errors import PlanError

NAMES = ("1/255", "2/255", "4/255")


@pytest.fixture(scope="module")
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels = labels.clone()
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    return classifier, lab.batch(images, labels)


@pytest.fixture(params=["to-the-flip", "full-search"])
def attack(request, attack_class):
    full = NAMES if request.param == "full-search" else ()
    options = {} if attack_class is Fgsm else {"steps": 5, "random_starts": 1}
    return attack_class(levels=ladder(*NAMES), full_search=full, **options)


def same(one, other, **tolerance):
    for name in one:
        torch.testing.assert_close(one[name], other[name], equal_nan=True, **tolerance)


def test_order_and_companions_change_nothing(lab, bench, attack):
    classifier, batch = bench
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, measured_again = lab.attack(attack, classifier, batch.select(order))
    same({name: margins[order] for name, margins in reference.items()}, shuffled)
    same({name: values[order] for name, values in measured.items()}, measured_again)
    for row in range(len(batch)):
        alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([row])))
        same({name: margins[[row]] for name, margins in reference.items()}, alone)


@pytest.mark.parametrize("pixels", [1, 225 * 4])
def test_the_size_of_a_chunk_changes_nothing(lab, bench, attack, monkeypatch, pixels):
    classifier, batch = bench
    reference, _ = lab.attack(attack, classifier, batch)
    monkeypatch.setattr(_climb, "MAX_ROW_PIXELS", pixels)
    spy = lab.SpyQuery(classifier)
    chunked, _ = lab.attack(
        attack, classifier, replace(batch, clean_margins=classifier.margins(batch.images).detach()), spy
    )
    assert max(len(planes) for planes in spy.planes) <= max(1, pixels // 225)
    same(reference, chunked)


@pytest.mark.parametrize("compact_every", [2, 5, 100])
def test_the_interval_of_compaction_changes_only_the_cost(lab, bench, attack, compact_every):
    classifier, batch = bench
    if isinstance(attack, PgdLinf):  # flips at every step, and lower margins after it
        attack = replace(attack, step_rule="constant", random_starts=1)

    def run(interval):
        spy = lab.SpyQuery(classifier)
        climb = replace(Climb.of(attack, batch, spy, None), compact_every=interval)
        climb.run()
        return climb.record, sum(len(planes) for planes in spy.planes)

    (reference, cost), (other, other_cost) = run(1), run(compact_every)
    for name in ("margins", "steps_to_flip", "zero_gradient", "non_finite_margin"):
        torch.testing.assert_close(getattr(reference, name), getattr(other, name), equal_nan=True)
    assert other_cost >= cost


def test_the_seed_decides_and_nothing_else(lab, bench):
    classifier, batch = bench
    attack = PgdLinf(levels=ladder("2/255"), steps=2, random_starts=3, full_search=("2/255",))

    class OtherVersion(PgdLinf):
        version = PgdLinf.version + 1

    def run(batch, attack=attack):
        spy = lab.SpyQuery(classifier)
        margins, _ = lab.attack(attack, classifier, batch, spy)
        return margins, torch.cat(spy.planes)

    torch.manual_seed(1)
    reference, planes = run(batch)
    torch.manual_seed(2)
    again, same_planes = run(batch)
    same(reference, again, rtol=0, atol=0)
    assert torch.equal(planes, same_planes)
    _, other_planes = run(replace(batch, seeds=tuple(seed + 1 for seed in batch.seeds)))
    assert not torch.equal(planes, other_planes)
    _, other_planes = run(batch, OtherVersion(**vars(attack)))
    assert not torch.equal(planes, other_planes)


def test_findings_and_levels_share_the_random_starts(lab, bench):
    _, batch = bench
    weights = torch.full((2, 225), 1e-9)
    unbreakable = lab.classifier(lab.Linear(weights, torch.ones(2)), size=(15, 15), findings=2)
    spy = lab.SpyQuery(unbreakable)
    batch = replace(batch, labels=torch.ones(6, 2), stored_bits=16)
    lab.attack(PgdLinf(levels=ladder("2/255", "4/255"), steps=1, random_starts=1), unbreakable, batch, spy)
    _clean, centre, _, start_at_2, _, start_at_4 = spy.planes
    moved = (start_at_2 - centre).reshape(6, 2, -1)
    torch.testing.assert_close(moved[:, 0], moved[:, 1])
    inside = (centre > 4 / 255) & (centre < 251 / 255)
    doubled = 2 * (start_at_2 - centre)[inside]
    torch.testing.assert_close((start_at_4 - centre)[inside], doubled, rtol=0, atol=2 / 65535)
    assert moved.abs().max() > 1.9 / 255
    assert abs(moved.mean()) < 0.1 / 255


def test_the_model_and_the_random_state_are_left_alone(lab, bench, attack):
    classifier, batch = bench
    module = classifier.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random_state, images = torch.get_rng_state(), batch.images.clone()
    lab.attack(attack, classifier, batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(batch.images, images)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(child.training for child in module.modules())


def test_worse_with_every_level_and_never_better_than_clean(lab, bench, attack):
    classifier, batch = bench
    margins, _ = lab.attack(attack, classifier, batch)
    with torch.no_grad():
        healths = [lab.side(batch.labels) * values for values in (classifier.margins(batch.images), *margins.values())]
    known = ~batch.labels.isnan()
    for milder, stronger in pairwise(healths):
        assert (stronger[known] <= milder[known]).all()


@pytest.mark.parametrize("full", [(), NAMES], ids=["to-the-flip", "full-search"])
@pytest.mark.parametrize("steps", [2, 10])
def test_many_steps_are_never_weaker_than_one(lab, calibrated, full, steps):
    classifier, images, labels = calibrated(findings=2, cases=20, seed=5)
    batch = lab.batch(images, labels)
    one, _ = lab.attack(Fgsm(levels=ladder(*NAMES), full_search=full), classifier, batch)
    pgd = PgdLinf(levels=ladder(*NAMES), full_search=full, steps=steps, random_starts=0)
    many, _ = lab.attack(pgd, classifier, batch)
    for name in NAMES:
        if full:
            assert (lab.side(labels) * (many[name] - one[name]) <= 1e-6).all()
        flipped_by_one, flipped_by_many = ((m[name] >= 0).float() != labels for m in (one, many))
        assert (flipped_by_many | ~flipped_by_one).all()


def test_full_search_goes_at_least_as_far(lab, calibrated, attack_class):
    classifier, images, labels = calibrated(findings=2, cases=12, seed=5)
    batch = lab.batch(images, labels)
    flip, _ = lab.attack(attack_class(levels=ladder(*NAMES)), classifier, batch)
    full, _ = lab.attack(attack_class(levels=ladder(*NAMES), full_search=NAMES), classifier, batch)
    further = 0
    for name in NAMES:
        gain = lab.side(labels) * (flip[name] - full[name])
        assert (gain >= -1e-6).all()
        further += int((gain > 1e-4).sum())
    assert further or attack_class is Fgsm


def test_only_the_levels_named_are_full(lab, bench, attack_class):
    classifier, batch = bench
    attack = attack_class(levels=ladder("1/255", "2/255"), full_search=("2/255",))
    variants = list(attack.apply(batch, lab.SpyQuery(classifier), None).variants)
    assert [variant.full_search for variant in variants] == [False, True]


def test_steps_to_flip_counts_planes(lab, bench):
    classifier, batch = bench
    attack = PgdLinf(levels=ladder(*NAMES), steps=4, random_starts=1)
    margins, measured = lab.attack(attack, classifier, batch)
    counts = torch.stack([measured["steps_to_flip", name, "finding-0"] for name in NAMES])
    with torch.no_grad():
        right = (classifier.margins(batch.images)[:, 0] >= 0).float() == batch.labels[:, 0]
    flipped = (margins[NAMES[-1]][:, 0] >= 0).float() != batch.labels[:, 0]
    assert torch.equal((~counts.isnan()).sum(0) == 1, flipped & right)  # each flip is counted once, at its own level
    assert counts.nan_to_num(1).min() >= 1
    assert counts.nan_to_num(1).max() <= 8


def test_finished_cases_leave_the_batch(lab, calibrated):
    classifier, images, labels = calibrated(cases=8)
    spy = lab.SpyQuery(classifier)
    attack = PgdLinf(levels=ladder("16/255"), steps=20, random_starts=0)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels), spy)
    assert ((margins["16/255"] >= 0).float() != labels).all()
    assert spy.backwards <= 3 * len(images)


def test_the_price_is_what_an_unbroken_model_costs(lab, attack_class):
    model = lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0]))
    classifier = lab.classifier(model, size=(6, 6), findings=2)
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = attack_class(levels=ladder("1/255", "2/255"))
    lab.attack(attack, classifier, batch, spy)
    spent = sum(len(planes) for planes in spy.planes) + 2 * spy.backwards
    assert spent == 3 * attack.passes(findings=2)


def test_no_cases_no_trouble(lab, bench, attack_class):
    classifier, batch = bench
    empty = replace(batch.select(torch.tensor([], dtype=torch.int64)), clean_margins=torch.zeros(0, 2))
    margins, _ = lab.attack(attack_class(levels=ladder("1/255")), classifier, empty)
    assert margins["1/255"].shape == (0, 2)


def test_an_attack_without_a_model_is_refused(bench, attack_class):
    with pytest.raises(TypeError, match="needs a model"):
        attack_class().apply(bench[1], None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": []}, "above 0 and up to 1"),
        ({"epsilon": ["0/255"]}, "above 0 and up to 1"),
        ({"epsilon": [2]}, "above 0 and up to 1"),
        ({"epsilon": ["nan"]}, "above 0 and up to 1"),
        ({"epsilon": ["1/0"]}, "1/0"),
        ({"epsilon": ["two"]}, "two"),
        ({"epsilon": ["2/255", "1/255"]}, "from small to large"),
        ({"epsilon": ["1/255", "1/255"]}, "from small to large"),
        ({"epsilon": ["1/255"], "full_search": ["2/255"]}, "full_search: expected a list of names out of"),
        ({"epsilon": ["1/255"], "full_search": "1/255"}, "full_search: expected a list of names out of"),
        ({"epsilom": ["1/255"]}, "epsilon"),
        ({"levels": 7}, "above 0 and up to 1"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(attack_class, options, message):
    with pytest.raises(PlanError, match=message) as caught:
        attack_class.from_options(options)
    assert attack_class.id in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 2.5}, {"steps": True}, {"steps": "20"}, {"random_starts": -1}, {"step_rule": "big"}],
)
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        PgdLinf.from_options(options)


def test_epsilon_is_a_fraction_of_the_display_range(attack_class):
    attack = attack_class.from_options({"epsilon": ["1/255", 0.01]})
    assert [str(level) for level in attack.levels] == ["1/255 of display range", "0.01 of display range"]
    assert [level.value for level in attack.levels] == [1 / 255, 0.01]
