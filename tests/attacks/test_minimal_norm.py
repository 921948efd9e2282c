"""Smallest changes: exact on linear models in the box in every norm, and consistent with the levels."""

import pytest
import torch

from robustbench_rad.attacks.minimal_norm import MinimalNorm
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.errors import PlanError

LADDERS = {
    "linf": ("0.5/255", "1/255", "2/255", "4/255", "40/255"),
    "l2": ("0.5/255", "1/255", "2/255", "40/255"),
    "l1": ("0.2/255", "0.5/255", "1/255", "40/255"),
    "l0": (1, 2, 5, 20),
}


def least(norm, model, images, side):
    """``(N,)`` smallest change that makes a linear call wrong in the box, in float64, by bisection or by sorting."""
    x, weight = images.flatten(1).double(), model.weight.detach().double()
    w = side.double() * weight
    free, slope = torch.where(w > 0, x, 1 - x), w.abs()
    health = side[:, 0].double() * ((x * weight).sum(1) + model.bias.detach().double())
    if norm in ("l1", "l0"):
        order = (slope if norm == "l1" else slope * free).argsort(1, descending=True)
        slope, free = slope.gather(1, order), free.gather(1, order)
        gained = (slope * free).cumsum(1)
        whole = (gained < health[:, None]).sum(1, keepdim=True)
        if norm == "l0":
            return (whole + 1).double()[:, 0]
        before = torch.nn.functional.pad(gained, (1, 0)).gather(1, whole)[:, 0]
        spent = torch.nn.functional.pad(free.cumsum(1), (1, 0)).gather(1, whole)[:, 0]
        return (spent + (health - before) / slope.gather(1, whole)[:, 0]) / x.shape[1]
    low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e6).double()

    def change(t):
        return torch.minimum(t if norm == "linf" else t * slope, free)

    for _ in range(200):
        t = (low + high) / 2
        enough = ((slope * change(t)).sum(1) >= health)[:, None]
        low, high = torch.where(enough, low, t), torch.where(enough, t, high)
    return high[:, 0] if norm == "linf" else change(high).square().mean(1).sqrt()


@pytest.fixture(scope="module")
def linear(lab):
    model = lab.linear(64)
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    classifier = lab.classifier(model, size=(8, 8))
    labels = lab.called(classifier, images)
    return model, classifier, lab.batch(images, labels, stored_bits=16)


@pytest.mark.parametrize("norm", LADDERS)
def test_linear_models_are_solved_exactly(lab, linear, norm):
    model, classifier, batch = linear
    attack = MinimalNorm.from_options({"norm": norm, "levels": LADDERS[norm], "steps": 30})
    margins, measured = lab.attack(attack, classifier, batch)
    exact = least(norm, model, batch.images, lab.side(batch.labels))
    found = measured["minimal_epsilon", "", "finding-0"].double()
    inside = exact <= attack.levels[-1].value
    assert torch.equal(found.isfinite(), inside)
    assert inside.float().mean() > 0.5
    slack = {"linf": 1.1 / 65535, "l0": 0.0}.get(norm, 1e-5)
    assert (found[inside] >= exact[inside] * (1 - 1e-3)).all()
    assert (found[inside] <= exact[inside] * (1 if norm == "l0" else 1.005) + slack).all()
    for level in attack.levels:
        flipped = ((margins[level.name] >= 0).float() != batch.labels)[:, 0]
        assert torch.equal(flipped, exact <= level.value)
        assert torch.equal(flipped, found <= level.value * (1 + 1e-5))
    assert not ((margins[attack.levels[0].name] >= 0).float() != batch.labels).all()


