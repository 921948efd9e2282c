"""Every way in which attack libraries were found to be silently wrong, as a test that ours is not.

Heads and labels, saturation, range and pixels, norms, state: the comments say what went wrong elsewhere.
"""

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_rad.attacks.apgd_l2 import ApgdL2
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.minimal_norm import MinimalNorm
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.classifier import Head, untouched
from robustbench_rad.query import CountingQuery

EPSILON = 8 / 255


def level(kind, value="8/255"):
    return {"levels": (kind.level(value),)}


def suite():
    """One of each way of searching, with few steps."""
    return [
        Fgsm(**level(Fgsm)),
        PgdLinf(**level(PgdLinf), steps=8),
        ApgdLinf(**level(ApgdLinf), steps=8),
        PgdL2(**level(PgdL2), steps=8),
        ApgdL2(**level(ApgdL2), steps=8),
        MinimalNorm(**level(MinimalNorm), steps=8),
        SquareLinf(**level(SquareLinf), queries=40),
    ]


GRADIENT = suite()[:6]
by_id = pytest.mark.parametrize("attack", suite(), ids=lambda attack: attack.id)
by_gradient = pytest.mark.parametrize("attack", GRADIENT, ids=lambda attack: attack.id)


def near(lab, module, images, *, findings=1, **options):
    """A classifier of which every call is right and within reach of the attacks."""
    classifier = lab.classifier(module, size=tuple(images.shape[2:]), findings=findings, **options)
    return classifier, lab.called(classifier, images)


def brightness(gain=1.0, after=None):
    class Brightness(nn.Module):
        def forward(self, x):
            z = gain * (x.flatten(1).mean(1) - 0.5)[:, None]
            return after(z) if after else z

    return Brightness()


def films(lab, cases=16, shape=(8, 9)):
    """Films whose mean is one or two grey levels from one half."""
    offset = torch.where(torch.arange(cases) % 2 == 0, -2.0, 2.0) / 255
    noise = lab.images((cases, 1, *shape))
    centred = 0.3 * (noise - noise.flatten(1).mean(1).reshape(-1, *[1] * (noise.ndim - 1)))
    return 0.5 + offset.reshape(-1, *[1] * (noise.ndim - 1)) + centred


def flips(lab, attack, classifier, batch):
    margins, _ = lab.attack(attack, classifier, batch)
    side = lab.side(batch.labels)
    return next(iter(margins.values())) * side


# Heads and labels: with one logit, an integer label of 0 gives a softmax cross-entropy without any gradient, and the attack
# returns the clean image; other libraries attack in one direction only.
@by_id
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_logit_is_attacked_in_both_directions(lab, attack, label):
    images = films(lab)
    classifier, called = near(lab, brightness(), images, head=Head.SINGLE_LOGIT)
    only = torch.where(called == label, called, torch.nan)
    health = flips(lab, attack, classifier, lab.batch(images, only))
    known = ~only.isnan()
    assert known.sum() == 8
    assert (health[known] <= 0).all()


# A squeezed output (N,) read as one distribution over N classes.
@by_id
def test_a_squeezed_output_is_one_logit_per_case(lab, attack):
    images = films(lab)
    classifier, called = near(lab, brightness(after=lambda z: z[:, 0]), images, head=Head.SINGLE_LOGIT)
    plain, _ = near(lab, brightness(), images, head=Head.SINGLE_LOGIT)
    batch = lab.batch(images, called)
    assert torch.equal(flips(lab, attack, classifier, batch), flips(lab, attack, plain, batch))


# Multi-hot labels: a row of zeros ("no finding") gave no perturbation at all.
@by_gradient
def test_a_case_without_any_finding_is_attacked_like_others(lab, attack):
    images = films(lab)[::2]

    class Two(nn.Module):
        def forward(self, x):
            z = (x.flatten(1).mean(1) - 0.5)[:, None]
            return torch.cat([z, 2 * z - 0.001], 1)

    classifier, called = near(lab, Two(), images, findings=2)
    assert not called.any()
    assert (flips(lab, attack, classifier, lab.batch(images, called)) <= 0).all()


def test_unknown_labels_are_no_negatives(lab):
    images = films(lab)
    classifier, _ = near(lab, brightness(), images)
    batch = lab.batch(images, torch.full((16, 1), torch.nan))
    query = lab.SpyQuery(classifier)
    margins, _ = lab.attack(PgdLinf(**level(PgdLinf)), classifier, batch, query)
    assert margins["8/255"].isnan().all()


