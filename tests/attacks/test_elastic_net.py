"""Sparse changes: exact on linear models in the box, within the mean change allowed, and sparse."""

from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks.elastic_net import ElasticNetL1
from robustbench_rad.errors import PlanError
from tests.attacks.test_minimal_norm import least

LADDER = ("0.2/255", "0.5/255", "1/255", "4/255")


def test_robust_exactly_where_the_knapsack_says(lab):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = ElasticNetL1.from_options({"levels": LADDER, "steps": 5})
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    exact = least("l1", model, images, lab.side(labels))[:, None]
    rates = []
    for level in attack.levels:
        flipped = (margins[level.name] >= 0).float() != labels
        assert torch.equal(flipped, exact <= level.value)
        rates.append(flipped.float().mean().item())
    assert 0 < rates[0] < rates[1] < rates[2] < rates[3] < 1


def test_no_plane_leaves_the_ball_or_the_box(lab, calibrated):
    classifier, images, labels = calibrated(cases=1)
    spy = lab.SpyQuery(classifier)
    attack = ElasticNetL1.from_options({"levels": ["1/255"], "steps": 8, "full_search": ["1/255"]})
    lab.attack(attack, classifier, lab.batch(images, labels), spy)
    planes = torch.cat(spy.planes)
    assert len(planes) > 8
    assert planes.min() >= 0
    assert planes.max() <= 1
    change = (planes - stored(images, 8)).abs().flatten(1)
    assert change.mean(1).max() <= 1 / 255 * (1 + 1e-4)
    assert ((change > 0).float().mean(1) < 0.3).all()  # a twentieth of the pixels or so
    assert change.max() > 0.3


def test_a_network_flips_and_later_steps_help(lab, calibrated):
    classifier, images, labels = calibrated(cases=24, seed=6)
    batch, side = lab.batch(images, labels), lab.side(labels)
    names = ["0.25/255", "1/255", "4/255"]
    many, _ = lab.attack(ElasticNetL1.from_options({"levels": names, "full_search": names}), classifier, batch)
    one, _ = lab.attack(
        ElasticNetL1.from_options({"levels": names, "full_search": names, "steps": 1}), classifier, batch
    )
    assert ((many["4/255"] >= 0).float() != labels).float().mean() > 0.7
    assert (side * (many["0.25/255"] - one["0.25/255"]) <= 1e-6).all()
    assert (side * (many["4/255"] - one["4/255"])).mean() < 0
    healths = [side * classifier.margins(images).detach(), *(side * values for values in many.values())]
    assert all((after <= before + 1e-6).all() for before, after in pairwise(healths))


def test_order_and_companions_change_nothing_and_volumes_are_planes(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    batch = lab.batch(images, labels)
    attack = ElasticNetL1.from_options({"levels": ["0.5/255", "2/255"], "steps": 6})
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


def test_the_price_is_what_an_unbroken_model_costs(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 36), 1e-6), torch.tensor([5.0])), size=(6, 6))
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = ElasticNetL1.from_options({"steps": 4})
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=1)


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": True}, {"levels": ["1 mm"]}])
def test_a_search_that_cannot_be_made_is_refused(options):
    with pytest.raises(PlanError, match=next(iter(options))):
        ElasticNetL1.from_options(options)


def test_levels_say_that_they_are_means():
    assert [str(level) for level in ElasticNetL1().levels][:1] == ["0.1/255 mean of display range"]
