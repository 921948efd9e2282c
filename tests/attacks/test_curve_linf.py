"""Robustness curves: the answer of a full ladder for a quarter of its gradients, and exact on linear models."""

import math
from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks.curve_linf import LADDER, CurveLinf
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.conditions import Unit
from robustbench_rad.errors import PlanError
from tests.attacks.test_minimal_norm import least

NAMES = tuple(level.name for level in LADDER)


def flips(margins, labels):
    return torch.stack([(margins[name] >= 0).float() != labels for name in NAMES])


@pytest.mark.parametrize("refine", [0, 0.05])
def test_linear_models_are_solved_exactly(lab, refine):
    model = lab.linear(64)
    images = lab.images((320, 1, 8, 8), bits=16, saturated=0.28)
    classifier = lab.classifier(model, size=(8, 8))
    labels = lab.called(classifier, images)
    margins, measured = lab.attack(
        CurveLinf(steps=6, refine=refine), classifier, lab.batch(images, labels, stored_bits=16)
    )
    exact = least("linf", model, images, lab.side(labels))
    assert torch.equal(flips(margins, labels)[..., 0], torch.stack([exact <= level.value for level in LADDER]))
    found = measured["minimal_epsilon", "", "finding-0"].double()
    inside = exact <= 32 / 255
    assert torch.equal(found.isfinite(), inside)
    assert 0.5 < inside.float().mean() < 1
    assert (found[inside] >= exact[inside] - 1e-6).all()
    if refine:
        assert (found[inside] <= exact[inside] * 1.05 + 1.1 / 65535).all()
    else:  # the next level of the ladder
        rungs = torch.tensor([level.value for level in LADDER])
        assert ((found[inside, None] - rungs).abs().amin(1) <= 1 / 65535).all()


@pytest.mark.parametrize(("seed", "scale"), [(3, 1.0), (8, 1.0), (5, 0.2)])
def test_the_curve_of_a_network_is_that_of_the_full_ladder_for_a_quarter_of_the_gradients(lab, calibrated, seed, scale):
    classifier, images, labels = calibrated(cases=40, seed=seed, scale=scale)
    batch = lab.batch(images, labels, stored_bits=12, clean_margins=classifier.margins(images).detach())
    ours, full = lab.SpyQuery(classifier), lab.SpyQuery(classifier)
    curve, _ = lab.attack(CurveLinf(refine=0), classifier, batch, ours)
    rungs = {}
    for name in NAMES:  # as other libraries do it: every level anew, no exit
        one = PgdLinf.from_options({"levels": [name], "random_starts": 0, "full_search": [name]})
        rungs |= lab.attack(one, classifier, batch, full)[0]
    assert torch.equal(flips(curve, labels), flips(rungs, labels))
    assert 0 < flips(curve, labels).float().mean() < 1
    assert full.backwards >= 3.5 * ours.backwards


