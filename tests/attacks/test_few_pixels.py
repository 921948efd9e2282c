"""Greedy pixels: exact on linear models in the box, within the number allowed, and stronger than random ones."""

from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks.few_pixels import FewPixels
from robustbench_rad.attacks.one_pixel import pixel_level
from robustbench_rad.errors import PlanError

LADDER = (1, 5, 20)


def worst_of(model, images, side, pixels):
    """``(N, 1)`` worst margins with ``pixels`` of each at the edge of the range, in float64."""
    x, weight = images.flatten(1).double(), model.weight.detach().double()
    w = side.double() * weight
    gain = (w.abs() * torch.where(w > 0, x, 1 - x)).sort(1, descending=True).values
    clean = (x * weight).sum(1) + model.bias.detach().double()
    return (side[:, 0] * (side[:, 0] * clean - gain[:, :pixels].sum(1)))[:, None]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("candidates", [1, 8])
def test_linear_models_are_solved_exactly(lab, full, candidates):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    names = tuple(map(str, LADDER))
    attack = FewPixels(levels=tuple(map(pixel_level, LADDER)), candidates=candidates, full_search=names if full else ())
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    rates = []
    for pixels, values in zip(LADDER, margins.values(), strict=True):
        exact = worst_of(model, images, lab.side(labels), pixels)
        flipped = (values >= 0).float() != labels
        assert torch.equal(flipped, (exact >= 0).float() != labels)
        rates.append(flipped.float().mean().item())
        if full:
            torch.testing.assert_close(values, exact.float(), rtol=1e-4, atol=1e-4)
    assert 0 < rates[0] < rates[1] < rates[2] <= 1


def test_no_plane_changes_more_pixels_than_allowed(lab, calibrated):
    classifier, images, labels = calibrated(cases=1)
    spy = lab.SpyQuery(classifier)
    attack = FewPixels.from_options({"levels": [1, 3, 12], "full_search": ["1", "3", "12"]})
    lab.attack(attack, classifier, lab.batch(images, labels), spy)
    counts = torch.cat([(planes != images).flatten(1).sum(1) for planes in spy.planes])
    assert counts.max() == 12
    assert {1, 3} <= set(counts.tolist())
    planes = torch.cat(spy.planes)
    changed = planes[planes != images.expand_as(planes)]
    assert set(changed.tolist()) <= {0.0, 1.0}


def test_trying_pixels_is_never_weaker_and_both_beat_chance(lab, calibrated):
    classifier, images, labels = calibrated(cases=24, seed=6)
    batch = lab.batch(images, labels)
    options = {"levels": [1, 5, 20], "full_search": ["1", "5", "20"]}
    tried, _ = lab.attack(FewPixels.from_options(options), classifier, batch)
    ranked, _ = lab.attack(FewPixels.from_options({**options, "candidates": 1}), classifier, batch)
    side = lab.side(labels)
    assert (side * (tried["1"] - ranked["1"]) <= 1e-6).all()
    source = torch.Generator().manual_seed(0)
    chance = images.flatten(1).clone()
    for row in range(len(chance)):
        chance[row, torch.randperm(225, generator=source)[:20]] = torch.randint(0, 2, (20,), generator=source).float()
    with torch.no_grad():
        by_chance = classifier.margins(chance.reshape(images.shape))
    assert (side * (tried["20"] - by_chance)).mean() < 0
    healths = [side * classifier.margins(images).detach(), *(side * values for values in tried.values())]
    assert all((after <= before + 1e-6).all() for before, after in pairwise(healths))
    assert ((tried["20"] >= 0).float() != labels).float().mean() > 0.5


def test_order_and_companions_change_nothing_and_volumes_are_planes(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    batch = lab.batch(images, labels)
    attack = FewPixels.from_options({"levels": [1, 7]})
    reference, _ = lab.attack(attack, classifier, batch)
    for row in range(6):
        alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([row])))
        for name, margins in reference.items():
            torch.testing.assert_close(margins[[row]], alone[name], rtol=1e-4, atol=1e-5)
    model = lab.linear(60, findings=2)
    volumes = lab.images((5, 1, 3, 4, 5), bits=8)
    labels = (lab.images((5, 2), seed=1) > 0.5).float()
    in_3d = lab.attack(attack, lab.classifier(model, size=(3, 4, 5), findings=2), lab.batch(volumes, labels))[0]
    flat = lab.classifier(model, size=(6, 10), findings=2)
    in_2d = lab.attack(attack, flat, lab.batch(volumes.reshape(5, 1, 6, 10), labels))[0]
    for name in in_3d:
        torch.testing.assert_close(in_3d[name], in_2d[name])


def test_more_pixels_than_the_image_has_are_all_of_them(lab):
    model = lab.linear(9)
    classifier = lab.classifier(model, size=(3, 3))
    images = lab.images((6, 1, 3, 3), bits=8)
    labels = lab.called(classifier, images)
    attack = FewPixels.from_options({"levels": [100], "full_search": ["100"]})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels))
    exact = worst_of(model, images, lab.side(labels), 9)
    torch.testing.assert_close(margins["100"], exact.float(), rtol=1e-4, atol=1e-4)


def test_the_price_is_what_an_unbroken_model_costs(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 144), 1e-6), torch.tensor([5.0])), size=(12, 12))
    images = lab.images((3, 1, 12, 12), bits=8)
    batch = lab.batch(images, torch.ones(3, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = FewPixels()
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"candidates": "8"}, "candidates"),
        ({"levels": [1.5]}, "whole numbers of pixels"),
        ({"levels": [5, 1]}, "from small to large"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        FewPixels.from_options(options)
