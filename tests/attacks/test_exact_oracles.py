"""Linear models, for which the worst plane is known in closed form.

For ``f = w . x + b``, side ``s`` and the box [0, 1], the worst margin within the radius is
``s f - sum |w_i| min(eps, room_i)`` with ``room_i`` the distance to the edge in the harmful direction.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.attacks._threat import stored
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.pgd_linf import PgdLinf

LADDER = ("1/255", "2/255", "4/255", "8/255")


def boxed_worst(model, images, side, eps):
    """``(N, K)`` worst margins, in float64."""
    x, w = images.flatten(1).double()[:, None], model.weight.double()[None]
    down = side.double()[..., None] * w > 0
    room = torch.where(down, x, 1 - x).clamp(max=eps)
    clean = (x * w).sum(-1) + model.bias.double()
    return clean - side.double() * (w.abs() * room).sum(-1)


def storable_worst(model, images, side, levels, bits):
    """``(N, K)`` worst margins over planes of whole grey levels at most ``levels`` from the stored original."""
    top = 2**bits - 1
    grey, w = (images.flatten(1) * top).round()[:, None], model.weight.double()[None]
    worst = (grey - levels * torch.sign(side.double()[..., None] * w)).clamp(0, top) / top
    return (worst.double() * w).sum(-1) + model.bias.double()


@pytest.mark.parametrize("full", [False, True], ids=["to-the-flip", "full-search"])
def test_robust_exactly_where_the_box_form_says(lab, attack_class, full):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), bits=16, saturated=0.28)
    labels = lab.called(classifier, images)
    attack = attack_class(levels=ladder(*LADDER), full_search=LADDER if full else ())
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    rates = []
    for level in attack.levels:
        worst = boxed_worst(model, images, lab.side(labels), level.value)
        flipped = (worst >= 0).float() != labels
        assert torch.equal((margins[level.name] >= 0).float() != labels, flipped)
        rates.append(flipped.float().mean().item())
        if full:
            torch.testing.assert_close(margins[level.name], worst.float(), rtol=1e-4, atol=1e-4)
    assert 0 < rates[0] < rates[-1]  # the ladder crosses the decision, so the comparison above says something


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_few_steps_and_random_starts_still_reach_the_corner(lab, steps):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((20, 1, 8, 8), bits=16)
    labels = lab.called(classifier, images)
    attack = PgdLinf(levels=ladder("4/255"), steps=steps, random_starts=2, full_search=("4/255",))
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    worst = boxed_worst(model, images, lab.side(labels), 4 / 255)
    torch.testing.assert_close(margins["4/255"], worst.float(), rtol=1e-4, atol=1e-4)


def test_constant_steps_reach_the_corner_in_four(lab):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((20, 1, 8, 8), bits=16)
    labels = lab.called(classifier, images)
    attack = PgdLinf(levels=ladder("4/255"), steps=4, random_starts=0, step_rule="constant", full_search=("4/255",))
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=16))
    worst = boxed_worst(model, images, lab.side(labels), 4 / 255)
    torch.testing.assert_close(margins["4/255"], worst.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("epsilon", "levels"), [("1/255", 1), ("1.5/255", 1), ("3/255", 3)])
def test_rounding_to_eight_bits_gives_the_exact_integer_answer(lab, attack_class, epsilon, levels):
    model = lab.linear(64)
    classifier = lab.classifier(model, size=(8, 8))
    images = lab.images((300, 1, 8, 8), saturated=0.1)  # not on the grid: as after resizing
    labels = lab.called(classifier, images)
    attack = attack_class(levels=ladder(epsilon), full_search=(epsilon,))
    margins, _ = lab.attack(attack, classifier, lab.batch(images, labels, stored_bits=8))
    worst = storable_worst(model, images, lab.side(labels), levels, 8)
    torch.testing.assert_close(margins[epsilon], worst.float(), rtol=1e-4, atol=1e-4)
    naive = boxed_worst(model, images, lab.side(labels), levels / 255)
    assert (naive - worst).abs().max() > 0.01  # rounding matters here


@settings(max_examples=40, deadline=None)
@given(bits=st.integers(2, 8), levels=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_any_depth_gives_the_exact_integer_answer(lab, bits, levels, seed):
    model = lab.linear(12, findings=2, seed=seed)
    classifier = lab.classifier(model, size=(3, 4), findings=2)
    images = lab.images((4, 1, 3, 4), seed=seed)
    labels = (lab.images((4, 2), seed=seed + 1) > 0.5).float()
    epsilon = levels / (2**bits - 1)
    attack = Fgsm(levels=ladder(epsilon), full_search=(str(epsilon),))
    batch = lab.batch(images, labels, stored_bits=bits)
    (margins,) = lab.attack(attack, classifier, batch)[0].values()
    clean = classifier.margins(images).detach()
    worst = storable_worst(model, images, lab.side(labels), levels, bits).float()
    expected = lab.side(labels) * torch.minimum(lab.side(labels) * clean, lab.side(labels) * worst)
    torch.testing.assert_close(margins, expected, rtol=1e-4, atol=1e-4)


def test_below_one_grey_level_is_not_applicable(lab, attack_class):
    classifier = lab.classifier(lab.linear(64), size=(8, 8))
    images = lab.images((3, 1, 8, 8))
    attack = attack_class(levels=ladder("0.5/255", "1/255"))
    batch = lab.batch(images, lab.called(classifier, images), stored_bits=8)
    small, whole = attack.apply(batch, lab.SpyQuery(classifier), None).variants
    assert not small.applicable.any()
    assert small.margins.isnan().all()
    assert "less than one grey level" in small.reason
    assert whole.applicable.all()
    assert whole.margins.isfinite().all()


def test_volumes_give_the_answer_of_their_flattened_planes(lab, attack_class):
    model = lab.linear(60, findings=2)
    volumes = lab.images((5, 1, 3, 4, 5), bits=8)
    labels = (lab.images((5, 2), seed=1) > 0.5).float()
    attack = attack_class(levels=ladder("1/255", "2/255"), full_search=("2/255",))
    three_d, _ = lab.attack(attack, lab.classifier(model, size=(3, 4, 5), findings=2), lab.batch(volumes, labels))
    flat = lab.classifier(model, size=(6, 10), findings=2)
    two_d, _ = lab.attack(attack, flat, lab.batch(volumes.reshape(5, 1, 6, 10), labels))
    for name, margins in three_d.items():
        torch.testing.assert_close(margins, two_d[name])


def test_the_grey_plane_is_one_plane_for_a_colour_network(lab, attack_class):
    weight = torch.randn(1, 3 * 36, generator=torch.Generator().manual_seed(3))
    tied = weight.reshape(1, 3, 36).sum(1)
    bias = -0.5 * tied.sum(1)
    images = lab.images((20, 1, 6, 6), bits=8)
    colour = lab.classifier(lab.Linear(weight, bias), size=(6, 6), channels=3)
    grey = lab.classifier(lab.Linear(tied, bias), size=(6, 6))
    batch = lab.batch(images, lab.called(grey, images))
    attack = attack_class(levels=ladder("2/255"), full_search=("2/255",))
    spy = lab.SpyQuery(colour)
    of_colour, _ = lab.attack(attack, colour, batch, spy)
    of_grey, _ = lab.attack(attack, grey, batch)
    torch.testing.assert_close(of_colour["2/255"], of_grey["2/255"], rtol=1e-4, atol=1e-4)
    assert {planes.shape[1] for planes in spy.planes} == {1}


def test_no_plane_leaves_the_ball_the_box_or_the_grid(lab, attack_class, calibrated):
    classifier, images, labels = calibrated(cases=1)
    images = (images + 0.3 / 255).clamp(0, 1)
    spy = lab.SpyQuery(classifier)
    attack = attack_class(levels=ladder("1/255", "3/255"), full_search=("1/255", "3/255"))
    lab.attack(attack, classifier, lab.batch(images, labels, clean_margins=classifier.margins(images).detach()), spy)
    planes = torch.cat(spy.planes)
    assert len(planes) > len(attack.levels)
    assert planes.min() >= 0
    assert planes.max() <= 1
    assert (planes - stored(images, 8)).abs().max() <= 3 / 255 + 1e-6
    torch.testing.assert_close(planes * 255, (planes * 255).round(), rtol=0, atol=1e-4)