# Saturation: the gradient of cross-entropy is exactly 0 from z = 16.6 on in float32 (positives), and multiplying logits
# by 100 made models look perfectly robust.
@by_gradient
@pytest.mark.parametrize("gain", [0.01, 100.0, 1e4, 1e6])
def test_the_scale_of_the_logits_hides_nothing(lab, attack, gain):
    images = films(lab)
    plain, called = near(lab, brightness(), images)
    scaled, _ = near(lab, brightness(gain), images)
    batch = lab.batch(images, called)
    health = flips(lab, attack, scaled, batch)
    assert torch.equal(health <= 0, flips(lab, attack, plain, batch) <= 0)
    assert (health <= 0).all()


def test_cross_entropy_would_be_blind_there():
    """The hazard itself: what a margin attack avoids."""
    for z, blind in ((16.0, False), (16.7, True)):
        logit = torch.tensor(z, requires_grad=True)
        nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(1.0)).backward()
        assert (logit.grad == 0) == blind


# CW's margin with negative logits: a constant shift of all logits of a softmax changed the success from 100 % to 0 %.
@by_gradient
@pytest.mark.parametrize("shift", [-50.0, 50.0])
def test_a_shift_of_all_softmax_logits_changes_nothing(lab, attack, shift):
    images = films(lab)

    def four(by):
        def logits(z):
            return torch.cat([-8 * z, 8 * z, -8 * z - 9, -8 * z - 9], 1) + by

        return near(lab, brightness(after=logits), images, head=Head.SOFTMAX, groups=((1,),))[0]

    plain, moved = four(0.0), four(shift)
    called = lab.called(plain, images)
    batch = lab.batch(images, called)
    one, other = flips(lab, attack, plain, batch), flips(lab, attack, moved, batch)
    assert (one <= 0).all()
    torch.testing.assert_close(one, other, atol=5e-4, rtol=0)


# Range and pixels: tanh space never moves pixels of exactly 0 or 1; a body in black air has nothing else.
@by_gradient
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_pixels_at_the_end_of_the_range_can_move(lab, attack, value):
    images = torch.full((4, 1, 6, 7), value)
    sign = -1.0 if value else 1.0

    class Evidence(nn.Module):
        def forward(self, x):
            return (sign * (x - value).flatten(1).sum(1) - 0.2)[:, None]

    classifier, called = near(lab, Evidence(), images)
    assert not called.any()
    assert (flips(lab, attack, classifier, lab.batch(images, called)) <= 0).all()


# Standardised or HU input clamped to [0, 1] moved by thousands of units: ours work before normalisation.
@by_id
def test_no_plane_leaves_the_range_or_the_budget(lab, attack):
    images = films(lab)
    classifier, called = near(lab, brightness(), images)
    query = lab.SpyQuery(classifier)
    lab.attack(attack, classifier, lab.batch(images, called, stored_bits=16), query)
    for planes in query.planes:
        assert planes.min() >= 0
        assert planes.max() <= 1
        nearest = (planes[:, None] - images[None]).flatten(2).abs().amax(2).amin(1)
        if attack.threat.norm == "linf":
            assert nearest.max() <= EPSILON + 1e-4


# N = C = 2 volumes: a norm over the wrong axes broke the budget (0.562 > 0.5).
@pytest.mark.parametrize("kind", [PgdL2, ApgdL2])
@pytest.mark.parametrize("shape", [(2, 1, 2, 2, 2), (2, 1, 2, 5, 3), (1, 1, 1, 4, 4)])
def test_the_l2_budget_of_small_volumes_is_kept_row_by_row(lab, kind, shape):
    images = lab.images(shape, bits=8)
    weight = torch.randn(1, images[0].numel(), generator=torch.Generator().manual_seed(1))
    module = lab.Linear(weight, torch.zeros(1))
    classifier = lab.classifier(module, size=shape[2:])
    query = lab.SpyQuery(classifier)
    batch = lab.batch(images, lab.called(classifier, images), stored_bits=16)
    lab.attack(kind(**level(kind, 0.1), full_search=("0.1",), steps=6), classifier, batch, query)
    for planes in query.planes:
        change = (planes[:, None] - images[None]).flatten(2).square().mean(2).sqrt().amin(1)
        assert change.max() <= 0.1 * (1 + 1e-4)


