"""Heads, labels and the hazards that make other attacks report a robust model."""

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.classifier import Head


class TwoLogits(nn.Module):
    """``[0, z]`` of a one-logit model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        z = self.inner(images)
        return torch.cat([torch.zeros_like(z), z], 1)


class Then(nn.Module):
    """A model with something after it."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner = inner
        self.function = function

    def forward(self, images):
        return self.function(self.inner(images))


def full(attack_class, *names, **options):
    return attack_class(levels=ladder(*names), full_search=names, **options)


@pytest.mark.parametrize("head", ["one-logit", "multi-label", "softmax-classes", "softmax-group"])
def test_both_directions_on_every_head(lab, attack_class, calibrated, head):
    classifier, images, _ = calibrated(findings=4)
    module, size = classifier.module, (15, 15)
    if head == "one-logit":
        first = Then(module, lambda outputs: outputs[:, :1])
        classifier = lab.classifier(first, size=size, head=Head.SINGLE_LOGIT)
    elif head == "softmax-classes":
        options = {"groups": ((0,), (1,), (2,)), "thresholds": (float("nan"),) * 3}
        classifier = lab.classifier(module, size=size, findings=3, head=Head.SOFTMAX, **options)
    elif head == "softmax-group":
        options = {"groups": ((1, 2), (3,)), "thresholds": (0.5, 0.25)}
        classifier = lab.classifier(module, size=size, findings=2, head=Head.SOFTMAX, **options)
    with torch.no_grad():
        clean = classifier.margins(images)
    for value in (0.0, 1.0):
        labels = torch.full_like(clean, value)
        margins, _ = lab.attack(full(attack_class, "2/255"), classifier, lab.batch(images, labels))
        lowered = lab.side(labels) * (clean - margins["2/255"])
        assert (lowered > 1e-4).all()


def test_one_logit_is_two_logits_is_one_label(lab, attack_class, calibrated):
    classifier, images, labels = calibrated()
    module, size = classifier.module, (15, 15)
    two = {"head": Head.SOFTMAX, "groups": ((1,),), "thresholds": (0.5,)}
    softmax = lab.classifier(TwoLogits(module), size=size, **two)
    object.__setattr__(softmax.head, "classes", 2)
    one = lab.classifier(module, size=size, head=Head.SINGLE_LOGIT)
    batch = lab.batch(images, labels)
    attack = attack_class(levels=ladder("1/255", "2/255"), full_search=("2/255",))
    reference, _ = lab.attack(attack, classifier, batch)
    for other in (softmax, one):
        margins, _ = lab.attack(attack, other, batch)
        for name in reference:
            torch.testing.assert_close(margins[name], reference[name], rtol=1e-4, atol=1e-5)


def test_the_threshold_decides_what_is_attacked(lab, attack_class):
    model = lab.linear(36)
    images = lab.images((40, 1, 6, 6), bits=8)
    sensitive = lab.classifier(model, size=(6, 6), thresholds=(0.2,))
    labels = lab.called(sensitive, images)
    assert not torch.equal(labels, lab.called(lab.classifier(model, size=(6, 6)), images))
    margins, _ = lab.attack(attack_class(levels=ladder("4/255")), sensitive, lab.batch(images, labels))
    flipped = (margins["4/255"] >= 0).float() != labels
    with torch.no_grad():
        clean = sensitive.margins(images)
    assert flipped.any()
    assert torch.equal(flipped, clean.abs() <= (clean - margins["4/255"]).abs())


def test_unknown_labels_are_never_attacked(lab, attack_class, calibrated):
    classifier, images, labels = calibrated(findings=2)
    spy = lab.SpyQuery(classifier)
    with torch.no_grad():
        clean = classifier.margins(images)
    batch = lab.batch(images, torch.full_like(labels, torch.nan), clean_margins=clean)
    margins, measured = lab.attack(full(attack_class, "1/255"), classifier, batch, spy)
    assert margins["1/255"].isnan().all()
    assert all(values.isnan().all() for values in measured.values())
    assert spy.planes == []


def test_a_case_already_wrong_keeps_its_margin_and_costs_nothing(lab, attack_class, calibrated):
    classifier, images, labels = calibrated()
    spy = lab.SpyQuery(classifier)
    with torch.no_grad():
        clean = classifier.margins(images)
    batch = lab.batch(images, 1 - labels, clean_margins=clean)
    margins, _ = lab.attack(attack_class(levels=ladder("4/255")), classifier, batch, spy)
    assert torch.equal(margins["4/255"], clean)
    assert spy.planes == []


def test_a_level_to_the_flip_keeps_wrong_cases_beside_a_full_one(lab, attack_class, calibrated):
    classifier, images, labels = calibrated()
    images = (images + 0.3 / 255).clamp(0, 1)  # off the grid: rounding alone moves every margin
    labels = lab.called(classifier, images)
    with torch.no_grad():
        clean = classifier.margins(images)
    attack = attack_class(levels=ladder("1/255", "2/255"), full_search=("2/255",))
    margins, _ = lab.attack(attack, classifier, lab.batch(images, 1 - labels))
    assert torch.equal(margins["1/255"], clean)
    assert (lab.side(1 - labels) * (clean - margins["2/255"]) > 0).all()


