"""Equality with other libraries where they are right: an unsaturated model, two logits, display space, no random start."""

import pytest
import torch
from torch import nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf

RADIUS, STEPS = 8 / 255, 10
CAPTUM_SPEAKS = pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")
FINE = 24  # bits: rounding stays below 1e-7, so that planes can be compared


class TwoLogits(nn.Module):
    """``[0, z]``: what a softmax attack needs to see of a one-logit model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        z = self.inner(images)
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.fixture(scope="module")
def case(calibrated):
    return calibrated(cases=8, seed=4, act=nn.Tanh)


def our_last_planes(lab, attack, classifier, images, labels):
    spy = lab.SpyQuery(classifier)
    with torch.no_grad():
        clean = classifier.margins(images)
    lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=FINE, clean_margins=clean), spy)
    return spy.planes[-1]


def our_pgd():
    return PgdLinf(levels=ladder("8/255"), steps=STEPS, random_starts=0, step_rule="constant", full_search=("8/255",))


def our_fgsm():
    return Fgsm(levels=ladder("8/255"), full_search=("8/255",))


def test_pgd_equals_torchattacks(lab, case):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    classifier, images, labels = case
    theirs = torchattacks.PGD(
        TwoLogits(classifier.module).eval(), eps=RADIUS, alpha=RADIUS / 4, steps=STEPS, random_start=False
    )(images, labels[:, 0].long())
    ours = our_last_planes(lab, our_pgd(), classifier, images, labels)
    assert (theirs - images).abs().max() > RADIUS / 2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_fgsm_equals_torchattacks(lab, case):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    classifier, images, labels = case
    theirs = torchattacks.FGSM(TwoLogits(classifier.module).eval(), eps=RADIUS)(images, labels[:, 0].long())
    ours = our_last_planes(lab, our_fgsm(), classifier, images, labels)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def per_row(outputs, target):
    """Cross-entropy per row, as captum sums it itself."""
    return nn.functional.cross_entropy(outputs, target, reduction="none")


@CAPTUM_SPEAKS
def test_pgd_equals_captum(lab, case):
    from captum.robust import PGD

    classifier, images, labels = case
    attack = PGD(TwoLogits(classifier.module).eval(), per_row, lower_bound=0.0, upper_bound=1.0)
    attack.fgsm.zero_thresh = 0.0  # captum leaves pixels alone whose gradient is below 1e-6
    theirs = attack.perturb(
        images.clone(),
        radius=RADIUS,
        step_size=RADIUS / 4,
        step_num=STEPS,
        target=labels[:, 0].long(),
        random_start=False,
    )
    ours = our_last_planes(lab, our_pgd(), classifier, images, labels)
    assert (theirs - images).abs().max() > RADIUS / 2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@CAPTUM_SPEAKS
def test_fgsm_equals_captum(lab, case):
    from captum.robust import FGSM

    classifier, images, labels = case
    attack = FGSM(TwoLogits(classifier.module).eval(), per_row, lower_bound=0.0, upper_bound=1.0)
    attack.zero_thresh = 0.0  # captum leaves pixels alone whose gradient is below 1e-6
    theirs = attack.perturb(images.clone(), epsilon=RADIUS, target=labels[:, 0].long())
    ours = our_last_planes(lab, our_fgsm(), classifier, images, labels)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_where_torchattacks_is_blind_we_are_not(lab, case):
    """One logit, label 0: cross-entropy over a single class has no gradient, and the model looks robust."""
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks==3.5.1")
    classifier, images, _ = case
    absent = torch.zeros(len(images), 1)
    theirs = torchattacks.PGD(classifier.module, eps=RADIUS, alpha=RADIUS / 4, steps=5, random_start=False)
    assert torch.equal(theirs(images, absent[:, 0].long()), images)
    ours = our_last_planes(lab, our_pgd(), classifier, images, absent)
    assert (ours - images).abs().max() > RADIUS / 2
