"""Gamma, window and bias field: exact where monotone, as good as brute force, the original untouched at zero."""

import itertools

import pytest
import torch

from robustbench_rad.attacks._envelope import shares
from robustbench_rad.attacks.contrast import Contrast
from robustbench_rad.errors import PlanError

OFF = {"gamma": 1, "window_centre": 0, "window_width": 1, "bias": 0}
LADDER = ("1/4", "1/2", "1")


@pytest.mark.parametrize("shape", [(6, 9), (3, 4, 5)], ids=["plane", "volume"])
@pytest.mark.parametrize(
    "option", [{"gamma": 1.25}, {"window_centre": 0.05}, {"bias": 0.1}], ids=lambda option: next(iter(option))
)
def test_one_parameter_of_a_monotone_model_is_solved_exactly(lab, shape, option):
    images = lab.images((300, 1, *shape), seed=2) * 0.5 + 0.3  # nothing is clipped
    model = lab.linear(images[0].numel())
    model.weight.data.abs_()  # brighter is always more
    classifier = lab.classifier(model, size=shape)
    with torch.no_grad():
        model.bias -= classifier.margins(images).median()
    labels = lab.called(classifier, images)
    attack = Contrast(levels=shares(*LADDER), full_search=LADDER, steps=6, **(OFF | option))
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    side, rates = lab.side(labels).reshape(-1, *[1] * (images.ndim - 1)), []
    for level in attack.levels:
        t = level.value
        if "gamma" in option:  # below 1 brightens
            planes = images ** (1.25 ** (side * t))
        elif "bias" in option:
            planes = images * 1.1 ** (-side * t)
        else:
            planes = images - side * t * 0.05
        worst = classifier.margins((planes * 65535).round() / 65535).detach()
        flipped = (worst >= 0).float() != labels
        clear = worst.abs() > 1e-3
        assert torch.equal(((margins[level.name] >= 0).float() != labels)[clear], flipped[clear])
        torch.testing.assert_close(margins[level.name], worst, atol=1e-3, rtol=1e-4)
        rates.append(flipped.float().mean())
    assert 0 < rates[0] < rates[-1]


def test_all_together_are_no_better_than_a_grid_of_the_envelope(lab):
    images = lab.images((40, 1, 6, 9), bits=8)
    classifier = lab.classifier(lab.linear(54), size=(6, 9))
    labels = lab.called(classifier, images)
    attack = Contrast(levels=shares(1), full_search=("1",), bias=0)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    brute = torch.full_like(labels, torch.inf)
    for at in itertools.product((-1, -0.5, 0, 0.5, 1), repeat=3):
        parameters = torch.tensor([[*at, *[0.0] * 16]]).expand(40, -1)
        brute = torch.minimum(brute, lab.side(labels) * classifier.margins(attack.shown(images, parameters)).detach())
    gap = lab.side(labels) * margins["1"] - brute
    assert (
        gap < 0.02 * (lab.side(labels) * classifier.margins(images).detach() - brute).abs() + 1e-3
    ).float().mean() > 0.97
    with_field, measured = lab.attack(
        Contrast(levels=shares(1), full_search=("1",)), classifier, lab.batch(images, labels)
    )
    assert (lab.side(labels) * (with_field["1"] - margins["1"])).mean() < -0.1
    assert measured["worst_bias", "1", "finding-0"].max() <= 0.1 + 1e-6
    assert measured["worst_gamma", "1", "finding-0"].max() <= 1.25 + 1e-6
    assert measured["worst_window_width", "1", "finding-0"].min() >= 1 / 1.2 - 1e-6


def test_nothing_changes_at_the_origin_and_what_is_outside_stays(lab):
    images = lab.images((2, 1, 5, 7)) * 1.4 - 0.2
    origin = torch.zeros(2, 3 + 16)
    torch.testing.assert_close(Contrast().shown(images, origin), images, atol=1e-7, rtol=0)
    outside = (images < 0) | (images > 1)
    narrow = Contrast().shown(images, origin - 0.5)
    assert outside.any()
    dark = images < 0
    assert (narrow[dark] <= images[dark] + 1).all()


def test_black_pixels_give_finite_gradients_and_a_network_flips(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=12, seed=5)
    images = images * (images > 0.3)
    labels = lab.called(classifier, images)
    attack = Contrast(levels=shares("1/2", 1), full_search=("1/2", "1"))
    batch = lab.batch(images, labels)
    margins, measured = lab.attack(attack, classifier, batch)
    assert margins["1"].isfinite().all()
    assert ((margins["1"] >= 0).float() != labels).float().mean() > 0.1
    assert (lab.side(labels) * (margins["1"] - margins["1/2"]) <= 1e-6).all()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(attack, classifier, batch.select(order))
    torch.testing.assert_close(shuffled["1"], margins["1"][order])
    torch.testing.assert_close(
        again["worst_gamma", "1", "finding-0"], measured["worst_gamma", "1", "finding-0"][order], equal_nan=True
    )


@pytest.mark.parametrize(
    "options",
    [
        {"levels": [2]},
        {"gamma": 0.5},
        {"window_width": 0},
        {"bias": -1},
        {"nodes": 0},
        {"steps": 0},
        {"mask": "border"},
    ],
)
def test_what_has_no_meaning_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        Contrast.from_options(options)
