"""Laws that hold whatever the model: what changes no decision changes no answer, and more search never finds less."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.noise import Noise
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.square_linf import SquareLinf
from robustbench_rad.attacks.worst_case_linf import WorstCaseLinf
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Unit

ATTACKS = {
    "fgsm": lambda epsilon: Fgsm(levels=ladder(epsilon), full_search=(epsilon,)),
    "pgd": lambda epsilon: PgdLinf(levels=ladder(epsilon), full_search=(epsilon,), steps=5, random_starts=1),
    "apgd": lambda epsilon: ApgdLinf(levels=ladder(epsilon), full_search=(epsilon,), steps=6),
    "square": lambda epsilon: SquareLinf(levels=ladder(epsilon), full_search=(epsilon,), queries=12),
    "noise": lambda epsilon: Noise(levels=ladder(epsilon), full_search=(epsilon,), draws=8),
}
every = pytest.mark.parametrize("name", ATTACKS)
some = settings(max_examples=6, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)
epsilons = st.sampled_from(["1/255", "3/255", "9/255"])


def worst(lab, attack, classifier, batch):
    margins, _ = lab.attack(attack, classifier, batch)
    return torch.stack(list(margins.values()))


class Heads(nn.Module):
    """One curved logit ``z`` in other clothes: ``[z]``, ``[0, z]``, a scaled or a shifted one."""

    def __init__(self, pixels, seed, dress=None):
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(pixels, 7, generator=source) / pixels**0.5)
        self.second = nn.Parameter(torch.randn(7, generator=source))
        self.offset = nn.Parameter(torch.zeros(()))
        self.dress = dress

    def forward(self, images):
        z = (torch.tanh(3 * (images.flatten(1) @ self.first)) @ self.second - self.offset)[:, None]
        return self.dress(z) if self.dress else z


def scene(lab, seed, dress=None, *, head=Head.SINGLE_LOGIT, shape=(6, 5)):
    """Model and images of random weights, calls on both sides of the boundary."""
    images = lab.images((8, 1, *shape), seed=seed, bits=8)
    module = Heads(images[0].numel(), seed)
    with torch.no_grad():
        module.offset += module(images).median() + 1e-4
    labels = (module(images).detach() >= 0).float()
    module.dress = dress
    two = {"classes": 2, "groups": ((1,),)} if head is Head.SOFTMAX else {}
    spec = HeadSpec(kind=head, outputs=Outputs.LOGITS, findings=("finding-0",), thresholds=(0.5,), **two)
    model = Classifier(module=module.eval(), input=InputSpec(size=shape), head=spec)
    return model, lab.batch(images, labels)


@every
@some
@given(seed=seeds, epsilon=epsilons)
def test_one_logit_is_two_logits_is_one_label(lab, name, seed, epsilon):
    attack = ATTACKS[name](epsilon)
    one, batch = scene(lab, seed)
    two, _ = scene(lab, seed, lambda z: torch.cat([torch.zeros_like(z), z], 1), head=Head.SOFTMAX)
    label, _ = scene(lab, seed, head=Head.SIGMOID)
    reference = worst(lab, attack, one, batch)
    torch.testing.assert_close(worst(lab, attack, label, batch), reference, rtol=0, atol=0)
    torch.testing.assert_close(worst(lab, attack, two, batch), reference, rtol=1e-4, atol=1e-5)


@every
@some
@given(seed=seeds, epsilon=epsilons, power=st.integers(-6, 12))
def test_the_scale_of_the_logits_scales_the_answer_and_nothing_else(lab, name, seed, epsilon, power):
    attack, factor = ATTACKS[name](epsilon), 2.0**power
    plain, batch = scene(lab, seed)
    hot, _ = scene(lab, seed, lambda z: factor * z)
    torch.testing.assert_close(worst(lab, attack, hot, batch), factor * worst(lab, attack, plain, batch))


@every
@some
@given(seed=seeds, epsilon=epsilons, shift=st.floats(-60, 60))
def test_a_shift_of_all_softmax_logits_changes_no_decision(lab, name, seed, epsilon, shift):
    attack = ATTACKS[name](epsilon)
    plain, batch = scene(lab, seed, lambda z: torch.cat([torch.zeros_like(z), z], 1), head=Head.SOFTMAX)
    moved, _ = scene(lab, seed, lambda z: torch.cat([torch.zeros_like(z), z], 1) + shift, head=Head.SOFTMAX)
    here, there = worst(lab, attack, plain, batch), worst(lab, attack, moved, batch)
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


@every
@some
@given(seed=seeds, epsilon=epsilons)
def test_a_grey_plane_is_three_tied_channels(lab, name, seed, epsilon):
    attack = ATTACKS[name](epsilon)
    grey, batch = scene(lab, seed)
    colour = lab.classifier(Tied(grey.module), size=(6, 5), head=Head.SINGLE_LOGIT, channels=3)
    torch.testing.assert_close(worst(lab, attack, colour, batch), worst(lab, attack, grey, batch), rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """Reads three channels with weights that add up to one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(0.5 * images[:, :1] + 0.25 * images[:, 1:2] + 0.25 * images[:, 2:])


