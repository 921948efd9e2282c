"""The boundary attack: exact on linear models in the box, as strong as PGD on a network, free of step sizes."""

import pytest
import torch

from robustbench_rad.attacks.fab_linf import FabLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.errors import PlanError
from tests.attacks.test_minimal_norm import least

LADDER = ("0.5/255", "1/255", "2/255", "4/255", "40/255")


def test_linear_models_are_solved_exactly(lab):
    model = lab.linear(64)
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    classifier = lab.classifier(model, size=(8, 8))
    labels = lab.called(classifier, images)
    attack = FabLinf.from_options({"levels": LADDER, "steps": 12})
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    exact = least("linf", model, images, lab.side(labels))
    found = measured["minimal_epsilon", "", "finding-0"].double()
    inside = exact <= 40 / 255
    assert torch.equal(found.isfinite(), inside)
    assert (found[inside] >= exact[inside] - 1e-6).all()
    assert (found[inside] <= exact[inside] * 1.005 + 2.1 / 65535).all()
    for level in attack.levels:
        flipped = ((margins[level.name] >= 0).float() != labels)[:, 0]
        assert torch.equal(flipped, exact <= level.value)


def test_it_finds_what_pgd_finds(lab, calibrated):
    classifier, images, labels = calibrated(cases=32, seed=6)
    batch = lab.batch(images, labels, stored_bits=12)
    names = ["0.5/255", "1/255", "2/255", "4/255"]
    ours, _ = lab.attack(FabLinf.from_options({"levels": names}), classifier, batch)
    pgd, _ = lab.attack(PgdLinf.from_options({"levels": names, "steps": 40}), classifier, batch)
    flips = [[((margins[name] >= 0).float() != labels).sum().item() for name in names] for margins in (ours, pgd)]
    assert sum(flips[1]) > 0
    assert all(one >= other - 1 for one, other in zip(*flips, strict=True))


def test_order_and_companions_change_nothing(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    batch = lab.batch(images, labels)
    attack = FabLinf.from_options({"levels": ["1/255", "4/255"], "steps": 8})
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], shuffled[name], rtol=1e-4, atol=1e-5)
        for row in range(6):
            alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([row])))
            torch.testing.assert_close(margins[[row]], alone[name], rtol=1e-4, atol=1e-5)
    for name, values in measured.items():
        torch.testing.assert_close(values[order], again[name], equal_nan=True, rtol=1e-4, atol=1e-5)


def test_every_plane_is_storable_and_inside_the_largest_level(lab, calibrated):
    classifier, images, labels = calibrated(cases=1)
    spy = lab.SpyQuery(classifier)
    attack = FabLinf.from_options({"levels": ["1/255", "3/255"], "steps": 10})
    lab.attack(attack, classifier, lab.batch(images, labels), spy)
    planes = torch.cat(spy.planes)
    assert len(planes) > 10
    assert planes.min() >= 0
    assert planes.max() <= 1
    torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)
    assert (planes - images).abs().max() <= 3 / 255 + 1e-6


def test_the_price_is_what_an_unbroken_model_costs(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 36), 1e-6), torch.tensor([5.0])), size=(6, 6))
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = FabLinf.from_options({"steps": 4})
    _, measured = lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=1)
    assert measured["minimal_epsilon", "", "finding-0"].isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"full_search": ["4/255"]}, "ranks nothing"),
        ({"levels": [2]}, "above 0 and up to 1"),
        ({"levels": ["0.1/255", "0.1/255"]}, "from small to large"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        FabLinf.from_options(options)
