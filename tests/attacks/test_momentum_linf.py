"""Momentum: equal to the literature's implementation, exact on linear models, and better on rugged ones when smoothed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.momentum_linf import MomentumLinf, unit_mean
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.errors import PlanError

FINE = 24  # bits: rounding stays below 1e-7, so that planes can be compared
LADDER = ("1/255", "2/255", "4/255", "8/255")
SMOOTHED = {"steps": 4, "step_size": 0.5, "samples": 2}


class TwoLogits(nn.Module):
    """``[0, z]``: what a softmax attack needs to see of a one-logit model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        z = self.inner(images)
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize("steps", [4, 10])
def test_it_equals_torchattacks(lab, calibrated, decay, steps):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    classifier, images, labels = calibrated(cases=8, seed=4, act=nn.Tanh)
    theirs = torchattacks.MIFGSM(
        TwoLogits(classifier.module).eval(), eps=8 / 255, alpha=2 / 255, steps=steps, decay=decay
    )(images, labels[:, 0].long())
    ours = MomentumLinf(levels=ladder("8/255"), steps=steps, step_size=0.25, decay=decay, full_search=("8/255",))
    spy = lab.SpyQuery(classifier)
    batch = lab.batch(images, labels, stored_bits=FINE, clean_margins=classifier.margins(images).detach())
    lab.attack(ours, classifier, batch, spy)
    assert (theirs - images).abs().max() > 4 / 255
    torch.testing.assert_close(spy.planes[-1], theirs, rtol=0, atol=1e-6)


def worst(model, images, side, radius):
    x, w = images.flatten(1).double(), model.weight[0].double()
    room = torch.where(side.double() * w > 0, x, 1 - x).clamp(max=radius)
    return side[:, 0].double() * (x @ w + model.bias.double()) - (w.abs() * room).sum(1)


@pytest.mark.parametrize("options", [{"steps": 12}, SMOOTHED], ids=["plain", "smoothed"])
@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_robust_exactly_where_the_box_form_says(lab, full, options):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = MomentumLinf(levels=ladder(*LADDER), full_search=LADDER if full else (), **options)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    side, rates = lab.side(labels)[:, 0], []
    for level in attack.levels:
        expected = worst(model, images, lab.side(labels), level.value)
        flipped = (expected < 0) | ((expected == 0) & (side < 0))
        assert torch.equal((margins[level.name] >= 0).float()[:, 0] != labels[:, 0], flipped)
        rates.append(flipped.float().mean().item())
        if full:
            torch.testing.assert_close(margins[level.name][:, 0] * side, expected.float(), rtol=1e-4, atol=2e-3)
    assert 0 < rates[0] < rates[-1]


def test_volumes_give_the_answer_of_their_flattened_planes(lab):
    model = lab.linear(60, findings=2)
    volumes = lab.images((5, 1, 3, 4, 5), bits=8)
    labels = (lab.images((5, 2), seed=1) > 0.5).float()
    attack = MomentumLinf(levels=ladder("1/255", "2/255"), full_search=("2/255",), steps=10)
    three_d, _ = lab.attack(attack, lab.classifier(model, size=(3, 4, 5), findings=2), lab.batch(volumes, labels))
    flat = lab.classifier(model, size=(6, 10), findings=2)
    two_d, _ = lab.attack(attack, flat, lab.batch(volumes.reshape(5, 1, 6, 10), labels))
    for name, margins in three_d.items():
        torch.testing.assert_close(margins, two_d[name])


