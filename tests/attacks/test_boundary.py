"""HopSkipJump: near the exact smallest change of linear models, from calls alone."""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks import _climb
from robustbench_rad.attacks.boundary import BoundaryL2, BoundaryLinf, vote_counts
from robustbench_rad.errors import PlanError

KINDS = {"l2": BoundaryL2, "linf": BoundaryLinf}
NAMES = ("2/255", "8/255", "32/255")


@pytest.fixture(params=list(KINDS))
def norm(request):
    return request.param


def make(norm, **options):
    return KINDS[norm].from_options({"levels": NAMES, "queries": 400, "votes": 40, "starts": 16, **options})


class LabelsOnly:
    """Says nothing but the call: margins of 1 and -1, gradients of 0."""

    def __init__(self, query):
        self.query, self.findings = query, query.findings

    def margins(self, display):
        return (self.query.margins(display) >= 0).float() * 2 - 1

    def margins_and_gradient(self, display, weights):
        del weights
        return self.margins(display), torch.zeros_like(display)


def smallest(model, images, side, norm):
    """``(N,)`` exact smallest change that makes a linear call wrong in the box, by bisection in float64."""
    x, w = images.flatten(1).double(), model.weight.double()
    pull = side.double() * w
    room, health = torch.where(pull > 0, x, 1 - x), side[:, 0].double() * (x @ w[0] + model.bias.double())
    low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e3).double()
    slope = torch.ones_like(w) if norm == "linf" else w.abs()
    for _ in range(100):
        middle = (low + high) / 2
        enough = ((w.abs() * torch.minimum(middle * slope, room)).sum(1) >= health)[:, None]
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    change = torch.minimum(high * slope, room)
    return change.amax(1) if norm == "linf" else change.square().mean(1).sqrt()


@pytest.mark.parametrize("shape", [(5, 8), (2, 4, 5)], ids=["not-square", "volume"])
def test_it_comes_near_the_smallest_change_of_a_linear_model_and_never_below(lab, norm, shape):
    model = lab.linear(40)
    classifier = lab.classifier(model, size=shape)
    images = lab.images((300, 1, *shape), bits=16, saturated=0.1)
    labels = lab.called(classifier, images)
    attack = make(norm, queries=2000, votes=100)
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    exact = smallest(model, images, lab.side(labels), norm)
    found = measured["minimal_epsilon", "", "finding-0"].double()
    known = ~found.isnan()
    ratio = found[known] / exact[known]
    assert known.float().mean() > 0.9
    assert ratio.min() > 0.999
    assert ratio.median() < (1.15 if norm == "l2" else 1.5)
    for level in attack.levels:
        flipped = ((margins[level.name] >= 0).float() != labels)[:, 0]
        assert torch.equal(flipped & known, known & (found <= level.value * (1 + 1e-4)))
        assert not (flipped & (exact > level.value * 1.001)).any()


def test_it_sees_nothing_but_the_calls(lab, norm, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6)
    batch = lab.batch(images, labels, clean_margins=classifier.margins(images).detach())
    open_query, closed_query = lab.SpyQuery(classifier), lab.SpyQuery(classifier)
    attack = make(norm)
    margins, measured = lab.attack(attack, classifier, batch, open_query)
    calls, measured_by_call = lab.attack(attack, classifier, batch, LabelsOnly(closed_query))
    planes, others = torch.cat(open_query.planes), torch.cat(closed_query.planes)
    assert torch.equal(planes, others)
    name = ("minimal_epsilon", "", "finding-0")
    torch.testing.assert_close(measured[name], measured_by_call[name], equal_nan=True)
    for level in NAMES:
        assert torch.equal(margins[level] >= 0, calls[level] >= 0)
    assert ((margins["32/255"] >= 0).float() != labels).any()


def test_without_a_wrong_call_to_start_from_there_is_no_result(lab, norm):
    weight = torch.full((1, 30), 1e-6)
    classifier = lab.classifier(lab.Linear(weight, torch.ones(1)), size=(5, 6))
    images = lab.images((3, 1, 5, 6), bits=8)
    margins, measured = lab.attack(make(norm), classifier, lab.batch(images, torch.ones(3, 1)))
    assert all(values.isnan().all() for values in margins.values())
    assert measured["start_found", "32/255", "finding-0"].tolist() == [0.0, 0.0, 0.0]
    assert measured["non_finite_margin", "", "finding-0"].tolist() == [0.0, 0.0, 0.0]