@pytest.mark.parametrize(("seed", "scale"), [(3, 1.0), (8, 1.0), (5, 0.2)])
def test_refining_costs_less_than_a_full_ladder_and_finds_what_longer_searches_find(
    lab, calibrated, seed, scale, monkeypatch
):
    classifier, images, labels = calibrated(cases=40, seed=seed, scale=scale)
    batch = lab.batch(images, labels, stored_bits=12, clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    _, measured = lab.attack(CurveLinf(), classifier, batch, spy)
    assert 40 * len(NAMES) * 20 >= 3.5 * spy.backwards
    monkeypatch.setattr("robustbench_rad.attacks.curve_linf.REFINING_STEPS", 1.0)
    _, longer = lab.attack(CurveLinf(), classifier, batch)
    ratio = (measured["minimal_epsilon", "", "finding-0"] / longer["minimal_epsilon", "", "finding-0"]).log()
    known = ratio[ratio.isfinite()]
    assert len(known) > 12
    assert known.abs().max() < math.log(1.1)  # the width of two brackets
    assert known.mean() < 0.01


def test_eight_bits_end_at_one_grey_level(lab, calibrated):
    classifier, images, labels = calibrated(cases=24, seed=4)
    margins, measured = lab.attack(CurveLinf(), classifier, lab.batch(images, labels, stored_bits=8))
    assert margins["0.5/255"].isnan().all()
    found = measured["minimal_epsilon", "", "finding-0"] * 255
    known = found[found.isfinite()]
    assert len(known) > 12
    torch.testing.assert_close(known, known.round(), rtol=0, atol=1e-3)
    assert known.min() >= 1
    assert len(known.unique()) > 3  # between the levels of the ladder
    for name in NAMES[2:]:
        flipped = ((margins[name] >= 0).float() != labels)[:, 0]
        assert torch.equal(flipped, found <= float(name.split("/")[0]) + 1e-3)


def test_margins_fall_along_the_ladder(lab, calibrated):
    classifier, images, labels = calibrated(cases=24, seed=4)
    margins, _ = lab.attack(CurveLinf(), classifier, lab.batch(images, labels, stored_bits=12))
    healths = [lab.side(labels) * values for values in (classifier.margins(images).detach(), *margins.values())]
    assert (torch.stack(healths).diff(dim=0) <= 1e-6).all()


def test_order_and_companions_change_nothing(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=6, seed=2)
    labels[0, 0] = torch.nan
    batch = lab.batch(images, labels, stored_bits=12)
    attack = CurveLinf(steps=5)
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


def test_a_flip_never_leaves_its_radius(lab, calibrated):
    classifier, images, labels = calibrated(cases=1)
    spy = lab.SpyQuery(classifier)
    batch = lab.batch(images, labels, stored_bits=12)
    _, measured = lab.attack(CurveLinf(), classifier, batch, spy)
    smallest = measured["minimal_epsilon", "", "finding-0"].item()
    planes = torch.cat(spy.planes)
    stored_image = (images * 4095).round() / 4095
    with torch.no_grad():
        wrong = ((classifier.margins(planes) >= 0).float() != labels)[:, 0]
    distances = (planes - stored_image).abs().flatten(1).amax(1)[wrong]
    assert len(distances)
    assert distances.min().item() == pytest.approx(smallest, rel=1e-3)


def test_sizes_and_noise_are_said_in_the_unit_of_the_levels(lab):
    classifier = lab.classifier(lab.linear(24 * 20), size=(24, 20))
    images = 0.5 + 0.02 * torch.randn((40, 1, 24, 20), generator=torch.Generator().manual_seed(0))
    batch = lab.batch(images, lab.called(classifier, images), stored_bits=12)
    _, plain = lab.attack(CurveLinf(), classifier, batch)
    in_hu = replace(batch, modality="CT", limits=(-1000.0, 1550.0), limits_unit=Unit.HU)
    _, hu = lab.attack(
        CurveLinf.from_options({"levels": [f"{level.value * 2550} HU" for level in LADDER]}), classifier, in_hu
    )
    assert plain["noise_sd", "", ""].median().item() == pytest.approx(0.02, rel=0.1)
    assert plain["minimal_epsilon", "", "finding-0"].isfinite().sum() > 20
    for quantity, finding in (("minimal_epsilon", "finding-0"), ("noise_sd", "")):
        torch.testing.assert_close(
            plain[quantity, "", finding] * 2550, hu[quantity, "", finding], equal_nan=True, rtol=1e-3, atol=0
        )


def test_an_unbroken_model_costs_one_search(lab):
    classifier = lab.classifier(lab.Linear(torch.full((1, 36), 1e-6), torch.tensor([5.0])), size=(6, 6))
    images = lab.images((3, 1, 6, 6), bits=12)
    batch = lab.batch(images, torch.ones(3, 1), stored_bits=12, clean_margins=classifier.margins(images).detach())
    spy = lab.SpyQuery(classifier)
    attack = CurveLinf(refine=0)
    margins, measured = lab.attack(attack, classifier, batch, spy)
    assert sum(len(planes) for planes in spy.planes) + 2 * spy.backwards == 3 * attack.passes(findings=1)
    assert spy.backwards == 3 * 20
    one = attack.passes(findings=1)
    assert 2 * one < CurveLinf().passes(findings=1) < 3 * one  # refined to 5 %: four shorter searches more
    assert measured["minimal_epsilon", "", "finding-0"].isnan().all()
    assert (margins["32/255"] > 0).all()


def test_a_wrong_call_and_an_unknown_label_are_left_alone(lab, calibrated):
    classifier, images, labels = calibrated(cases=4)
    labels[0], labels[1] = 1 - labels[0], torch.nan
    margins, measured = lab.attack(CurveLinf(), classifier, lab.batch(images, labels))
    assert measured["minimal_epsilon", "", "finding-0"].isnan()[:2].all()
    clean = classifier.margins(images).detach()
    torch.testing.assert_close(margins["32/255"][0], clean[0])
    assert margins["32/255"][1].isnan()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"refine": 1}, "refine"),
        ({"refine": -0.1}, "refine"),
        ({"refine": True}, "refine"),
        ({"refine": "fine"}, "refine"),
        ({"full_search": ["1/255"]}, "ranks nothing"),
        ({"levels": ["2/255", "1/255"]}, "from small to large"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        CurveLinf.from_options(options)
