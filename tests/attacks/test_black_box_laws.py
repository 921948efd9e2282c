"""What must hold for every attack that asks the model for margins only: order, seeds, price, ball, mask, rank."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks import _climb
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks.noise import Noise
from robustbench_rad.attacks.one_pixel import FewPixelEvolution
from robustbench_rad.attacks.square_linf import SquareLinf

ATTACKS = {
    "few-pixel": FewPixelEvolution.from_options({"levels": [1, 3], "evaluations": 22, "population": 8}),
    "noise": Noise.from_options({"epsilon": ["2/255", "8/255"], "draws": 11, "candidates": 4}),
    "square": SquareLinf.from_options({"epsilon": ["2/255", "8/255"], "queries": 22, "candidates": 4}),
}


@pytest.fixture(params=list(ATTACKS))
def plain(request):
    return ATTACKS[request.param]


@pytest.fixture(params=["to-the-flip", "full-search"])
def attack(request, plain):
    names = tuple(level.name for level in plain.levels)
    return replace(plain, full_search=names if request.param == "full-search" else ())


@pytest.fixture(scope="module")
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels = labels.clone()
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    return classifier, lab.batch(images, labels)


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
    alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([3])))
    same({name: margins[[3]] for name, margins in reference.items()}, alone)


def test_the_size_of_a_chunk_changes_nothing(lab, bench, attack, monkeypatch):
    classifier, batch = bench
    reference, _ = lab.attack(attack, classifier, batch)
    monkeypatch.setattr(_climb, "MAX_ROW_PIXELS", 2 * 225 * attack.planes_at_once)
    spy = lab.SpyQuery(classifier)
    batch = replace(batch, clean_margins=classifier.margins(batch.images).detach())
    chunked, _ = lab.attack(attack, classifier, batch, spy)
    assert max(len(planes) for planes in spy.planes) <= 2 * attack.planes_at_once
    same(reference, chunked)


def test_the_interval_of_compaction_changes_only_the_cost(lab, bench, attack):
    classifier, batch = bench

    def run(interval):
        climb = replace(Climb.of(attack, batch, lab.SpyQuery(classifier), None), compact_every=interval)
        climb.run()
        return climb.record

    reference, other = run(1), run(3)
    for name in ("margins", "steps_to_flip", "non_finite_margin"):
        torch.testing.assert_close(getattr(reference, name), getattr(other, name), equal_nan=True)


def test_the_seed_decides_and_nothing_else(lab, bench, attack):
    classifier, batch = bench

    def run(batch):
        spy = lab.SpyQuery(classifier)
        margins, _ = lab.attack(attack, classifier, batch, spy)
        return margins, torch.cat(spy.planes)

    torch.manual_seed(1)
    before = torch.get_rng_state()
    reference, planes = run(batch)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, same_planes = run(batch)
    same(reference, again, rtol=0, atol=0)
    assert torch.equal(planes, same_planes)
    _, others = run(replace(batch, seeds=tuple(seed + 1 for seed in batch.seeds)))
    assert planes.shape != others.shape or not torch.equal(planes, others)


def test_worse_with_every_level_and_never_better_than_clean(lab, bench, attack):
    classifier, batch = bench
    margins, _ = lab.attack(attack, classifier, batch)
    clean = classifier.margins(batch.images).detach()
    healths = [lab.side(batch.labels) * values for values in (clean, *margins.values())]
    known = ~batch.labels.isnan()
    for milder, stronger in pairwise(healths):
        assert (stronger[known] <= milder[known]).all()
    assert all(torch.equal(values.isnan(), ~known) for values in margins.values())


def test_the_price_is_what_an_unbroken_model_costs(lab, plain):
    model = lab.Linear(torch.full((2, 48), 1e-6), torch.tensor([5.0, 5.0]))
    classifier = lab.classifier(model, size=(6, 8), findings=2)
    images = lab.images((3, 1, 6, 8), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    lab.attack(plain, classifier, batch, spy)
    spent = sum(len(planes) for planes in spy.planes) + 2 * spy.backwards
    assert spent == 3 * plain.passes(findings=2)


@pytest.mark.parametrize("shape", [(5, 9), (2, 5, 3)], ids=["not-square", "volume"])
def test_planes_stay_in_the_threat_the_mask_the_box_and_on_the_grid(lab, attack, shape):
    pixels = torch.Size(shape).numel()
    classifier = lab.classifier(lab.linear(pixels), size=shape)
    images = lab.images((1, 1, *shape))
    anatomy = lab.images((1, 1, *shape), seed=3) > 0.5
    labels = lab.called(classifier, images)
    spy = lab.SpyQuery(classifier)
    batch = lab.batch(images, labels, anatomy=anatomy, clean_margins=classifier.margins(images).detach())
    masked = replace(attack, mask="anatomy")
    lab.attack(masked, classifier, batch, spy)
    planes, centre = torch.cat(spy.planes), stored(images, 8)
    assert len(planes) > 2
    assert planes.min() >= 0
    assert planes.max() <= 1
    torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)
    assert torch.equal(planes[~anatomy.expand_as(planes)], centre.expand_as(planes)[~anatomy.expand_as(planes)])
    threat = attack.threat(
        centre=centre.expand_as(planes),
        radius=attack.reach(attack.levels[-1], batch).expand(len(planes)),
        bits=8,
        allowed=anatomy.expand_as(planes),
    )
    assert threat.contains(planes).all()


def test_a_model_without_numbers_is_no_robust_model(lab, plain):
    class Nothing(torch.nn.Module):
        def forward(self, images):
            white = images.flatten(1).sum(1, keepdim=True)
            return torch.where(white == 24, white, torch.nan)

    images = torch.full((1, 1, 4, 6), 1.0)
    classifier = lab.classifier(Nothing(), size=(4, 6))
    batch = lab.batch(images, torch.ones(1, 1), clean_margins=torch.full((1, 1), 24.0))
    margins, measured = lab.attack(plain, classifier, batch)
    assert margins[plain.levels[-1].name].isnan().all()
    assert measured["non_finite_margin", "", "finding-0"].tolist() == [1.0]


def test_no_cases_no_trouble(lab, bench, plain):
    classifier, batch = bench
    empty = replace(batch.select(torch.tensor([], dtype=torch.int64)), clean_margins=torch.zeros(0, 2))
    margins, _ = lab.attack(plain, classifier, empty)
    assert all(values.shape == (0, 2) for values in margins.values())


@pytest.mark.parametrize("kind", [FewPixelEvolution, Noise, SquareLinf], ids=lambda kind: kind.id)
def test_the_planted_linear_model_is_solved(kind):
    assert kind().self_test() == ""


def test_a_search_too_short_to_be_believed_is_found_out():
    assert "it flipped" in SquareLinf(queries=4).self_test()