@pytest.mark.parametrize("norm", LADDERS)
def test_order_companions_and_seed_change_nothing(lab, calibrated, norm):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels[0, 0] = torch.nan
    batch = lab.batch(images, labels)
    levels = LADDERS[norm][-3:]
    attack = MinimalNorm.from_options({"norm": norm, "levels": levels, "steps": 8})
    reference, measured = lab.attack(attack, classifier, batch)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    shuffled, again = lab.attack(attack, classifier, batch.select(order))
    for name, margins in reference.items():
        torch.testing.assert_close(margins[order], shuffled[name], equal_nan=True, rtol=1e-4, atol=1e-5)
        for row in range(6):
            alone, _ = lab.attack(attack, classifier, batch.select(torch.tensor([row])))
            torch.testing.assert_close(margins[[row]], alone[name], equal_nan=True, rtol=1e-4, atol=1e-5)
    for name, values in measured.items():
        torch.testing.assert_close(values[order], again[name], equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", LADDERS)
def test_a_level_is_flipped_exactly_where_the_smallest_change_fits(lab, calibrated, norm):
    classifier, images, labels = calibrated(cases=24, seed=4)
    attack = MinimalNorm.from_options({"norm": norm, "levels": LADDERS[norm], "steps": 25})
    margins, measured = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=12))
    smallest = measured["minimal_epsilon", "", "finding-0"]
    healths = [lab.side(labels) * classifier.margins(images).detach()]
    for level in attack.levels:
        flipped = ((margins[level.name] >= 0).float() != labels)[:, 0]
        assert torch.equal(flipped, smallest <= level.value * (1 + 1e-4))
        healths.append(lab.side(labels) * margins[level.name])
    assert (torch.stack(healths).diff(dim=0) <= 1e-6).all()
    assert smallest.isfinite().float().mean() > 0.5
    smaller = [smallest < level.value * 0.95 for level in attack.levels]
    assert torch.stack(smaller).any()


def test_it_finds_what_pgd_finds(lab, calibrated):
    classifier, images, labels = calibrated(cases=32, seed=6)
    batch = lab.batch(images, labels, stored_bits=12)
    names = ["0.5/255", "1/255", "2/255", "4/255"]
    ours, _ = lab.attack(MinimalNorm.from_options({"levels": names}), classifier, batch)
    pgd, _ = lab.attack(PgdLinf.from_options({"levels": names, "steps": 40}), classifier, batch)
    flips = [[((margins[name] >= 0).float() != labels).sum().item() for name in names] for margins in (ours, pgd)]
    assert sum(flips[1]) > 0
    assert all(one >= other - 1 for one, other in zip(*flips, strict=True))


def test_every_plane_is_storable_and_inside_the_largest_level(lab, calibrated):
    classifier, images, labels = calibrated(cases=2)
    spy = lab.SpyQuery(classifier)
    attack = MinimalNorm.from_options({"levels": ["1/255", "3/255"], "steps": 10})
    lab.attack(attack, classifier, lab.batch(images, labels, clean_margins=classifier.margins(images).detach()), spy)
    planes = torch.cat([seen for seen in spy.planes if len(seen) == 2])
    assert len(planes) > 4
    torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)
    assert (planes.reshape(-1, 2, 225) - images.reshape(1, 2, 225)).abs().max() <= 3 / 255 + 1e-6


def test_a_call_that_is_wrong_or_withstands_has_no_smallest_change(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 36), 1e-6), torch.tensor([5.0])), size=(6, 6))
    images = lab.images((2, 1, 6, 6), bits=8)
    attack = MinimalNorm.from_options({"steps": 3})
    margins, measured = lab.attack(attack, classifier, lab.batch(images, torch.tensor([[1.0], [0.0]])))
    assert measured["minimal_epsilon", "", "finding-0"].isnan().all()
    assert (margins["4/255"] > 0).all()


def test_the_price_is_what_an_unbroken_model_costs(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 36), 1e-6), torch.tensor([5.0])), size=(6, 6))
    images = lab.images((3, 1, 6, 6), bits=8)
    batch = lab.batch(images, torch.ones(3, 1), clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = MinimalNorm.from_options({"steps": 4})
    lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l3"}, "norm: expected one of"),
        ({"steps": 0}, "steps"),
        ({"steps": True}, "steps"),
        ({"full_search": ["4/255"]}, "ranks nothing"),
        ({"norm": "l0", "levels": ["1.5"]}, "whole numbers of pixels"),
        ({"norm": "l0", "levels": ["5 HU"]}, "whole numbers of pixels"),
        ({"levels": []}, "above 0"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        MinimalNorm.from_options(options)


def test_levels_say_their_norm():
    said = [str(MinimalNorm.from_options({"norm": norm}).levels[0]) for norm in LADDERS]
    assert said == [
        "1/255 of display range",
        "1/255 RMS of display range",
        "1/255 mean of display range",
        "1 pixels",
    ]