# The last plane of a path is not its best: successes on the way were lost.
def test_a_flip_on_the_way_counts_although_the_last_plane_is_right_again(lab):
    class Valley(nn.Module):
        def forward(self, x):
            bright = x.flatten(1).mean(1)
            return ((bright - 0.485).abs() - 0.004)[:, None]  # wrong only within 0.004 of 0.485

    images = torch.full((1, 1, 6, 6), 128 / 255)
    classifier, called = near(lab, Valley(), images)
    assert called.all()
    attack = PgdLinf(**level(PgdLinf, "16/255"), full_search=("16/255",), steps=20, step_rule="constant")
    assert flips(lab, attack, classifier, lab.batch(images, called)).item() < 0


# Distances beyond the radius counted as success in minimum-norm attacks.
def test_a_flip_beyond_the_radius_is_no_flip(lab):
    images = films(lab)
    classifier, called = near(lab, brightness(), images)
    health = flips(lab, MinimalNorm(**level(MinimalNorm, "1/255")), classifier, lab.batch(images, called))
    assert (health > 0).all()


# CW depended on its companions in the batch.
@by_id
def test_companions_change_nothing(lab, calibrated, attack):
    classifier, images, called = calibrated(cases=8)
    whole = flips(lab, attack, classifier, lab.batch(images, called))
    batch = lab.batch(images, called)
    alone = torch.cat([flips(lab, attack, classifier, batch.select(torch.tensor([row]))) for row in range(len(images))])
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-5)


# State: seeds reset, tracers removed, modes changed, statistics of batch normalisation learned from attacked images.
@by_id
def test_random_states_and_the_tracer_are_left_alone(lab, calibrated, attack):
    classifier, images, called = calibrated()
    batch = lab.batch(images, called)
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    before, calls = sys.gettrace(), []

    def tracer(*event):
        calls.append(event)

    sys.settrace(tracer)
    try:
        lab.attack(attack, classifier, batch)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()


@by_id
@pytest.mark.parametrize("training", [True, False])
def test_modes_statistics_gradients_and_weights_are_as_before(lab, calibrated, attack, training):
    classifier, images, called = calibrated()
    module = classifier.module.train(training)
    module[1].eval()  # a frozen normalisation inside a model in training mode
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [child.training for child in module.modules()]
    with untouched(module):
        lab.attack(attack, classifier, lab.batch(images, called))
    assert [child.training for child in module.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert all(parameter.grad is None for parameter in list(module.parameters())[1:])


@by_id
def test_modes_are_restored_when_the_model_raises_in_the_middle(lab, calibrated, attack):
    classifier, images, called = calibrated()
    module = classifier.module.train()
    asked = []

    def breaks(_module, _inputs):
        asked.append(1)
        if len(asked) > 2:
            raise RuntimeError("out of order")

    batch = lab.batch(images, called)
    handle = module.register_forward_pre_hook(breaks)
    statistics = module[1].running_mean.clone()

    def attacked():
        with untouched(module):
            list(attack.apply(batch, CountingQuery(classifier), None).variants)
            breaks(None, None)  # for one that asks no more than twice

    asked.append(1)
    with pytest.raises(RuntimeError, match="out of order"):
        attacked()
    handle.remove()
    assert module.training
    assert all(child.training for child in module.modules())
    assert torch.equal(module[1].running_mean, statistics)


# A window or a step that cannot reach the last row and column (Square elsewhere), colour kernels, square images only.
@by_id
def test_evidence_in_the_last_row_and_column_of_a_narrow_image_is_found(lab, attack):
    images = torch.full((2, 1, 3, 11), 0.5)

    class Corner(nn.Module):
        def forward(self, x):
            return (x[:, 0, -1, -1] - 0.5 - 0.01)[:, None] * 40

    classifier, called = near(lab, Corner(), images)
    health = flips(lab, attack, classifier, lab.batch(images, called, stored_bits=12))
    assert not called.any()
    assert (health <= 0).all()


# Results that differ from re-evaluating the returned image.
@by_id
def test_every_margin_is_that_of_a_plane_the_model_was_shown(lab, calibrated, attack):
    classifier, images, called = calibrated()
    query = lab.SpyQuery(classifier)
    margins, _ = lab.attack(attack, classifier, lab.batch(images, called), query)
    planes = torch.cat(query.planes)
    with torch.no_grad():
        shown = classifier.margins(planes)[:, 0]
    for margin in next(iter(margins.values()))[:, 0]:
        assert (shown - margin).abs().min() < 1e-5


# The same attack twice: accumulators, caches and seeds made the second answer another one.
@by_id
def test_the_second_run_gives_the_first_answer(lab, calibrated, attack):
    classifier, images, called = calibrated()
    batch = lab.batch(images, called)
    first = flips(lab, attack, classifier, batch)
    torch.manual_seed(12345)
    assert torch.equal(first, flips(lab, attack, classifier, batch))