def test_only_planes_inside_the_radius_count(lab, norm):
    model = lab.linear(40)
    classifier = lab.classifier(model, size=(5, 8))
    images = lab.images((60, 1, 5, 8), bits=8)
    labels = lab.called(classifier, images)
    margins, measured = lab.attack(make(norm), classifier, lab.batch(images, labels))
    assert measured["start_found", "32/255", "finding-0"].eq(1).all()
    flipped = (margins["2/255"] >= 0).float() != labels
    exact = smallest(model, images, lab.side(labels), norm)
    assert not (flipped[:, 0] & (exact > 2 / 255 * 1.001)).any()
    assert not flipped.all()  # every call was wrong somewhere, though


def test_masked_pixels_are_left_alone(lab, norm):
    classifier = lab.classifier(lab.linear(40), size=(5, 8))
    images = lab.images((1, 1, 5, 8), bits=8)
    anatomy = lab.images((1, 1, 5, 8), seed=3) > 0.5
    spy = lab.SpyQuery(classifier)
    batch = lab.batch(images, lab.called(classifier, images), anatomy=anatomy)
    lab.attack(make(norm, mask="anatomy"), classifier, batch, spy)
    planes = torch.cat(spy.planes)
    outside = ~anatomy.expand_as(planes)
    assert torch.equal(planes[outside], images.expand_as(planes)[outside])
    assert planes.min() >= 0
    assert planes.max() <= 1


def test_order_companions_chunks_and_global_seeds_change_nothing(lab, norm, calibrated, monkeypatch):
    classifier, images, labels = calibrated(findings=2, cases=5, seed=2)
    labels = labels.clone()
    labels[0, 0] = torch.nan
    batch, attack = lab.batch(images, labels), make(norm, queries=200)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    reference, _ = lab.attack(attack, classifier, batch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    order = torch.tensor([4, 0, 2, 1, 3])
    shuffled, _ = lab.attack(attack, classifier, batch.select(order))
    alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([3])))
    monkeypatch.setattr(_climb, "MAX_ROW_PIXELS", 2 * 225 * attack.planes_at_once)
    chunked, _ = lab.attack(attack, classifier, batch)
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], shuffled[name], equal_nan=True)
        torch.testing.assert_close(margins[[3]], alone[name], equal_nan=True)
        torch.testing.assert_close(margins, chunked[name], equal_nan=True)
    spies = [lab.SpyQuery(classifier), lab.SpyQuery(classifier)]
    for spy, shift in zip(spies, (0, 1), strict=True):
        lab.attack(attack, classifier, replace(batch, seeds=tuple(seed + shift for seed in batch.seeds)), spy)
    one, other = (torch.cat(spy.planes) for spy in spies)
    assert one.shape != other.shape or not torch.equal(one, other)


def test_the_budget_is_kept_and_spent(lab, norm):
    classifier = lab.classifier(lab.linear(40), size=(5, 8))
    images = lab.images((7, 1, 5, 8), bits=8)
    labels = lab.called(classifier, images)
    batch = lab.batch(images, labels, clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = make(norm, queries=500)
    lab.attack(attack, classifier, batch, spy)
    spent = sum(len(planes) for planes in spy.planes) + 2 * spy.backwards
    assert spent == 7 * attack.passes(findings=1)


def test_more_queries_come_nearer(lab, norm, calibrated):
    classifier, images, labels = calibrated(cases=10, seed=4)
    found = []
    for queries in (100, 400, 1500):
        attack = make(norm, queries=queries, votes=40)
        _, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
        epsilon = measured["minimal_epsilon", "", "finding-0"]
        found.append(epsilon.nan_to_num(0.2).mean().item())
    assert found[0] > found[1] > found[2]


def test_votes_grow_with_the_root_of_the_round():
    counts = vote_counts(5000, 32, 100)
    assert counts[:4] == (100, 141, 173, 200)
    assert sum(counts) + 19 * len(counts) + 32 + 11 == 5000


@pytest.mark.parametrize(
    "options",
    [{"queries": 100}, {"queries": 5000.0}, {"starts": 0}, {"votes": 1}, {"votes": True}, {"full_search": ["1/255"]}],
)
def test_a_search_that_cannot_be_made_is_refused(norm, options):
    with pytest.raises(PlanError, match=next(iter(options))):
        KINDS[norm].from_options({"levels": ["1/255"], **options})


@pytest.mark.parametrize("options", [{}, {"votes": 500}, {"starts": 500}, {"queries": 100, "votes": 10}])
def test_the_planted_linear_model_is_solved(norm, options):
    assert KINDS[norm].from_options({"levels": ["1/255"], **options}).self_test() == ""