@every
@some
@given(seed=seeds, hu=st.sampled_from([5, 12, 40]), width=st.sampled_from([255.0, 510.0, 1275.0]))
def test_a_level_in_hu_is_that_share_of_the_window(lab, name, seed, hu, width):
    classifier, batch = scene(lab, seed)
    ct = replace(batch, limits=(-160.0, width - 160.0), limits_unit=Unit.HU, modality="CT", stored_bits=12)
    share = replace(ct, limits=(0.0, 1.0), limits_unit=None, modality="DX")
    in_hu, of_range = ATTACKS[name](f"{hu} HU"), ATTACKS[name](f"{hu}/{int(width)}")
    torch.testing.assert_close(worst(lab, in_hu, classifier, ct), worst(lab, of_range, classifier, share))


@some
@given(seed=seeds, epsilon=epsilons, full=st.booleans())
def test_the_worst_of_several_is_never_milder_than_any(lab, seed, epsilon, full):
    classifier, batch = scene(lab, seed)
    search = (epsilon,) if full else ()
    members = ({"id": "attack.pgd-linf", "steps": 4}, "attack.fgsm", {"id": "attack.square-linf", "queries": 10})
    shared = {"levels": ladder(epsilon), "full_search": search}
    together = worst(lab, WorstCaseLinf(attacks=members, **shared), classifier, batch)[0]
    alone = [PgdLinf(steps=4, **shared), Fgsm(**shared), SquareLinf(queries=10, **shared)]
    for attack in alone:
        one = worst(lab, attack, classifier, batch)[0]
        if full:
            assert (lab.side(batch.labels) * (together - one) <= 1e-5).all()
        assert (((together >= 0).float() != batch.labels) | ((one >= 0).float() == batch.labels)).all()


@some
@given(seed=seeds, epsilon=epsilons)
def test_an_attack_finds_what_noise_and_one_step_find(lab, seed, epsilon):
    classifier, batch = scene(lab, seed)
    side = lab.side(batch.labels)
    strong = PgdLinf(levels=ladder(epsilon), full_search=(epsilon,), steps=20, random_starts=2)
    attacked = worst(lab, strong, classifier, batch) * side
    assert (attacked <= worst(lab, ATTACKS["noise"](epsilon), classifier, batch) * side + 1e-4).all()
    assert (attacked <= worst(lab, ATTACKS["fgsm"](epsilon), classifier, batch) * side + 1e-6).all()


@some
@given(seed=seeds)
def test_more_steps_more_starts_and_more_room_never_find_less(lab, seed):
    classifier, batch = scene(lab, seed)
    side, names = lab.side(batch.labels), ("1/255", "3/255", "9/255")
    short = PgdLinf(levels=ladder(*names), full_search=names, steps=4, random_starts=0)
    healths = worst(lab, short, classifier, batch) * side
    assert (healths.diff(dim=0) <= 1e-6).all()
    flips = [
        ((worst(lab, replace(short, full_search=(), **more), classifier, batch) >= 0).float() != batch.labels)
        for more in ({}, {"random_starts": 1}, {"random_starts": 3})
    ]
    assert (flips[1] | ~flips[0]).all()
    assert (flips[2] | ~flips[1]).all()


@pytest.mark.parametrize("kind", [PgdLinf, PgdL2, ApgdLinf])
@some
@given(seed=seeds)
def test_in_the_whole_box_every_call_of_a_linear_model_flips(lab, kind, seed):
    model = lab.linear(30, seed=seed)
    classifier = lab.classifier(model, size=(6, 5))
    images = lab.images((12, 1, 6, 5), seed=seed, bits=8)
    batch = lab.batch(images, lab.called(classifier, images))
    margins, _ = lab.attack(kind.from_options({"levels": [1]}), classifier, batch)
    assert ((margins["1"] >= 0).float() != batch.labels).all()