class Rugged(nn.Module):
    """A smooth slope under ripples finer than the radius, whose gradients point anywhere."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        flat = images.flatten(1) - 0.5
        ripple = torch.sin(flat * 2000) / 300
        return (flat + ripple) @ self.weight.T + 0.05


def test_smoothing_finds_more_on_a_rugged_model(lab):
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    classifier = lab.classifier(Rugged(weight), size=(8, 8))
    images = 0.4 + 0.2 * lab.images((40, 1, 8, 8))
    batch = lab.batch(images, lab.called(classifier, images), stored_bits=16)
    options = {"levels": ladder("8/255"), "full_search": ("8/255",)}
    side = lab.side(batch.labels)
    plain, _ = lab.attack(PgdLinf(**options, steps=20, random_starts=1), classifier, batch)
    smooth, _ = lab.attack(MomentumLinf(**options, steps=10, step_size=0.25, samples=4), classifier, batch)
    gain = side * (plain["8/255"] - smooth["8/255"])
    assert (gain > 0).float().mean() > 0.9


@pytest.mark.parametrize("options", [{"steps": 10}, SMOOTHED], ids=["plain", "smoothed"])
@pytest.mark.parametrize("full", [(), ("1/255", "2/255")], ids=["to-the-flip", "full-search"])
def test_order_companions_and_compaction_change_nothing(lab, calibrated, full, options):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    batch = lab.batch(images, labels)
    attack = MomentumLinf(levels=ladder("1/255", "2/255"), full_search=full, **options)
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5])
    some, measured_again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], some[name], equal_nan=True, rtol=1e-4, atol=1e-5)
    assert measured.keys() == measured_again.keys()
    climb = replace(Climb.of(attack, batch, lab.SpyQuery(classifier), None), compact_every=4)
    climb.run()
    for margins, lazily in zip(reference.values(), climb.record.margins, strict=True):
        torch.testing.assert_close(margins, lazily, equal_nan=True)


@pytest.mark.parametrize("options", [{"steps": 12}, SMOOTHED], ids=["plain", "smoothed"])
def test_no_plane_leaves_the_ball_the_box_the_mask_or_the_grid(lab, calibrated, options):
    classifier, images, labels = calibrated(cases=2)
    anatomy = lab.images((2, 1, 15, 15), seed=3) > 0.5
    spy = lab.SpyQuery(classifier)
    attack = MomentumLinf(levels=ladder("3/255"), full_search=("3/255",), mask="anatomy", **options)
    clean = classifier.margins(images).detach()
    lab.attack(attack, classifier, lab.batch(images, labels, anatomy=anatomy, clean_margins=clean), spy)
    for planes in spy.planes:
        assert (planes - images).abs().max() <= 3 / 255 + 1e-6
        assert torch.equal(planes[~anatomy], images[~anatomy])
        assert planes.min() >= 0
        assert planes.max() <= 1
        torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)
    assert (spy.planes[-1] - images).abs().max() > 2.5 / 255


@pytest.mark.parametrize("options", [{"steps": 12}, SMOOTHED], ids=["plain", "smoothed"])
def test_the_price_is_what_an_unbroken_model_costs(lab, options):
    classifier = lab.classifier(
        lab.Linear(torch.full((2, 36), 1e-6), torch.tensor([5.0, 5.0])), size=(6, 6), findings=2
    )
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 2), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = MomentumLinf(levels=ladder("1/255", "2/255"), **options)
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=2)


def test_a_network_is_flipped_more_with_every_level(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=20, seed=5)
    margins, _ = lab.attack(MomentumLinf(levels=ladder(*LADDER), steps=20), classifier, lab.batch(images, labels))
    flips = [int(((values >= 0).float() != labels).sum()) for values in margins.values()]
    assert flips == sorted(flips)
    assert flips[-1] > flips[0]
    assert flips[-1] > 20


def test_a_gradient_that_is_no_number_does_not_move():
    gradient = torch.tensor([[[[torch.nan, 2.0, -2.0, torch.inf]]], [[[0.0, 0.0, 0.0, 0.0]]]])
    assert unit_mean(gradient).flatten().tolist() == [0.0, 2.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": True},
        {"samples": -1},
        {"samples": 1.5},
        {"step_size": 0},
        {"step_size": "big"},
        {"step_size": 0.1, "steps": 9},
        {"decay": -0.5},
        {"decay": float("nan")},
        {"smoothing": 0},
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        MomentumLinf.from_options(options)