def test_saturated_logits_hide_nothing(lab, attack_class, calibrated):
    classifier, images, labels = calibrated()
    hot, _, _ = calibrated(scale=10_000.0)
    attack = attack_class(levels=ladder("2/255"))
    batch = lab.batch(images, labels)
    plain, _ = lab.attack(attack, classifier, batch)
    saturated, measured = lab.attack(attack, hot, batch)
    assert hot.margins(images).abs().max() > 100  # cross-entropy has no gradient there
    assert ((plain["2/255"] >= 0).float() != labels).any()
    assert torch.equal(saturated["2/255"] >= 0, plain["2/255"] >= 0)
    assert (measured["zero_gradient", "", "finding-0"] == 0).all()


def test_a_finding_may_depend_on_pixels_at_the_edge_of_the_box(lab, attack_class):
    classifier = lab.classifier(lab.Linear(torch.ones(1, 16), torch.tensor([-0.01])), size=(4, 4))
    batch = lab.batch(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1))
    margins, _ = lab.attack(attack_class(levels=ladder("1/255")), classifier, batch)
    assert margins["1/255"].item() == pytest.approx(16 / 255 - 0.01)


@pytest.mark.parametrize(
    "cut",
    [lambda z: z.round(), lambda z: 0.0 * z + z.detach(), lambda z: z + 0 * (z - z.detach()).abs().sqrt()],
    ids=["rounded", "zero", "nan"],
)
def test_masked_gradients_are_reported(lab, attack_class, calibrated, cut):
    classifier, images, _ = calibrated(scale=50.0)
    masked = lab.classifier(Then(classifier.module, cut), size=(15, 15))
    labels = lab.called(masked, images)
    attack = attack_class(levels=ladder("1/255"))
    _, measured = lab.attack(attack, masked, lab.batch(images, labels))
    assert (measured["zero_gradient", "", "finding-0"] == 1).all()
    _, measured = lab.attack(attack, classifier, lab.batch(images, lab.called(classifier, images)))
    assert (measured["zero_gradient", "", "finding-0"] == 0).all()


def test_a_flat_start_is_left_by_random_starts(lab):
    # The logit falls only where w . (x - x0) exceeds 1e-3; at x0 the gradient is exactly zero.
    weight = torch.ones(1, 36) / 36
    cliff = Then(lab.Linear(weight, torch.tensor([-0.5])), lambda z: 1.0 - 1e4 * torch.relu(z - 1e-4))
    classifier = lab.classifier(cliff, size=(6, 6))
    batch = lab.batch(torch.full((4, 1, 6, 6), 0.5), torch.ones(4, 1), stored_bits=16)
    stuck, measured = lab.attack(PgdLinf(levels=ladder("8/255"), random_starts=0), classifier, batch)
    assert (stuck["8/255"] > 0).all()
    assert (measured["zero_gradient", "", "finding-0"] == 1).all()
    found, measured = lab.attack(PgdLinf(levels=ladder("8/255"), random_starts=8), classifier, batch)
    assert (found["8/255"] < 0).all()
    assert (measured["steps_to_flip", "8/255", "finding-0"] > 20).all()  # all steps of the first start were in vain


@pytest.mark.parametrize("hole", [float("nan"), float("inf"), float("-inf")])
def test_a_plane_without_a_finite_margin_is_no_flip_and_no_pass(lab, attack_class, hole):
    def broken(z):
        return z + torch.where(z < 0.01, hole, 0.0).detach()

    classifier = lab.classifier(Then(lab.Linear(torch.ones(1, 16), torch.tensor([-8.0])), broken), size=(4, 4))
    batch = lab.batch(torch.full((1, 1, 4, 4), 0.51), torch.ones(1, 1))
    margins, measured = lab.attack(attack_class(levels=ladder("1/255", "8/255")), classifier, batch)
    assert margins["1/255"].item() > 0  # not far enough to meet the hole
    assert margins["8/255"].isnan().all()
    assert measured["non_finite_margin", "", "finding-0"].item() == 1


def test_storing_alone_may_flip_and_is_said(lab, attack_class):
    classifier = lab.classifier(lab.Linear(torch.ones(1, 16), torch.tensor([-16 * 100.4 / 255])), size=(4, 4))
    batch = lab.batch(torch.full((1, 1, 4, 4), 100.45 / 255), torch.ones(1, 1))  # stored as 100
    margins, measured = lab.attack(attack_class(levels=ladder("1/255")), classifier, batch)
    assert measured["flipped_by_rounding", "", "finding-0"].item() == 1
    assert margins["1/255"].item() == pytest.approx(-16 * 0.4 / 255, abs=1e-5)
